"""Modules that a run of the program imports, loaded once in the server from which the tests fork their processes.

Only imports: nothing is calculated here and no thread started, because threads do not survive the fork.
"""
# ruff: noqa: F401

import ase.build
import ase.io
import ase.io.extxyz
import ase.optimize
import hydra.core.hydra_config
import hydra.core.override_parser.overrides_parser
import hydra.utils
import matplotlib.backends.backend_agg
import matplotlib.figure
import numba
import psutil
import pyscf.__all__
import pyscf.solvent
import pytorch_lightning
import torch

import fusion.app.execution
import fusion.cli.launch
import fusion.cli.main
import fusion.evaluation.task
import fusion.functionals.method
import fusion.functionals.training
import fusion.functionals.training.plot
import fusion.methods.by_name
import fusion.methods.recorded
import fusion.plotting
import fusion.potentials
import fusion.potentials.training
import fusion.potentials.training.plot
import fusion.runs.checkpoints
import fusion.runs.report
import fusion.tasks.compare.task
import fusion.tasks.ionize.task
import fusion.tasks.md.task
import fusion.tasks.relax.task
import fusion.tasks.scan.task
import fusion.tasks.thermochemistry.task
import fusion.tasks.train.task
import fusion.tasks.ts.task
import fusion.tasks.vibrations.task
import fusion.wavefunctions.energy_plot
import fusion.wavefunctions.method
import fusion.wavefunctions.optimisation
import fusion.wavefunctions.optimisers.kfac
import fusion.wavefunctions.optimisers.spring
import fusion.wavefunctions.training
import fusion.wavefunctions.vmc
import fusion.zoo
