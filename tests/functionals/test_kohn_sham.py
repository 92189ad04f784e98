"""Functionals written in torch give PySCF's own energies and forces; what does not converge is never a plain number."""

import numpy as np
import pytest
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
from pyscf import dft, scf
from torch import Tensor, nn

from fusion.errors import CalculationError, InputError
from fusion.functionals import DensityFeatures, FunctionalMethod
from fusion.functionals.kohn_sham import molecule
from fusion.system import System


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
def test_whole_grid_path_agrees_with_the_pointwise_one(system: System, inner: nn.Module) -> None:
    (pointwise,) = method(inner).calculate([system], {"energy"})
    (whole,) = method(WholeGrid(inner)).calculate([system], {"energy"})
    assert whole.energy == pytest.approx(pointwise.energy, abs=1e-8)


@pytest.mark.parametrize("system", [WATER, OXYGEN_HYDRIDE], ids=lambda system: system.name)
def test_local_exchange_integrates_to_hartree_fock(system: System) -> None:
    mol = molecule(system, "6-31g")
    exact = (scf.RHF if system.spin == 0 else scf.UHF)(mol).kernel()
    (result,) = FunctionalMethod("x", ExactExchange(), basis="6-31g", grid_level=3).calculate([system], {"energy"})
    assert result.energy == pytest.approx(exact, abs=1e-7)


def test_kinetic_density_scales_the_energy_by_the_orbitals_kinetic_energy() -> None:
    """For one electron in one basis function the derivative with respect to the factor of tau is T itself."""
    mol = molecule(HYDROGEN, "sto-3g")
    settings = {"basis": "sto-3g", "grid_level": 4}
    energies = [
        FunctionalMethod("t", model, **settings).calculate([HYDROGEN], {"energy"})[0].energy  # type: ignore[arg-type]
        for model in (Kinetic(), SlaterExchange())
    ]
    assert energies[0] is not None and energies[1] is not None
    assert energies[0] - energies[1] == pytest.approx(0.02 * mol.intor("int1e_kin")[0, 0], abs=1e-6)


def test_not_converged_is_said() -> None:
    (result,) = method(SlaterExchange(), max_cycle=1).calculate([WATER], {"energy", "forces"})
    assert result.status == "not_converged"
    assert "not converged" in str(result.message)
    assert "forces" not in result.properties


def test_refusals() -> None:
    class Misspelt(SlaterExchange):
        needs = frozenset({"rho", "hfx0.4"})

    class Singular(SlaterExchange):
        def energy_density(self, features: DensityFeatures) -> Tensor:
            return features.rho[1].sqrt()

    with pytest.raises(InputError, match="PySCF has no basis 'nonsense'"):
        FunctionalMethod("t", SlaterExchange(), basis="nonsense").calculate([WATER], {"energy"})
    with pytest.raises(ValueError, match=r"test needs hfx0\.4; the density features are"):
        method(Misspelt()).calculate([WATER], {"energy"})
    with pytest.raises(CalculationError, match="not a finite number"):
        method(Singular()).calculate([HYDROGEN], {"energy"})
