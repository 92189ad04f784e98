"""Functionals written in torch give PySCF's energies and forces; an unconverged SCF is reported as such."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pyscf import dft, gto, scf
from torch import Tensor, nn

from functional_models import (
    HYDROGEN,
    OXYGEN_HYDRIDE,
    WATER,
    ExactExchange,
    Kinetic,
    PBEExchange,
    SlaterExchange,
    WholeGrid,
)
from fusion.chemistry.system import System
from fusion.errors import CalculationError, InputError
from fusion.functionals import DensityFeatures, FunctionalMethod, kohn_sham
from fusion.functionals.scf.kohn_sham import molecule
from fusion.scf.initial_guess import LastDensity


def method(model: nn.Module, **settings: object) -> FunctionalMethod:
    return FunctionalMethod("test", model, basis="6-31g", grid_level=1, **settings)  # type: ignore[arg-type]


def pyscf_reference(system: System, xc: str) -> tuple[float, np.ndarray]:
    mol = molecule(system, "6-31g")
    mean_field = (dft.RKS if system.spin == 0 else dft.UKS)(mol, xc=xc)
    mean_field.grids.level, mean_field.conv_tol = 1, 1e-9
    return mean_field.kernel(), -mean_field.nuc_grad_method().kernel()


@pytest.mark.parametrize("system", [WATER, OXYGEN_HYDRIDE, HYDROGEN], ids=lambda system: system.name)
@pytest.mark.parametrize(("model", "xc"), [(SlaterExchange(), "lda,"), (PBEExchange(), "pbe,")], ids=["lda", "pbe"])
def test_same_formula_same_numbers_as_libxc(system: System, model: nn.Module, xc: str) -> None:
    (result,) = method(model).calculate([system], {"energy"})
    assert result.status == "ok"
    assert result.energy == pytest.approx(pyscf_reference(system, xc)[0], abs=1e-8)


@pytest.mark.parametrize("system", [WATER, OXYGEN_HYDRIDE], ids=lambda system: system.name)
@pytest.mark.parametrize("inner", [SlaterExchange(), PBEExchange(), Kinetic()], ids=["lda", "gga", "mgga"])
def test_whole_grid_and_pointwise_paths_agree(system: System, inner: nn.Module) -> None:
    (pointwise,) = method(inner).calculate([system], {"energy"})
    (whole,) = method(WholeGrid(inner)).calculate([system], {"energy"})
    assert whole.energy == pytest.approx(pointwise.energy, abs=1e-8)


@pytest.mark.parametrize(
    "system",
    [pytest.param(WATER, id=WATER.name, marks=pytest.mark.slow), pytest.param(OXYGEN_HYDRIDE, id=OXYGEN_HYDRIDE.name)],
)
def test_local_exchange_integrates_to_hartree_fock(system: System) -> None:
    mol = molecule(system, "6-31g")
    exact = (scf.RHF if system.spin == 0 else scf.UHF)(mol).kernel()
    (result,) = FunctionalMethod("x", ExactExchange(), basis="6-31g", grid_level=3).calculate([system], {"energy"})
    assert result.energy == pytest.approx(exact, abs=1e-7)


def test_kinetic_density_scales_the_energy_by_the_orbitals_kinetic_energy() -> None:
    """For one electron in one basis function, the derivative by the factor of tau is the kinetic energy T."""
    mol = molecule(HYDROGEN, "sto-3g")
    settings = {"basis": "sto-3g", "grid_level": 4}
    energies = [
        FunctionalMethod("t", model, **settings).calculate([HYDROGEN], {"energy"})[0].energy  # type: ignore[arg-type]
        for model in (Kinetic(), SlaterExchange())
    ]
    assert energies[0] is not None and energies[1] is not None
    assert energies[0] - energies[1] == pytest.approx(0.02 * mol.intor("int1e_kin")[0, 0], abs=1e-6)


def test_refusals() -> None:
    class Misspelt(SlaterExchange):
        needs = frozenset({"rho", "hfx0.4"})

    class Singular(SlaterExchange):
        def energy_density(self, features: DensityFeatures) -> Tensor:
            return features.rho[1].sqrt()

    iodide = System("hi", ("H", "I"), np.array([[0.0, 0.0, 0.0], [0.0, 0.0, 3.0]]))
    crystal = System("crystal", ("He",), np.zeros((1, 3)), cell=5.0 * np.eye(3), pbc=(True, True, True))
    for system, settings, message in (
        (WATER, {"basis": "nonsense"}, "PySCF has no basis 'nonsense' for H2O"),
        (iodide, {"basis": "6-31g"}, "6-31g has no functions for I"),
        (iodide, {"basis": "def2-svp"}, "leaves core electrons of I to an effective core potential"),
        (WATER, {"basis": "ccecp-cc-pvdz"}, "choose a basis for all electrons"),
        (crystal, {}, "crystal is periodic"),
        (WATER, {"symmetrize": True}, "has no option symmetrize"),
    ):
        with pytest.raises(InputError, match=message):
            FunctionalMethod("t", SlaterExchange(), **settings).check([system])  # type: ignore[arg-type]
    for settings, message in (
        ({"grid_level": 12}, r"grid_level must be 0 \.\.\. 9, not 12"),
        ({"conv_tol": 0.0}, "conv_tol must be positive"),
        ({"damp": 2.0}, "damp must be from 0 to 1"),
        ({"max_cycle": 0}, "max_cycle must be a whole number of at least 1"),
        ({"start": "scf.chk"}, "neither a functional of PySCF nor a file"),
        ({"dispersion": "d4"}, "use d3bj"),
        ({"weights": "ani-2x"}, r"ani-2x@1 is a model of \+method=ani"),
    ):
        with pytest.raises(InputError, match=message):
            FunctionalMethod("t", SlaterExchange(), **settings)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"test needs hfx0\.4; the density features are"):
        method(Misspelt()).calculate([WATER], {"energy"})
    with pytest.raises(CalculationError, match="not a finite number"):
        method(Singular()).calculate([HYDROGEN], {"energy"})


# --- as users of PySCF know it ---------------------------------------------------------------------------------------


def of_molecule(shift: float = 0.0, **options: Any) -> Any:
    mol = gto.M(atom=f"O 0 0 0; H 0 {0.76 + shift} 0.59; H 0 -0.76 0.59", basis="6-31g", verbose=0)
    return kohn_sham(mol, PBEExchange(), grid_level=1, **options)


def test_restart_from_a_checkpoint(tmp_path: Path) -> None:
    first = of_molecule()
    first.chkfile = str(tmp_path / "scf.chk")
    energy = first.kernel()
    again = of_molecule().set(chkfile=first.chkfile, init_guess="chkfile")
    assert again.kernel() == pytest.approx(energy, abs=1e-9)
    assert again.cycles < first.cycles
    assert of_molecule().kernel(again.from_chk(first.chkfile)) == pytest.approx(energy, abs=1e-9)


def test_guesses_that_need_a_checkpoint_file_are_refused_without_one() -> None:
    with pytest.raises(InputError, match=r"method\.start='chkfile' is neither"):
        method(SlaterExchange(), start="chkfile")


def test_scanner() -> None:
    scanner = of_molecule().as_scanner()
    scanner(of_molecule(0.1).mol)
    fresh = of_molecule()
    assert scanner(fresh.mol) == pytest.approx(fresh.kernel(), abs=1e-8)
    np.testing.assert_allclose(scanner.dip_moment(verbose=0), fresh.dip_moment(verbose=0), atol=1e-4)


def test_density_fitting_applies_to_the_coulomb_matrix() -> None:
    fitted = of_molecule(density_fit=True)
    reference = dft.RKS(fitted.mol, xc="pbe,").density_fit()
    reference.grids.level = 1
    assert fitted.kernel() == pytest.approx(reference.kernel(), abs=1e-8)
    assert fitted.kernel() != pytest.approx(of_molecule().kernel(), abs=1e-7)
    assert fitted.newton().kernel() == pytest.approx(fitted.e_tot, abs=1e-8)


def test_starting_density_is_from_a_conventional_functional() -> None:
    one_shot = of_molecule(start="pbe,").set(max_cycle=0)
    reference = dft.RKS(one_shot.mol, xc="pbe,").run(conv_tol=1e-10)
    assert one_shot.kernel() == pytest.approx(one_shot.energy_tot(reference.make_rdm1()), abs=1e-5)
    assert not one_shot.converged
    energies = [of_molecule(start=start).kernel() for start in ("b3lyp", "hf", None)]
    np.testing.assert_allclose(energies, energies[0], atol=1e-8)


@pytest.mark.parametrize("name", ["TDA", "TDDFT", "TDHF", "ddCOSMO", "Hessian", "to_gks"])
def test_unsupported_features_raise_clear_errors(name: str) -> None:
    for mean_field in (of_molecule(), of_molecule(density_fit=True)):
        with pytest.raises(NotImplementedError, match="not supported with a learned functional"):
            getattr(mean_field, name)()


def test_a_module_passed_in_is_not_changed() -> None:
    class Trainable(SlaterExchange):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(()))
            self.symmetrize = False

        def energy_density(self, features: DensityFeatures) -> Tensor:
            return self.scale * super().energy_density(features)

    model = Trainable()
    mean_field = kohn_sham(molecule(HYDROGEN, "sto-3g"), model, grid_level=0, symmetrize=True)
    mean_field.kernel()
    assert mean_field.converged
    assert model.scale.dtype == torch.float32 and model.scale.requires_grad and model.training
    assert not model.symmetrize


def test_last_density_speeds_up_a_similar_geometry_without_changing_it() -> None:
    moved = WATER.moved(WATER.positions + 0.1 * np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 0.0, 0.0]]))
    fresh = method(PBEExchange()).calculate([moved], {"energy", "dipole"})[0]
    later = method(PBEExchange()).calculate([WATER, moved], {"energy", "dipole"})[1]
    assert later.energy == pytest.approx(fresh.energy, abs=1e-8)
    np.testing.assert_allclose(later.properties["dipole"], fresh.properties["dipole"], atol=1e-4)
    assert later.details["kohn_sham"]["start"] == "the last density"
    assert fresh.details["kohn_sham"]["start"] == "b3lyp"


def test_the_last_density_is_not_used_for_another_molecule() -> None:
    def water(distance: float, last: str = "H", basis: str = "sto-3g") -> gto.Mole:
        return gto.M(atom=f"O 0 0 0; H 0 {distance} 0; {last} 0 0 {distance}", basis=basis, spin=None, verbose=0)

    mean_field = scf.RHF(water(1.0)).run()
    last = LastDensity.of(mean_field, ("sto-3g", 0, 0))
    assert last.suits(water(1.05), ("sto-3g", 0, 0))
    density = last.on(water(1.05))
    assert np.trace(density @ water(1.05).intor("int1e_ovlp")) == pytest.approx(10.0)
    assert not last.suits(water(2.0), ("sto-3g", 0, 0))  # too far
    assert not last.suits(water(1.05, last="He"), ("sto-3g", 0, 0))
    assert not last.suits(water(1.05, basis="6-31g"), ("sto-3g", 0, 0))
    assert not last.suits(water(1.05), ("sto-3g", 1, 1))


def test_spin_and_frontier_orbitals_are_reported() -> None:
    (result,) = method(PBEExchange()).calculate([OXYGEN_HYDRIDE], {"energy"})
    details = result.details["kohn_sham"]
    assert 0.75 < details["spin_squared"] < 0.77
    assert details["spin_squared_of_pure_state"] == 0.75
    assert details["homo_hartree"] < details["lumo_hartree"]
    assert details["reference"] == "UKS" and details["grid_points"] > 1000
