"""Wavefunctions learned without data: variational Monte Carlo for any trial wavefunction (`Ansatz`)."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fusion.wavefunctions.ansatz import Ansatz
    from fusion.wavefunctions.method import AnsatzMethod

__all__ = ["Ansatz", "AnsatzMethod"]


def __getattr__(name: str) -> Any:
    """Import on first use, so that an ansatz plugin that needs one layer rule does not load Lightning and PySCF."""
    if name == "AnsatzMethod":
        from fusion.wavefunctions.method import AnsatzMethod

        return AnsatzMethod
    if name == "Ansatz":
        from fusion.wavefunctions.ansatz import Ansatz

        return Ansatz
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
