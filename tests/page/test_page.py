"""`fusion report --html`: content of the page, texts that are no markup, size, and runs that are not finished."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf
from PIL import Image

from fusion.citations.used import Citations
from fusion.config.compose import compose
from fusion.page import document, structures
from fusion.page.document import LARGEST, page
from fusion.runs.collected import collect
from fusion.runs.task import Trajectory
from processes import Program

HOSTILE = '</script><script>alert(1)</script><img src="http://x.org/a.png" onerror=alert(2)>"\'&\x07'
WATER = {
    "name": "h2o",
    "formula": "H2O",
    "symbols": ["O", "H", "H"],
    "positions": [[0.0, 0.0, 0.12], [0.0, 0.76, -0.47], [0.0, -0.76, -0.47]],
}
VOID = {"meta", "img", "input"}


class Parsed(HTMLParser):
    """Elements of a page with their attributes, its text, and the contents of its scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.text, self.scripts, self.open = "", [""], [""]
        self.feed(text)
        assert self.open == [""], f"elements without an end: {self.open}"

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)
        if tag == "script":
            self.scripts.append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] == "script":
            self.scripts[-1] += data
        elif self.open[-1] != "style":
            self.text += data

    def all(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


def write_run(directory: Path, task: str = "energy", **changes: Any) -> Path:
    directory.mkdir(parents=True)
    target = {"energy": "fusion.tasks.energy.Energy", "md": "fusion.tasks.md.MolecularDynamics"}[task]
    method = {"name": "hf", "basis": "sto-3g"}
    settings = {"system": WATER, "task": {"_target_": target, "name": task}, "method": method, "seed": 7}
    result = {
        "schema": 1,
        "versions": {"fusion": "0.1.0", "python": "3.11"},
        "method": "hf",
        "kind": "conventional",
        "weights": None,
        "settings": settings,
        "task": task,
        "system": WATER,
        "status": "ok",
        "energy": {"value": -76.05, "stderr": 0.0021},
        "energy_zero": "total",
        "reference": None,
        "timing": {"wall_s": 75.0},
        "threads": 3,
        "seed": 7,
    }
    (directory / "config.yaml").write_text(json.dumps(settings))
    (directory / "result.json").write_text(json.dumps(result | changes))
    return directory


def made(*directories: Path) -> str:
    runs = collect(directories)
    return page(runs, (["method"], [["hf"]] * len(runs)), Citations(), [["task.given=1"]] * len(runs))


def test_a_page_shows_numbers_settings_and_provenance_but_no_path_of_the_machine(tmp_path: Path) -> None:
    weights = {"name": "ani-2x", "version": 1, "sha256": "83f16c"}
    run = write_run(tmp_path / "water", weights=weights, message=f"a remark on {tmp_path}/x.log, 3 km/mol")
    result = json.loads((run / "result.json").read_text())
    result["settings"]["data"] = {"path": str(tmp_path / "labels.xyz")}
    (run / "result.json").write_text(json.dumps(result))
    text = made(run)
    parsed = Parsed(text)
    for shown in (
        "-76.0500 ± 0.0021 Ha",
        "H2O (10 electrons, singlet)",
        "a remark",
        "ani-2x@1, sha256 83f16c",
        "fusion 0.1.0",
    ):
        assert shown in parsed.text
    assert "settingstask.given=1" in parsed.text
    assert "threads3" in parsed.text and "seed7" in parsed.text and "1 min 15 s" in parsed.text
    assert "data.pathlabels.xyz" in parsed.text and str(tmp_path) not in text
    assert re.search(r"date\d{4}-\d\d-\d\d", parsed.text)


def test_texts_of_files_are_never_markup(tmp_path: Path) -> None:
    system = WATER | {"name": HOSTILE, "formula": HOSTILE}
    run = write_run(tmp_path / "a&<b>", system=system, message=HOSTILE, warnings=[HOSTILE], method=HOSTILE)
    parsed = Parsed(made(run, write_run(tmp_path / "plain")))
    assert len(parsed.all("script")) == 4  # two blocks of data, the viewer and the script of the page
    assert not parsed.all("img") and "onerror" not in {name for _, attributes in parsed.elements for name in attributes}
    assert parsed.text.count("<script>alert(1)</script>") == 4 and "\x07" not in parsed.text
    views = json.loads(parsed.scripts[1])
    assert views[0]["frames"][0]["label"] == HOSTILE


def test_the_policy_of_the_page_forbids_connections_and_admits_its_own_scripts_alone(tmp_path: Path) -> None:
    parsed = Parsed(made(write_run(tmp_path / "run")))
    policy = next(m["content"] or "" for m in parsed.all("meta") if m.get("http-equiv") == "Content-Security-Policy")
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == "'none'" and "unsafe" not in rules["script-src"] and "http" not in policy
    digests = {base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in parsed.scripts[-2:]}
    assert {f"'sha256-{digest}'" for digest in digests} == set(rules["script-src"].split())
    assert "University of Pittsburgh" in parsed.scripts[-2]
    loaded = [
        value
        for _, attributes in parsed.elements
        for name in ("src", "srcset", "data")
        if (value := attributes.get(name))
    ]
    assert all(value.startswith("data:") for value in loaded) and not parsed.all("link") and not parsed.all("iframe")


def test_a_molecule_is_drawn_with_atom_numbers_for_paper(tmp_path: Path) -> None:
    parsed = Parsed(made(write_run(tmp_path / "run")))
    assert len(parsed.all("circle")) == 3 and len(parsed.all("line")) == 2
    assert all(f"{atom}" in parsed.text for atom in ("O1", "H2", "H3"))


def trajectory(path: Path, frames: int, energies: bool = True) -> Path:
    lines = []
    for number in range(frames):
        lines += ["2", f'Properties=species:S:1:pos:R:3 step={number} energy=-{number}.5 pbc="F F F"']
        lines += [f"H 0.0 0.0 {number}.0 0.1", f"He 0.0 1.0 {number}.25 0.1"]
    path.write_text("\n".join(lines) + "\n")
    return path


def test_a_trajectory_is_thinned_evenly_with_its_last_frame_and_without_half_a_frame(tmp_path: Path) -> None:
    file = trajectory(tmp_path / "md.extxyz", 101)
    with file.open("a") as appended:
        appended.write("2\nstep=101\nH 0.0 0.0")  # a kill
    everything = structures.view(Trajectory("md", file), 100_000)
    assert everything and len(everything.frames) == 101 and everything.left_out == 0
    thinned = structures.view(Trajectory("md", file), 800)
    assert thinned and len(thinned.frames) <= 17 and thinned.left_out == 101 - len(thinned.frames)
    steps = [int(frame.words["step"]) for frame in thinned.frames]
    assert steps[0] == 0 and steps[-1] == 100 and len({b - a for a, b in pairwise(steps[:-1])}) == 1
    assert thinned.plain()["frames"][-1] == {
        "xyz": [0.0, 0.0, 100.0, 0.0, 1.0, 100.25],
        "label": "step 100 · energy -100.5000 eV",
    }
    assert structures.view(Trajectory("md", file), 20) is None  # not even one fits


def test_a_mode_keeps_its_equilibrium_and_its_largest_displacement(tmp_path: Path) -> None:
    file = tmp_path / "07.xyz"
    frames = [f"1\nmode=7 frequency_cm1=-231.04\nH 0.0 0.0 {z}\n" for z in (1.0, 1.2, 1.3, 0.8, 0.7)]
    file.write_text("".join(frames))
    view = structures.view(Trajectory("mode 7", file, mode=True), 10_000)
    assert view and view.title == "mode 7: 231.0i cm⁻¹" and len(view.frames) == 1
    assert view.plain()["mode"] == [0.0, 0.0, 0.3] and view.plain()["frames"][0]["xyz"] == [0.0, 0.0, 1.0]


def test_a_file_of_another_kind_is_no_trajectory(tmp_path: Path) -> None:
    for number, content in enumerate((b"", b"no number\n", b"5000000000\n\n", b"2\n\nH x y z\nH 0 0 0\n", b"\xff\x00")):
        file = tmp_path / str(number)
        file.write_bytes(content)
        assert structures.view(Trajectory("t", file), 10_000) is None


def test_a_page_stays_below_its_size_and_says_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fixed = len(made(write_run(tmp_path / "empty")).encode())
    monkeypatch.setattr(document, "LARGEST", fixed + 60_000)
    noise = Image.effect_noise((600, 500), 90)
    for name in ("a", "b"):
        run = write_run(tmp_path / "runs" / name, "md")
        trajectory(run / "md.extxyz", 4000)
        noise.save(run / "noise.png")
        (run / "broken.png").write_bytes(b"no picture")
    text = made(tmp_path / "runs")
    parsed = Parsed(text)
    assert len(text.encode()) <= fixed + 60_000 < LARGEST
    assert "do not fit on this page" in parsed.text and "frames of the trajectory are not on this page" in parsed.text
    assert not parsed.all("img")


def test_runs_without_room_are_in_the_table_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fixed = len(made(write_run(tmp_path / "one")).encode())
    for number in range(12):
        write_run(tmp_path / "runs" / str(number), message="long " * 300)
    monkeypatch.setattr(document, "LARGEST", fixed + 30_000)
    text = made(tmp_path / "runs")
    parsed = Parsed(text)
    sections = [attributes for attributes in parsed.all("section") if (attributes["id"] or "").startswith("run")]
    assert len(text.encode()) <= fixed + 30_000 and 0 < len(sections) < 12
    assert f"{12 - len(sections)} runs did not fit here" in parsed.text and "runs/11" in parsed.text


def test_pictures_are_reduced(tmp_path: Path) -> None:
    from fusion.page.pictures import data_url

    file = tmp_path / "plot.png"
    Image.linear_gradient("L").resize((1300, 700)).convert("RGB").save(file)
    url = data_url(file, 10**6)
    assert url is not None
    header, _, content = url.partition(",")
    assert header == "data:image/png;base64" and len(base64.b64decode(content)) < file.stat().st_size
    narrow = data_url(file, len(url) - 1)
    assert narrow is not None and len(narrow) < len(url) and data_url(file, 100) is None
    file.write_bytes(b"GIF89a")
    with pytest.raises(ValueError, match="cannot identify"):
        data_url(file, 10**6)


def test_the_command_makes_pages_of_finished_and_of_unfinished_runs(program: Program, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "one")
    (write_run(tmp_path / "runs" / "two") / "result.json").unlink()
    done = program("report", "runs", "--html", "all.html")
    assert done.status == 0 and "2 runs" in done.out
    parsed = Parsed((tmp_path / "all.html").read_text(encoding="utf-8"))
    assert "UNFINISHED" in parsed.text and "no result yet" in parsed.text and "-76.0500" in parsed.text
    assert {"href": "#run2"} in parsed.all("a") and any(s.get("id") == "run2" for s in parsed.all("section"))
    assert "Recent developments in the PySCF program package" in parsed.text
    assert len(parsed.all("figure")) == 2  # the molecule of each, also without a result


def test_a_damaged_run_among_others_has_its_fault_on_the_page(program: Program, tmp_path: Path) -> None:
    write_run(tmp_path / "runs" / "one")
    (write_run(tmp_path / "runs" / "two") / "link.png").symlink_to("/etc/hostname")
    (write_run(tmp_path / "runs" / "three") / "config.yaml").write_text("method: [")
    done = program("report", "runs", "--html", "all.html")
    assert done.status == 0 and "3 runs" in done.out, done
    text = Parsed((tmp_path / "all.html").read_text(encoding="utf-8")).text
    assert text.count("DAMAGED") == 2 and "-76.0500" in text
    assert "link out of the run's directory" in text and "config.yaml cannot be read" in text


def test_wrong_input_gets_one_line(program: Program, tmp_path: Path) -> None:
    run = write_run(tmp_path / "run")
    (tmp_path / "empty").mkdir()
    for words, answer in (
        (["empty", "--html", "a.html"], "no runs in empty"),
        (["none", "--html", "a.html"], "none is not a directory"),
        (["run", "--html", "empty"], "--html empty is a directory"),
        (["run", "--html", "none/a.html"], "--html none/a.html cannot be written: No such file"),
        (["run", "run"], "--html FILE writes a page on all"),
        (["empty"], "empty is not the directory of a run"),
    ):
        done = program("report", *words)
        assert done.status == 2 and answer in done.err and len(done.err.splitlines()) == 1, done
    assert not (tmp_path / "a.html").exists()
    (run / "result.json").write_text("{")
    assert program("report", "run", "--html", "a.html").status == 0
    assert "UNREADABLE" in (tmp_path / "a.html").read_text(encoding="utf-8")
    (run / "link.png").symlink_to("/etc/hostname")
    done = program("report", "run", "--html", "a.html")
    assert done.status == 2 and "link out of the run's directory" in done.err


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["+method=hf", "system=h2", "seed=3"], "settings+method=hf\nsystem=h2\nseed=3"),
        (["task=compare", "methods=[hf,mp2]", "system=h2", "task.forces=false"],
         "settingstask=compare\nmethods=[hf,mp2]\nsystem=h2\ntask.forces=false"),
    ],
)  # fmt: skip
def test_a_page_shows_the_settings_that_were_given(
    program: Program, tmp_path: Path, words: list[str], shown: str
) -> None:
    config, _ = compose(words)
    settings = {key: value for key, value in OmegaConf.to_container(config, resolve=False).items() if key != "hydra"}
    settings = OmegaConf.to_container(OmegaConf.create(settings), resolve=True)
    run = write_run(tmp_path / "run", settings=settings)
    assert program("report", "run", "--html", "a.html").status == 0
    assert shown in Parsed((tmp_path / "a.html").read_text(encoding="utf-8")).text
    result = json.loads((run / "result.json").read_text())
    result["settings"]["dtype"] = "${oc.env:HOME}"  # is not filled in
    (run / "result.json").write_text(json.dumps(result))
    assert program("report", "run", "--html", "a.html").status == 0
    parsed = Parsed((tmp_path / "a.html").read_text(encoding="utf-8"))
    assert shown not in parsed.text and "dtype${oc.env:HOME}" in parsed.text
