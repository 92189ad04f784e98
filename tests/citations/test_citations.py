"""References of runs: which settings cite what, models by their cards, BibTeX in and out, and `fusion cite`."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

import fusion
from fusion import zoo
from fusion.citations import bibtex, library
from fusion.citations.used import fusion_entry, of_method, of_runs
from fusion.config.options import option_files, read_yaml, sources
from fusion.errors import InputError
from fusion.runs.collected import collect
from processes import Program

ROOT = Path(__file__).parents[2]


def write_run(directory: Path, settings: dict[str, Any], **result: Any) -> Path:
    directory.mkdir(parents=True)
    settings = {"system": {"name": "h2o"}, "task": {"name": "energy"}} | settings
    (directory / "config.yaml").write_text(json.dumps(settings))
    if result:
        document = {"schema": 1, "status": "ok", "settings": settings} | result
        (directory / "result.json").write_text(json.dumps(document))
    return directory


def keys(*directories: Path) -> list[str]:
    return [entry.key for entry in of_runs(collect(directories)).entries]


def test_a_potential_cites_its_method_its_model_and_its_programs(tmp_path: Path) -> None:
    weights = {"name": "ani-2x", "version": 1, "sha256": "0"}
    task = {"name": "vibrations"}
    run = write_run(tmp_path / "run", {"method": {"name": "ani"}, "task": task}, kind="potential", weights=weights)
    own, others = ["smith2017ani", "devereux2020ani2x"], ["grimme2012entropies", "larsen2017ase", "paszke2019pytorch"]
    assert keys(run) == ["fusion", *own, *others]


@pytest.mark.parametrize(
    ("method", "cited", "not_cited"),
    [
        ({"name": "dft", "xc": "B3LYP"}, "stephens1994b3lyp lehtola2018libxc", "perdew1996pbe"),
        ({"name": "dft", "xc": "pbe0"}, "adamo1999pbe0 perdew1996pbe", "becke1993hybrid"),
        ({"name": "hf", "basis": "aug-cc-pVTZ"}, "dunning1989basis kendall1992basis sun2020pyscf", "lehtola2018libxc"),
        ({"name": "hf", "basis": {"O": "def2-svp", "H": "sto-3g"}}, "weigend2005basis hehre1969basis", "grimme2010d3"),
        ({"name": "hf", "basis": "6-31G*", "dispersion": "d3bj"}, "hariharan1973basis grimme2011bj", "woon1995basis"),
        ({"name": "hf", "basis": "6-31g"}, "hehre1972basis", "hariharan1973basis grimme2011bj"),
        (
            {"name": "hf", "solvent": {"name": "water", "model": "smd", "epsilon": None}},
            "marenich2009smd tomasi2005continuum",
            "klamt1993cosmo barone1998cpcm",
        ),
        ({"name": "hf", "solvent": "water"}, "cances1997ief lange2010smooth", "marenich2009smd"),
        ({"name": "hf", "solvent": {"name": None}}, "sun2020pyscf", "tomasi2005continuum cances1997ief"),
        ({"name": "d3", "xc": "b3lyp"}, "grimme2010d3", "stephens1994b3lyp sun2020pyscf"),
        ({"name": "aimnet2"}, "anstine2025aimnet2 grimme2010d3 grimme2011bj", "larsen2017ase kabylda2025so3lr"),
        ({"name": "ase/so3lr"}, "kabylda2025so3lr larsen2017ase", "sun2020pyscf"),
    ],
)
def test_levels_of_theory(tmp_path: Path, method: dict[str, Any], cited: str, not_cited: str) -> None:
    method = {"basis": "sto-3g"} | method if method["name"] in ("dft", "hf") else method
    found = set(keys(write_run(tmp_path / "run", {"method": method})))  # no result: an unfinished run
    assert set(cited.split()) <= found and not set(not_cited.split()) & found


def test_a_sum_a_teacher_and_a_comparison_cite_what_they_name(tmp_path: Path) -> None:
    terms = ["ani-2x", {"method": "d3", "xc": "wb97x"}]
    total = keys(write_run(tmp_path / "sum", {"method": {"name": "sum", "terms": terms}}, kind="composite"))
    assert {"devereux2020ani2x", "grimme2010d3", "paszke2019pytorch"} <= set(total)
    distil = {"name": "distill", "teacher": {"method": "dm21", "basis": "def2-svp"}}
    taught = keys(write_run(tmp_path / "distil", {"method": {"name": "ani"}, "task": distil}, kind="potential"))
    assert {"kirkpatrick2021dm21", "weigend2005basis", "smith2017ani"} <= set(taught)
    compared = write_run(tmp_path / "compare", {"methods": ["mp2", "ani-1ccx"], "task": {"name": "compare"}})
    assert {"moller1934mp2", "dunning1989basis", "smith2019ani1ccx"} <= set(
        keys(compared)
    )  # MP2's own basis is cc-pVTZ
    write_run(compared / "parts/x", {"method": {"name": "ferminet"}}, kind="ansatz")
    assert "pfau2020ferminet" in keys(compared)  # a run inside the run


def test_hydrogen_fluoride_is_not_hartree_fock(tmp_path: Path) -> None:
    run = write_run(tmp_path / "run", {"method": {"name": "ani"}, "system": {"name": "hf"}})
    assert "sun2020pyscf" not in keys(run)


def test_a_model_is_cited_by_its_card(tmp_path: Path) -> None:
    weights = {"name": "ferminet-lih", "version": 1}
    run = write_run(tmp_path / "a", {"method": {"name": "other"}}, kind="ansatz", weights=weights)
    assert "pfau2020ferminet" in keys(run)  # by the DOI on the card
    run = write_run(tmp_path / "b", {"method": {"name": "ani"}}, weights={"name": "not-there", "version": 1})
    citations = of_runs(collect([run]))
    assert "weights=not-there" in citations.remarks[0] and citations.text().startswith("% weights=not-there")


def test_a_card_without_an_entry_becomes_one(monkeypatch: pytest.MonkeyPatch) -> None:
    card = zoo.find("ani-2x")
    monkeypatch.setattr(library, "references", list)
    (entry,) = of_method("ani-2x").entries
    assert entry.key == "model_ani_2x" and entry.fields["doi"] == card.doi and entry.fields["note"] == card.citation


def test_every_method_and_every_model_of_the_zoo_has_a_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    cards, references = zoo.cards(), library.references()
    monkeypatch.setattr(zoo, "cards", lambda: cards)
    monkeypatch.setattr(library, "references", lambda: references)
    programs = {"sun2020pyscf", "larsen2017ase", "paszke2019pytorch", "lehtola2018libxc", "li2024forward"}
    names = [*option_files("method"), *(card.name for card in cards)]
    bare = [name for name in names if not {entry.key for entry in of_method(name).entries} - programs]
    # Hartree-Fock needs none, calculators of ASE have their own, and a sum has those of its terms.
    assert set(bare) <= {"hf", "ase", "sum"}


def test_keys_are_stable_and_unique() -> None:
    files = {tree / library.FILENAME for _, tree in sources() if (tree / library.FILENAME).is_file()}
    entries = [entry for file in files for entry in bibtex.read(file)]
    found = [entry.key for entry in entries]
    assert len(found) == len(set(found)) > 50
    assert all(re.fullmatch(r"[a-z]+\d{4}[a-z0-9]+", key) for key in found)
    for entry in entries:
        assert {"author", "title", "year", library.CONDITION} <= set(entry.fields), entry.key
        assert entry.key.endswith(entry.fields["year"]) or entry.fields["year"] in entry.key
    addresses = [entry.fields["doi"].lower() for entry in entries if "doi" in entry.fields]
    assert len(addresses) == len(set(addresses)) and all(re.fullmatch(r"10\.\d{4,}/\S+", doi) for doi in addresses)


def test_fusion_is_cited_as_its_citation_file_says() -> None:
    content = read_yaml(ROOT / "CITATION.cff")
    assert content["version"] == fusion.__version__
    entry = fusion_entry({"0.0.9"})
    assert entry.key == "fusion" and entry.fields["note"] == "Version 0.0.9"
    assert content["title"] in entry.fields["title"] and content["authors"][0]["name"] in entry.fields["author"]


def test_bibtex_is_read_as_others_write_it_and_printed_without_conditions(tmp_path: Path) -> None:
    text = """A comment, with user@example.org.
    @Article { key1 , Author = "Ann {"}B{"} Toy" , title={Nested {braces {deep}}
       over lines}, year = 1999 , usedfor={a=b} }
    @misc{key2, note = {\\{}}"""
    first, second = bibtex.parse(text)
    assert (first.kind, first.key) == ("article", "key1")
    assert dict(first.fields) == {
        "author": 'Ann {"}B{"} Toy',
        "title": "Nested {braces {deep}} over lines",
        "year": "1999",
        "usedfor": "a=b",
    }
    assert second.fields["note"] == "\\{" and list(bibtex.parse(second.text())) == [second]
    for wrong in ("@misc{a, x = {1}", "@misc{a, x = {1", "@misc{a, x = word}", "@misc{a, = {}}"):
        with pytest.raises(ValueError, match="a"):
            list(bibtex.parse(wrong))


def test_accents_become_letters() -> None:
    written = r"Cs{\'a}nyi, {\v{R}}ez{\'a}{\v{c}}, M{\"u}ller, M{\o}ller --- {ANI}"
    assert bibtex.plain(written) == "Csányi, Řezáč, Müller, Møller — ANI"


def test_a_condition_that_cannot_be_read_names_file_and_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / library.FILENAME).write_text("@misc{ann1999x, usedfor = {method}}")
    monkeypatch.setattr(library, "sources", lambda: [("package", tmp_path)])
    with pytest.raises(InputError, match=r"references\.bib: usedfor of ann1999x must be KEY=PATTERN"):
        library.references()


def test_the_command_prints_what_bibtex_reads_and_a_plugin_brings_its_own(program: Program, tmp_path: Path) -> None:
    write_run(tmp_path / "runs/a", {"method": {"name": "toy"}}, kind="potential", versions={"fusion": "0.1.0"})
    write_run(tmp_path / "runs/b", {"method": {"name": "hf", "basis": "sto-3g"}}, kind="conventional")
    done = program("cite", "runs")
    assert done.status == 0 and not done.err
    entries = list(bibtex.parse(done.out))
    assert [entry.key for entry in entries[:2]] == ["fusion", "toy1999springs"] and "usedfor" not in done.out
    assert {"hehre1969basis", "sun2020pyscf", "paszke2019pytorch"} <= {entry.key for entry in entries}
    (tmp_path / "empty").mkdir()
    done = program("cite", "empty")
    assert done.status == 2 and "no runs in empty" in done.err and len(done.err.splitlines()) == 1
