"""ONIOM with two layers: part of a molecule at a high level, all of it at a low level.

    E = E_low(all) + E_high(part) - E_low(part)

M. Svensson, S. Humbel, R. D. J. Froese, T. Matsubara, S. Sieber, K. Morokuma, J. Phys. Chem. 100, 19357 (1996). The two
layers interact only at the low level (mechanical embedding).
"""

from __future__ import annotations

from typing import Any

from fusion.errors import InputError
from fusion.methods.sums import terms
from fusion.methods.sums.method import SumMethod, plain
from fusion.methods.sums.terms import naming


class Oniom(SumMethod):
    """`SumMethod` of two methods: `high` for `atoms` (counted from 1) with hydrogen at the cut bonds, `low` for all.

    `charge` and `spin` (N_up - N_down) are those of the part, needed if the molecule is charged or has a spin; `cuts`:
    pairs of atoms whose bonds are cut, instead of the bonds judged by distances. Raises InputError.
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
                raise InputError(
                    f"two layers need method.high, method.low and method.atoms; give method.{key}={example}"
                )
        part = {"atoms": plain(atoms), "charge": charge, "spin": spin, "cuts": plain(cuts)}
        upper, lower = plain(high), plain(low)
        super().__init__(
            name,
            [_entry("low", lower), _entry("high", upper, **part), _entry("low", lower, factor=-1, **part)],
            **common,
        )

    @property
    def label(self) -> str:
        """The title if there is one, else both layers: `ONIOM(ccsd_t : ani-2x@1), high level: atoms 1-4`."""
        low, high, _ = self.terms
        assert high.atoms is not None
        return (
            self.about.title
            or f"ONIOM({high.method_label} : {low.method_label}), high level: atoms {terms.ranges(high.atoms)}"
        )


def _entry(layer: str, entry: Any, **settings: Any) -> dict[str, Any]:
    """Entry of `method.terms` for the method of a layer."""
    from fusion.methods import by_name

    with naming(f"method.{layer}"):
        name, options = by_name.parts(entry)
        misplaced = [key for key in terms.OWN_KEYS if key in options]
        if misplaced:
            raise InputError(f"{misplaced[0]} is a setting of the sum, method.{misplaced[0]}, not of one of its layers")
    return {"method": name, **options, **{key: value for key, value in settings.items() if value is not None}}
