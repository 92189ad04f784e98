"""Two layers of one molecule: part of it at a high level, all of it at a low one.

    E = E_low(all) + E_high(part) - E_low(part)

M. Svensson, S. Humbel, R. D. J. Froese, T. Matsubara, S. Sieber, K. Morokuma, J. Phys. Chem. 100, 19357 (1996); the two
layers see each other through the low level only (mechanical embedding).
"""

from __future__ import annotations

from typing import Any

from fusion.composition import terms
from fusion.composition.method import SumMethod, plain
from fusion.composition.terms import naming
from fusion.errors import InputError


class Oniom(SumMethod):
    """`SumMethod` of two methods, `high` for `atoms` (counted from 1) with hydrogen at the ends of bonds that are cut,
    `low` for all.

    `charge` and `spin` (N_up - N_down) are those of the part, needed where the molecule has any; `cuts` names the bonds
    to cut, as pairs of atoms, instead of those found by distance. Raises InputError.
    """

    def __init__(
        self,
        name: str,
        high: Any,
        low: Any,
        atoms: Any,
        charge: int | None = None,
        spin: int | None = None,
        cuts: Any = None,
        **common: Any,
    ) -> None:
        for key, value, example in (("high", high, "ccsd_t"), ("low", low, "ani-2x"), ("atoms", atoms, "[1,2,5-8]")):
            if value is None:
                raise InputError(f"two layers need method.high, method.low and method.atoms: method.{key}={example}")
        part = {"atoms": plain(atoms), "charge": charge, "spin": spin, "cuts": plain(cuts)}
        upper, lower = plain(high), plain(low)
        super().__init__(
            name,
            [_entry("low", lower), _entry("high", upper, **part), _entry("low", lower, factor=-1, **part)],
            **common,
        )

    @property
    def label(self) -> str:
        """`ONIOM(ccsd_t : ani-2x@1), high level: atoms 1-4`."""
        low, high, _ = self.terms
        assert high.atoms is not None
        given = self.title
        return given or f"ONIOM({high.method_label} : {low.method_label}), high level: atoms {terms.ranges(high.atoms)}"


def _entry(layer: str, entry: Any, **own: Any) -> dict[str, Any]:
    """An entry of `method.terms` of the method that a layer names."""
    from fusion import named

    with naming(f"method.{layer}"):
        name, options = named.parts(entry)
        taken = [key for key in terms.OWN_KEYS if key in options]
        if taken:
            raise InputError(f"{taken[0]} is a setting of the sum, method.{taken[0]}, not of one of its layers")
    return {"method": name, **options, **{key: value for key, value in own.items() if value is not None}}
