"""Subjects of comparisons: requested geometries, and balanced sums of energies."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ase import Atoms
from ase.build import molecule
from ase.data.s22 import create_s22_system
from ase.io import write

from fusion.chemistry import energy_zeros, system_input
from fusion.chemistry.structures import from_atoms
from fusion.errors import InputError
from fusion.methods import by_name
from fusion.tasks.compare import dimers, energies, jobs, methods, outcome, reactions, scans, subject
from fusion.tasks.compare.subject import Subject
from fusion.tasks.geometry.internal_coordinates import Bond, Dihedral


def balance(compared: Subject) -> dict[str, float]:
    """Excess atoms by element in the first sum of energies."""
    systems = {structure.name: structure.system for structure in compared.structures}
    surplus: dict[str, float] = {}
    for name, coefficient in compared.quantities[0].terms:
        for symbol in systems[name].symbols:
            surplus[symbol] = surplus.get(symbol, 0.0) + coefficient
    return surplus


def test_points_of_a_scan_are_rigid() -> None:
    ethanol = from_atoms(molecule("CH3CH2OH"))
    compared = scans.subject({"atoms": [4, 3, 2, 1], "values": [0.0, 90.0, 180.0]}, ethanol)
    turned = [structure.system.positions for structure in compared.structures]
    angles = [Dihedral((3, 2, 1, 0)).value(positions) for positions in turned]
    assert np.abs(angles) == pytest.approx([0.0, 90.0, 180.0], abs=1e-8)
    lengths = [np.linalg.norm(positions[:3, None] - positions[None, :3], axis=-1) for positions in turned]
    assert np.ptp(lengths, axis=0) == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(InputError, match="does not divide the molecule into two parts"):
        scans.subject({"atoms": [1, 2], "stop": 2.0}, from_atoms(molecule("C3H6_D3h")))
    stretched = scans.subject({"atoms": [3, 4], "start": 0.9, "stop": 1.1, "points": 3}, ethanol)
    bonds = [Bond((2, 3)).value(structure.system.positions) for structure in stretched.structures]
    assert bonds == pytest.approx([0.9, 1.0, 1.1]) == [point.value for point in stretched.points]
    (first, second, third) = stretched.relative_to("point-002")
    assert dict(second.terms) in ({"point-002": 1.0}, {"point-002": -1.0}) and first.terms[1] == third.terms[1]


def test_frames_must_have_the_same_atoms(tmp_path: Path) -> None:
    water, ammonia = molecule("H2O"), molecule("NH3")
    write(tmp_path / "good.xyz", [water, water])
    write(tmp_path / "bad.xyz", [water, ammonia])
    system = from_atoms(water, charge=1)
    compared = scans.frames("good.xyz", system, tmp_path)
    assert [structure.system.charge for structure in compared.structures] == [1, 1]
    assert compared.structures[0].system.positions == pytest.approx(system.positions, abs=1e-6)
    with pytest.raises(InputError, match=r"structure 2 of .* has other atoms"):
        scans.frames("bad.xyz", system, tmp_path)
    with pytest.raises(InputError, match="no file"):
        scans.frames("none.xyz", system, tmp_path)


def test_fragments_are_detected_and_get_ghost_atoms() -> None:
    dimer = from_atoms(create_s22_system("Water_dimer"))
    compared = dimers.subject("auto", None, True, dimer)
    assert balance(compared) == {"H": 0.0, "O": 0.0}
    assert [structure.name for structure in compared.structures] == [
        *("complex", "fragment-1", "fragment-2", "fragment-1-ghosts", "fragment-2-ghosts")
    ]
    for structure in compared.structures[3:]:
        places = np.array([*structure.system.positions, *(place for _, *place in structure.ghosts)])
        assert sorted(map(tuple, places)) == pytest.approx(np.array(sorted(map(tuple, dimer.positions))))
    assert len(dimers.subject([[1, 2, 3], [4, 5, 6]], None, False, dimer).structures) == 3


def test_charges_of_fragments_sum_to_the_charge_of_the_complex() -> None:
    ion = from_atoms(Atoms("LiF", [[0, 0, 0], [0, 0, 1.6]]))
    parts = dimers.subject([[1], [2]], [1, -1], False, ion).structures[1:]
    assert [part.system.n_electrons for part in parts] == [2, 10]
    with pytest.raises(InputError, match="sum to the charge of the complex"):
        dimers.subject([[1], [2]], [1, 0], False, ion)


def test_reactions_share_their_species(tmp_path: Path) -> None:
    compared = reactions.subject(["butadiene - bicyclobutane", "2 h2o -> 2 h2 + o2", "h2o -> h2 + 1/2 o2"], tmp_path)
    first, second, third = (dict(quantity.terms) for quantity in compared.quantities)
    assert first == {"butadiene": 1.0, "bicyclobutane": -1.0}
    assert second == {name: 2 * coefficient for name, coefficient in third.items()}
    assert [structure.name for structure in compared.structures] == ["bicyclobutane", "butadiene", "h2o", "h2", "o2"]
    with pytest.raises(InputError, match="is not balanced"):
        reactions.subject("h2o - h2", tmp_path)
    with pytest.raises(InputError, match="is not a reaction"):
        reactions.subject("h2o", tmp_path)


def test_atoms_are_the_zero_of_atomisation_energies() -> None:
    water = from_atoms(molecule("H2O"), name="water")
    atoms = {"O": from_atoms(Atoms("O"), spin=2), "H": from_atoms(Atoms("H"))}
    compared = subject.atomisation(water, atoms)
    assert balance(compared) == {"O": 0.0, "H": 0.0} and not compared.absolute
    bound = {"status": "ok", "energy": {"value": -0.37, "stderr": None}}
    value = energies.total(compared.quantities[0], {"water": bound}, frozenset({"atom-O", "atom-H"}))
    assert value.energy == pytest.approx(0.37)
    assert energies.total(compared.quantities[0], {"water": bound}, frozenset()).missing == "no result"


def test_every_method_gets_the_same_geometry() -> None:
    water = from_atoms(molecule("H2O"), charge=1, name="a b/c")
    again = system_input.read(subject.node(water))
    assert np.array_equal(again.positions, water.positions)
    assert (again.symbols, again.charge, again.spin) == (water.symbols, 1, 1)
    assert subject.unique(["a b/c", "a-b-c", ".."]) == ["a-b-c", "a-b-c-2", "structure"]


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ("ani-2x", "ani-2x has no solvent; hf, dft"),
        ({"method": "hf", "solvent": "ethanol"}, "hf has a solvent already"),
    ],
)
def test_solvation_needs_methods_with_solvents(entry: object, message: str) -> None:
    with pytest.raises(InputError, match=f"task.solvation: {message}"):
        jobs.check_solvents(methods.read([entry], seed=0, forces=False))


def test_ghosts_have_no_place_in_a_solvent() -> None:
    plain, solvated = methods.read(["hf", {"method": "hf", "solvent": "water"}], seed=0, forces=False)
    assert jobs.has_ghosts(plain) and not jobs.has_ghosts(solvated)
    with pytest.raises(InputError, match="no cavity around atoms without nuclei"):
        by_name.method({"method": "hf", "solvent": "water", "ghosts": "H 0 0 9"})


def test_fragments_without_the_unpaired_electrons_of_the_complex_are_refused() -> None:
    atoms = Atoms("OOHe", [[0, 0, 0], [0, 0, 1.21], [0, 0, 4.5]])
    with pytest.raises(InputError, match=r"system.spin=2, but .* together 0 unpaired electrons"):
        dimers.subject([[1, 2], [3]], None, True, from_atoms(atoms, 0, 2))
    assert dimers.subject([[1, 2], [3]], None, True, from_atoms(atoms, 0, 0)).kind == "binding"


def test_an_atom_with_ghosts_is_zero_where_the_atom_is() -> None:
    dimer = from_atoms(Atoms("HHHe", [[0, 0, 0], [0, 0, 0.74], [0, 0, 4.0]]), 0, 0)
    compared = dimers.subject([[1, 2], [3]], None, True, dimer)
    entry = SimpleNamespace(zero=energy_zeros.ATOMISATION, method=None, settings={"method": {}}, label="atomised")
    results = {"complex": -0.17, "fragment-1": -0.16}
    planned = [
        SimpleNamespace(entry=entry, structure=each, document={"status": "ok", "energy": {"value": results[each.name]}})
        for each in compared.structures
        if each.name in results
    ]
    documents = {entry.label: outcome._documents(planned, compared)}  # type: ignore[arg-type]
    for quantity in compared.quantities:
        row = outcome._quantity(quantity, [entry], entry, documents, {}, compared)  # type: ignore[arg-type, list-item]
        assert row["values"][entry.label]["energy_hartree"] == pytest.approx(-0.01)


def test_sums_and_programs_with_a_basis_are_not_called_free_of_it() -> None:
    nwchem = {"method": "ase", "calculator": "nwchem"}
    entries = methods.read(
        [
            {"method": "sum", "terms": [{"method": "hf", "basis": "sto-3g"}, "d3"], "label": "corrected"},
            {"method": "sum", "terms": ["coulomb", "d3"], "label": "learned"},
            nwchem | {"options": {"basis": "6-31g*"}},
        ],
        seed=0,
        forces=False,
    )
    assert [jobs.has_basis(entry) for entry in entries] == [True, False, True]
    assert not any(jobs.has_ghosts(entry) for entry in entries)
