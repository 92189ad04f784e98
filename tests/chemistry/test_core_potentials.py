"""Effective core potentials: parsing, effective charges, and refusals."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pyscf import gto

from fusion.chemistry import core_potentials, system_input
from fusion.chemistry.core_potentials import LOCAL, Term, parse
from fusion.chemistry.system import System
from fusion.errors import InputError

OWN = """
BASIS "ao basis" PRINT
Li S
 0.5 1.0
END
# a comment
ECP
li nelec 2
Li ul
1 15.0D0 1.0
3 15.0 15.0  # at the end of a line
Li S
2 1.33 6.75 0.1
END
"""


def lithium_hydride(ecp: Any, **settings: Any) -> System:
    config = {"symbols": ["Li", "H"], "positions": [[0, 0, 0], [0, 0, 3.0]], "unit": "bohr", "ecp": ecp, **settings}
    return system_input.read(config, settings.pop("start_dir", Path()))


@pytest.mark.parametrize("symbol", ["H", "He", "Li", "C", "N", "Na", "S", "Ar", "Fe", "Zn", "Ga", "Br"])
def test_ccecp_is_that_of_pyscf_and_removes_the_charge_at_the_nucleus(symbol: str) -> None:
    (core,) = core_potentials.read({symbol: "ccecp"}, [symbol], Path())
    assert core.as_pyscf() == gto.basis.load_ecp("ccecp", symbol)
    assert sum(term.coefficient for term in core.channels[LOCAL] if term.power == 1) == pytest.approx(core.charge)
    assert min(term.power for terms in core.channels.values() for term in terms) >= 1


def test_effective_charges_and_electrons() -> None:
    plain, system = lithium_hydride(None), lithium_hydride("ccecp")
    assert plain.cores == () and plain.n_electrons == 4 and plain.charges.tolist() == [3, 1]
    assert system.charges.tolist() == [1, 1] and system.numbers.tolist() == [3, 1]
    assert (system.n_electrons, system.n_up, system.n_down) == (2, 1, 1)
    assert system.nuclear_repulsion == pytest.approx(1 / 3)
    assert system.with_positions(2 * system.positions).nuclear_repulsion == pytest.approx(1 / 6)
    assert system.notes == ("core electrons replaced by ccecp for Li",)
    assert lithium_hydride({"Li": "ccecp", "H": "ccecp"}).charges.tolist() == [1, 1]


def test_energies_with_core_potentials_have_no_all_electron_reference() -> None:
    states = [{"charge": 0, "spin": 2, "energy": -8.07, "source": "exact"}]
    tabulated = {"states": states, "formula": "LiH", "nuclear_repulsion": 1.0}
    assert lithium_hydride(None, **tabulated).reference is not None
    system = lithium_hydride("ccecp", **tabulated)
    assert system.reference is None and system.spin == 2


def test_files_in_the_format_of_nwchem(tmp_path: Path) -> None:
    (tmp_path / "own.nw").write_text(OWN)
    (core,) = core_potentials.read("own.nw", ["Li", "H"], tmp_path)
    assert core.electrons == 2 and core.charge == 1
    assert core.channels == {LOCAL: (Term(1, 15.0, 1.0), Term(3, 15.0, 15.0)), 0: (Term(2, 1.33, 6.75),)}
    text = gto.basis.parse_nwchem_ecp.convert_ecp_to_nwchem("Fe", gto.basis.load_ecp("ccecp", "Fe"))
    assert parse(text, "x")["Fe"].electrons == 10
    full = core_potentials.absolute({"Li": "own.nw", "H": "ccecp"}, tmp_path)
    assert full == {"Li": str(tmp_path / "own.nw"), "H": "ccecp"}


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("Li nelec 3\nLi ul\n1 1 1", "line 1"),
        ("Li nelec 4\nLi ul\n1 1 1", "line 1"),
        ("Li nelec 2\nLi ul\n1 1 one", "line 3"),
        ("Li nelec 2\nLi ul\n1 __import__('os').abort() 1", "line 3"),
        ("Li nelec 2\nLi ul\n9 1.0 1.0", "line 3"),
        ("Li nelec 2\nLi ul\n2 -1.0 1.0", "line 3"),
        ("Li nelec 2\nLi ul\n2 1.0", "line 3"),
        ("Li nelec 2\n2 1.0 1.0", "line 2"),
        ("Li nelec 2\nLi x", "line 2"),
        ("Qq nelec 2\nQq ul", "line 1"),
        ("Li ul\n1 1 1", "Li has no 'nelec'"),
        ("Li nelec 2", "Li has no channels"),
        ("", "contains no potential"),
        ("He nelec 0\nHe ul\n1 1 1", "has no potential for Li, only for He"),
    ],
)
def test_malformed_files_are_refused_with_the_line(tmp_path: Path, text: str, line: str) -> None:
    (tmp_path / "own.nw").write_text(text)
    with pytest.raises(InputError, match=re.escape(line)) as caught:
        core_potentials.read("own.nw", ["Li", "H"], tmp_path)
    assert "\n" not in str(caught.value) and "own.nw" in str(caught.value)


@pytest.mark.parametrize(
    ("ecp", "message"),
    [
        ("ccecq", "no core potential 'ccecq' in PySCF"),
        ("cc-pvdz", "no core potential 'cc-pvdz' in PySCF"),
        ("def2-svp", "has no potential for Li"),
        ("missing.nw", "missing.nw cannot be read"),
        ({"Fe": "ccecp"}, "names Fe, but the system has only Li, H"),
        ({"Li": 3}, "is not a core potential"),
        (["ccecp"], "is not a core potential"),
        ("", "is not a core potential"),
    ],
)
def test_other_settings_are_refused(ecp: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        lithium_hydride(ecp)


def test_a_file_with_the_name_of_a_potential_does_not_replace_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "ccecp").write_text("Li nelec 0\nLi ul\n1 1 1")
    assert core_potentials.read("ccecp", ["Li"], tmp_path)[0].electrons == 2


def test_charges_beyond_the_valence_electrons_are_refused() -> None:
    cores = core_potentials.read("ccecp", ["Li"], Path())
    with pytest.raises(InputError, match="no electrons"):
        System("li", ("Li",), np.zeros((1, 3)), charge=1, cores=cores)
