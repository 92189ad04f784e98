"""Learned density functionals E_xc[density]: protocol, density features, and Kohn-Sham calculations through PySCF."""

from fusion.functionals.features import DensityFeatures
from fusion.functionals.method import FunctionalMethod
from fusion.functionals.protocol import Functional, is_pointwise
from fusion.functionals.scf.kohn_sham import kohn_sham

__all__ = ["DensityFeatures", "Functional", "FunctionalMethod", "is_pointwise", "kohn_sham"]
