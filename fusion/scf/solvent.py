"""Solvents as a polarisable continuum around the molecule, for every SCF with PySCF's objects.

PCM: the charges on the cavity's surface that the molecule induces (Tomasi, Mennucci and Cammi, Chem. Rev. 105, 2999
(2005)), on a smooth surface (Lange and Herbert, J. Chem. Phys. 133, 244111 (2010)). SMD: IEF-PCM in cavities of its
own, and the terms of cavitation, dispersion and solvent structure (Marenich, Cramer and Truhlar, J. Phys. Chem. B 113,
6378 (2009)). The energy in the solvent is a free energy: it contains half of the interaction with the charges.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import numpy as np
from pyscf import lib
from pyscf.solvent import _attach_solvent, pcm, smd

from fusion.config.options import suggestion
from fusion.errors import InputError

SMD: Final = "SMD"
_MODELS: Final = {
    "pcm": "IEF-PCM",
    "iefpcm": "IEF-PCM",
    "cpcm": "C-PCM",
    "cosmo": "COSMO",
    "ssvpe": "SS(V)PE",
    "smd": SMD,
}
"""Names of models without punctuation -> PySCF's names."""
_SHORT: Final = {
    "h2o": "water",
    "dmso": "dimethylsulfoxide",
    "dmf": "N,N-dimethylformamide",
    "dimethylformamide": "N,N-dimethylformamide",
    "dma": "N,N-dimethylacetamide",
    "thf": "tetrahydrofuran",
    "dcm": "dichloromethane",
    "ch2cl2": "dichloromethane",
    "methylenechloride": "dichloromethane",
    "dce": "1,2-dichloroethane",
    "chcl3": "chloroform",
    "ccl4": "carbon tetrachloride",
    "cs2": "carbon disulfide",
    "mecn": "acetonitrile",
    "acn": "acetonitrile",
    "meoh": "methanol",
    "etoh": "ethanol",
    "isopropanol": "2-propanol",
    "butanol": "1-butanol",
    "octanol": "1-octanol",
    "ether": "diethylether",
    "dioxane": "1,4-dioxane",
    "ethylacetate": "ethylethanoate",
    "hexane": "n-hexane",
    "heptane": "n-heptane",
    "octane": "n-octane",
    "isooctane": "2,2,4-trimethylpentane",
    "xylene": "xylene (mixture)",
    "butylacetate": "butylethanoate",
    "ethyleneglycol": "1,2-ethanediol",
    "sulfolane": "tetrahydrothiophene-S,S-dioxide",
}
_FIELDS: Final = ("name", "model", "epsilon")
_EPSILON: Final = 5
"""Position of the dielectric constant among PySCF's descriptors of a solvent."""


@dataclass(frozen=True)
class Solvent:
    """Solvent by PySCF's `name` (None: only its dielectric constant is known), with the name of the `model`."""

    name: str | None
    model: str
    epsilon: float

    def __str__(self) -> str:
        return f"{self.name or 'a solvent'}, {self.model}"


def read(setting: Any) -> Solvent | None:
    """Return the solvent of a setting: a name, or a mapping with `name`, `model` and `epsilon`; None for the gas phase.

    Raises InputError for an unknown solvent, model or key, for a dielectric constant below 1, and for a model without
    a solvent.
    """
    if setting is None or isinstance(setting, Solvent):
        return setting
    fields = {"name": setting} if isinstance(setting, str) else setting
    if not isinstance(fields, Mapping):
        raise InputError(f"solvent={setting!r}: write a name, water, or {{name: water, model: smd}}")
    unknown = [str(key) for key in fields if key not in _FIELDS]
    if unknown:
        raise InputError(
            f"solvent has no setting {unknown[0]!r}.{suggestion(unknown[0], _FIELDS)}  Settings: {_FIELDS}"
        )
    name, model, epsilon = (fields.get(key) for key in _FIELDS)
    title = None if model is None else _model(model)
    if name is None and epsilon is None:
        if title is not None:
            raise InputError(f"solvent.model={model} needs a solvent: solvent.name=water, or solvent.epsilon=78.4")
        return None
    key = None if name is None else _named(name)
    if title == SMD and (key is None or epsilon is not None):
        raise InputError(
            "solvent.model=smd takes all properties of the solvent from solvent.name; "
            + ("give a name: solvent=water" if key is None else "remove solvent.epsilon, or choose solvent.model=pcm")
        )
    own = smd.solvent_db[key][_EPSILON] if key is not None else None
    return Solvent(key, title or _MODELS["pcm"], _epsilon(own if epsilon is None else epsilon))


def attached(mean_field: Any, solvent: Solvent | pcm.PCM) -> Any:
    """Return a copy of PySCF's mean-field object, not yet converged, in the solvent (or in PySCF's object of one)."""
    if isinstance(mean_field, InSolvent):
        mean_field = mean_field.undo_solvent()
    continuum = _continuum(mean_field.mol, solvent) if isinstance(solvent, Solvent) else solvent
    continuum.equilibrium_solvation = True  # slow changes, such as rotations to a lower determinant, take it along
    name = f"{type(continuum).__name__}{type(mean_field).__name__}"
    return lib.set_class(InSolvent(mean_field, continuum), (InSolvent, type(mean_field)), name)


def describe(mean_field: Any, solvent: Solvent) -> dict[str, Any]:
    """JSON-able details of the solvent of a finished SCF, units in the key names."""
    continuum = mean_field.with_solvent
    polarisation, _ = continuum.kernel(np.asarray(mean_field.make_rdm1()))
    surface = continuum.surface
    details = {
        "name": solvent.name,
        "model": solvent.model,
        "epsilon": solvent.epsilon,
        "polarisation_hartree": float(polarisation),
        "nonelectrostatic_hartree": float(continuum.get_cds()) if solvent.model == SMD else None,
        "surface_points": len(surface["grid_coords"]),
        "area_bohr2": float(surface["area"].sum()),
    }
    return {key: value for key, value in details.items() if value is not None}


def check_optical(solvent: Solvent) -> None:
    """Raise InputError for a solvent whose refractive index is unknown."""
    if solvent.name is None:
        raise InputError(
            "excited states in a solvent need its refractive index, which solvent.epsilon does not tell; give "
            "solvent.name, such as water"
        )


def fast_response(response: Any, solvent: Solvent) -> None:
    """Let the electrons of the solvent follow PySCF's excitations: its dielectric constant is n^2 for them.

    M. Cossi, V. Barone, J. Chem. Phys. 115, 4708 (2001). The charges of the ground state stay.
    """
    assert solvent.name is not None
    continuum = response.with_solvent
    continuum.eps = smd.solvent_db[solvent.name][0] ** 2
    continuum.build()


class InSolvent(_attach_solvent.SCFWithSolvent):
    """PySCF's mean field in a solvent, whose responses are right for every kind of determinant."""

    def undo_solvent(self) -> Any:
        """Return the object without the solvent."""
        plain = lib.view(self, lib.drop_class(type(self), InSolvent, type(self.with_solvent).__name__))
        del plain.with_solvent
        return plain

    def gen_response(self, *args: Any, **kwargs: Any) -> Callable[[np.ndarray], np.ndarray]:
        """Return the change of the Fock matrices with the density matrices.

        Only a change of the total density polarises the solvent. PySCF's own takes the difference of the spins for one
        (`singlet` False), and the matrices of both spins of a restricted open shell for two separate changes.
        """
        induced = self.undo_solvent().gen_response(*args, **kwargs)
        if kwargs.get("singlet") is False or kwargs.get("hermi") == 2:
            return induced
        by_spin = self.istype("UHF") or self.istype("ROHF")

        def with_solvent(change: np.ndarray) -> np.ndarray:
            total = np.asarray(change[0] + change[1] if by_spin else change)
            return np.asarray(induced(change) + self.with_solvent._B_dot_x(total))

        return with_solvent

    def CasidaTDDFT(self) -> Any:
        """PySCF's object without the solvent's, which has none; that of a learned functional refuses."""
        return super(_attach_solvent.SCFWithSolvent, self).CasidaTDDFT()

    def to_gpu(self) -> Any:
        return _attach_solvent._for_scf(self.undo_solvent().to_gpu(), self.with_solvent.to_gpu())


def _continuum(mol: Any, solvent: Solvent) -> pcm.PCM:
    if solvent.model == SMD:
        return smd.SMD(mol, solvent=solvent.name)
    continuum = pcm.PCM(mol)
    continuum.method, continuum.eps = solvent.model, solvent.epsilon
    return continuum


def _model(name: Any) -> str:
    title = _MODELS.get(_plain(name))
    if title is None:
        raise InputError(
            f"solvent.model={name} is unknown; use pcm (IEF-PCM), cpcm (C-PCM), cosmo, ssvpe (SS(V)PE) or smd"
        )
    return title


def _named(name: Any) -> str:
    """PySCF's name of a solvent. Raises InputError for an unknown one."""
    names = _names()
    key = names.get(_plain(name))
    if key is None:
        guess = suggestion(str(name).lower(), [*filter(None, smd.solvent_db), *_SHORT])
        if _plain(name) in _MODELS:
            guess = f"  {name} is a model: solvent.model={name} solvent=water"
        raise InputError(
            f"no solvent '{name}'.{guess}  There are {len(set(names.values()))}, among them water, methanol, ethanol, "
            "acetonitrile, dmso, acetone, thf, dichloromethane, chloroform, toluene, n-hexane; solvent.epsilon=NUMBER "
            "is for any other"
        )
    return key


@cache
def _names() -> dict[str, str]:
    """Names without punctuation -> PySCF's names of the solvents."""
    return {_plain(key): key for key in smd.solvent_db if key} | _SHORT


def _plain(name: Any) -> str:
    return re.sub(r"[^a-z0-9]", "", str(name).lower())


def _epsilon(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 1.0 <= value < 1e6:
        raise InputError(f"solvent.epsilon must be a dielectric constant of at least 1, as 78.4 of water, not {value}")
    return float(value)
