"""Exported ANI models equal fusion's: the scriptable twin always, torchani and metatomic where they are installed."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from ase import Atoms
from ase.build import molecule
from ase.neighborlist import neighbor_list
from omegaconf import OmegaConf
from torch import Tensor

import fusion
from fusion import app
from fusion.chemistry.structures import from_atoms
from fusion.chemistry.units import EV_PER_HARTREE
from fusion.config import compose as trees
from fusion.errors import CalculationError
from fusion.potentials import PotentialMethod
from fusion.zoo import Card
from fusion.zoo.card import Model, Training, Weights
from fusion_ani.export import Evaluation, compared, structures
from fusion_ani.network import ANI, ANI1
from fusion_ani.scriptable import ScriptableANI
from processes import Program

PAGE = Path(__file__).parents[2] / "docs" / "elsewhere.md"
FACTOR = 1.5


def needs(name: str, package: str) -> Any:
    missing = importlib.util.find_spec(name) is None
    return pytest.mark.skipif(missing, reason=f"{package} is not installed: pip install {package}")


def ani(members: int = 3, kind: type[ANI] = ANI) -> ANI:
    """Random networks of different sizes, with shifts of ANI-1x, for which the kernels are compiled."""
    torch.manual_seed(5)
    more = {} if kind is ANI1 else {"celu_alpha": 0.2}
    model = kind(
        elements=["H", "O", "C"],
        members=members,
        hidden={"H": [6, 5], "O": [4], "C": [7, 6, 5]},
        **{"radial_cutoff": 5.2, "radial_eta": 16.0, "radial_shifts": list(np.linspace(0.9, 4.9, 16))},
        **{"angular_cutoff": 3.5, "angular_eta": 8.0, "angular_shifts": [0.9, 1.55, 2.2, 2.85]},
        **{"zeta": 32.0, "angle_shifts": list((np.arange(8) + 0.5) * np.pi / 8)},
        **more,
    ).double()
    model.self_energies.values.copy_(torch.tensor([-0.5, -75.0, -38.0]))
    return model.eval().requires_grad_(False)


def card(model: ANI) -> Card:
    return Card(
        **{"name": "small", "version": 1, "kind": "potential", "method": "ani", "summary": "random", "licence": "MIT"},
        **{"citation": "nobody", "energy_zero": "total", "training": Training("nothing", "none"), "files": ()},
        elements=model.elements,
        model=Model("fusion_ani.network.ANI", model.arguments),
        weights=Weights("0" * 64, 1),
        spread_factor=FACTOR,
    )


def twin(model: ANI) -> Evaluation:
    """Energy and forces by the scripted twin, with neighbours from ASE."""
    scripted = torch.jit.script(ScriptableANI(model, torch.float64))

    def evaluated(numbers: Tensor, positions: Tensor, cell: Tensor | None) -> tuple[Tensor, Tensor]:
        positions = positions.clone().requires_grad_(True)
        box = torch.zeros(3, 3) if cell is None else cell
        atoms = Atoms(numbers.numpy(), positions.detach().numpy(), cell=box.numpy(), pbc=cell is not None)
        first, second, shifts = map(torch.tensor, neighbor_list("ijS", atoms, model.environment.radial_cutoff + 0.5))
        vectors = positions[second] - positions[first] + shifts.double() @ box.double()
        energy = scripted(numbers, first, second, vectors).sum(dim=1).mean()
        return energy.detach(), -torch.autograd.grad(energy, positions)[0]

    return evaluated


@pytest.mark.parametrize("members", [1, 3])
def test_the_scriptable_model_equals_the_kernels(members: int) -> None:
    model = ani(members)
    sentence = compared(model, twin(model), "scripted")
    energy, forces = map(float, re.findall(r"\d\.\de[+-]\d+", sentence))
    assert energy < 1e-11 and forces < 1e-12
    systems = list(structures(model))
    assert all(set(system.symbols) == set(model.elements) for system in systems) and any(systems[-1].pbc)


def test_a_single_atom_and_an_element_that_the_model_does_not_have() -> None:
    model = ani()
    scripted = torch.jit.script(ScriptableANI(model, torch.float64))
    none, vectors = torch.zeros(0, dtype=torch.long), torch.zeros(0, 3, dtype=torch.float64)
    atom = from_atoms(Atoms("O"))
    (result,) = PotentialMethod("ani", model, dtype="float64").calculate([atom], {"energy", "energy_members"})
    for _ in range(3):  # TorchScript compiles the later calls
        assert scripted(torch.tensor([8]), none, none, vectors)[:, 0].numpy() == pytest.approx(
            result.properties["energy_members"], abs=1e-12
        )
    with pytest.raises(torch.jit.Error, match="does not have all elements"):
        scripted(torch.tensor([7]), none, none, vectors)


def test_a_model_with_other_numbers_is_refused() -> None:
    model, other = ani(), ani()
    other.networks["C"].weights[0][1, 2, 30] += 1e-3  # type: ignore[index, union-attr]
    with pytest.raises(CalculationError, match="does not equal fusion's; 4 structures"):
        compared(model, twin(other), "changed")


def test_models_with_offsets_have_no_format() -> None:
    assert ANI1(**{**ani(1, ANI1).arguments}).export_formats == ()
    assert ani().export_formats == ("torchani", "metatomic")


@needs("torchani", "torchani")
def test_torchani_reads_the_file_by_the_lines_of_the_documentation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    model = ani()
    sentence = model.export("torchani", tmp_path / "model.pt", card(model))
    assert re.match(r"4 structures: energies differ by at most \d\.\de-1\d Ha", sentence)
    (block,) = re.findall(r"^```python\n(# torchani.*?)^```", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(block, names)
    atoms = molecule("CH3CH2OH")
    found = names["model"]((torch.tensor(atoms.numbers)[None], torch.tensor(atoms.positions)[None])).energies
    system = from_atoms(atoms)
    (result,) = PotentialMethod("ani", ani(), dtype="float64").calculate([system], {"energy"})
    assert float(found.detach()) == pytest.approx(result.energy, abs=1e-10)


@needs("metatomic", "metatomic-torch")
@pytest.mark.parametrize("members", [1, 3])
def test_metatomic_gives_energies_of_atoms_members_and_a_calibrated_uncertainty(tmp_path: Path, members: int) -> None:
    from metatensor.torch import Labels
    from metatomic.torch import ModelEvaluationOptions, ModelOutput, System, load_atomistic_model

    from fusion_ani.metatomic_check import neighbour_block

    model = ani(members)
    sentence = model.export("metatomic", tmp_path / "model.pt", card(model))
    assert re.match(r"4 structures: energies differ by at most \d\.\de-1\d Ha", sentence)
    exported = load_atomistic_model(str(tmp_path / "model.pt"))
    names = {"energy"} if members == 1 else {"energy", "energy_ensemble", "energy_uncertainty"}
    assert set(exported.capabilities().outputs) == names and exported.metadata().name == "small@1"
    atoms = molecule("CH3CH2OH")
    numbers, positions = torch.tensor(atoms.numbers), torch.tensor(atoms.positions)
    zero = torch.zeros(3, 3, dtype=torch.float64)
    system = System(numbers.to(torch.int32), positions, zero, torch.zeros(3, dtype=torch.bool))
    (options,) = exported.requested_neighbor_lists()
    system.add_neighbor_list(options, neighbour_block(numbers, positions, zero, False, options.cutoff))

    def values(name: str, kind: str, selected: Labels | None = None) -> np.ndarray:
        wanted = ModelEvaluationOptions("Angstrom", {name: ModelOutput(unit="eV", sample_kind=kind)}, selected)
        return exported([system, system], wanted, check_consistency=True)[name].block().values.numpy()

    method = PotentialMethod("ani", model, dtype="float64")
    (result,) = method.calculate([from_atoms(atoms)], {"energy", "energy_members"})
    energies = values("energy", "system")
    assert energies[:, 0] == pytest.approx([result.energy * EV_PER_HARTREE] * 2, abs=1e-9)
    parts = values("energy", "atom")
    assert parts.shape == (18, 1) and parts[:9].sum() == pytest.approx(energies[0, 0], abs=1e-9)
    chosen = Labels(["system", "atom"], torch.tensor([[0, 0], [0, 2], [1, 8]], dtype=torch.int32))
    assert values("energy", "atom", chosen) == pytest.approx(parts[[0, 2, 17]], abs=1e-9)
    assert values("energy", "system", chosen)[0, 0] == pytest.approx(parts[0, 0] + parts[2, 0], abs=1e-9)
    if members > 1:
        ensemble = values("energy_ensemble", "system")[0] / EV_PER_HARTREE
        expected = result.energy + FACTOR * (result.properties["energy_members"] - result.energy)
        assert ensemble == pytest.approx(expected, abs=1e-10)
        uncertainty = values("energy_uncertainty", "system")[0, 0] / EV_PER_HARTREE
        assert uncertainty == pytest.approx(FACTOR * result.energy_std, rel=1e-9)


@needs("metatomic_ase", "metatomic-ase")
def test_a_published_model_in_ases_calculator_of_metatomic(program: Program, zoo_cache: Path, tmp_path: Path) -> None:
    from metatomic_ase import MetatomicCalculator

    done = program("zoo", "export", "ani-1x", "--to", "metatomic", "--output", "ani.pt")
    assert done.status == 0 and done.out.startswith("ani-1x@1   ani.pt   metatomic\ncompared with fusion   4 struct")
    atoms = molecule("CH3CH2OH", cell=[7.0, 7.0, 7.0], pbc=True)
    direct = fusion.calculator("ani-1x", dtype="float64")
    atoms.calc = MetatomicCalculator(tmp_path / "ani.pt", device="cpu")
    assert atoms.get_potential_energy() == pytest.approx(direct.get_potential_energy(atoms), abs=1e-8)
    assert atoms.get_forces() == pytest.approx(direct.get_forces(atoms), abs=1e-8)
    assert atoms.get_stress() == pytest.approx(direct.get_stress(atoms), abs=1e-9)


@needs("torchani", "torchani")
def test_a_finished_training_is_exported(program: Program, tmp_path: Path) -> None:
    model = ani()
    settings = {"_target_": "fusion_ani.network.ANI", **model.arguments}
    words = ["+method=ani", "weights=null", "task=train", "data=file", "data.path=data.extxyz"]
    config = app.resolved(trees.compose(words)[0], tmp_path)
    run = tmp_path / "training"
    (run / "checkpoints").mkdir(parents=True)
    OmegaConf.save(config, run / "config.yaml")
    document = {"schema": 1, "status": "ok", "kind": "potential", "method": "ani"}
    document["training"] = {"parts": {}, "model": settings, "elements": list(model.elements)}
    (run / "result.json").write_text(json.dumps(document))
    state = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": state}, run / "checkpoints" / "last.ckpt")
    done = program("zoo", "export", "training", "--to", "torchani", "--output", "model.pt")
    assert done.status == 0 and "training@1   model.pt   torchani" in done.out
    assert torch.load(tmp_path / "model.pt", weights_only=True)["label"] == "training@1"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["ani-1y", "--to", "torchani", "--output", "x.pt"], "Did you mean 'ani-1x'?"),
        (["ani-1x", "--to", "metatomi", "--output", "x.pt"], "written as torchani or metatomic. Did you mean"),
        (["coulomb-qm7", "--to", "metatomic", "--output", "x.pt"], "+method=coulomb have no format"),
        (["ani-1x", "--to", "torchani"], "'--output'"),
        (["empty", "--to", "torchani", "--output", "x.pt"], "empty is not the directory of a run"),
    ],
)
def test_wrong_input_is_one_line(
    program: Program, zoo_cache: Path, tmp_path: Path, words: list[str], message: str
) -> None:
    (tmp_path / "empty").mkdir()
    done = program("zoo", "export", *words)
    assert done.status == 2 and message in done.err and done.err.count("\n") == 1 and not done.out
    assert not (tmp_path / "x.pt").exists()


@pytest.mark.parametrize("form", ["torchani", "metatomic"])
def test_a_missing_package_is_named(
    program: Program, zoo_cache: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    monkeypatch.setattr("fusion_ani.export.importlib.util.find_spec", lambda name: None)
    done = program("zoo", "export", "ani-1x", "--to", form, "--output", "x.pt")
    assert done.status == 2 and f"--to {form} needs the package {form}" in done.err and done.err.count("\n") == 1
