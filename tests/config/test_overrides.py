"""Arguments of the command line reach the configuration as the user means them, also in sweeps."""

from __future__ import annotations

from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import OmegaConf

from fusion.config.overrides import is_override, prepare, split
from processes import Program

PLAIN = [
    "H 0 0 0; H 0 0 1.4",
    "H 0,0,0; H 0,0,1.4",
    "it's (a) test+~=;",
    "back\\slash\\",
    r"quote\'d",
    "6-31G+(d,p)",
    "a b",
    "1e3",
    "true",
]


def parsed(words: list[str]) -> list[object]:
    return [override.value() for override in OverridesParser.create().parse_overrides(words)]


@pytest.mark.parametrize("value", PLAIN)
@pytest.mark.parametrize(
    "key", ["system.atoms", "system.path", "method.basis", "ckpt", "hydra.run.dir", "+system.path"]
)
def test_free_text_arrives_unchanged(key: str, value: str) -> None:
    assert parsed(prepare([f"{key}={value}"], multirun=False)) == [value]


@pytest.mark.parametrize("value", ["'H 0 0 0; H 0 0 1.4'", '"6-31G(d,p)"', "null", "{H: sto-3g, C: 6-31g}"])
def test_quoted_or_structured_values_are_unchanged(value: str) -> None:
    for multirun in (False, True):
        assert prepare([f"method.basis={value}"], multirun) == [f"method.basis={value}"]


def test_sweeps_over_text_are_split_outside_brackets() -> None:
    assert prepare(["method.basis=6-31G(d,p),sto-3g"], multirun=True) == ["method.basis='6-31G(d,p)','sto-3g'"]
    assert prepare(["system.atoms=H 0,0,0; H 0,0,1"], multirun=True) == ["system.atoms='H 0,0,0; H 0,0,1'"]
    assert prepare(["system.atoms='H 0,0,0','He 0,0,0'"], multirun=True) == ["system.atoms='H 0,0,0','He 0,0,0'"]
    assert prepare(["method.basis=choice('a','b')"], multirun=True) == ["method.basis=choice('a','b')"]
    assert split("a,'b,c',[d,e]") == ["a", "'b,c'", "[d,e]"]


def test_short_forms_are_expanded() -> None:
    assert prepare(["method=toy"], multirun=False) == ["+method=toy"]
    file = ["system=file", "system.path='dir x/a=b.xyz'"]
    assert prepare(["system=dir x/a=b.xyz"], multirun=False) == [*file, "system.name='a=b'"]
    assert prepare(["system=dir x/a=b.xyz", "system.name=c"], multirun=False) == [*file, "system.name=c"]
    assert prepare(["system=a.xyz,b.xyz"], multirun=True) == ["system=file", "system.path='a.xyz','b.xyz'"]
    assert prepare(["system=lih"], multirun=False) == ["system=lih"]


@pytest.mark.parametrize(
    ("word", "setting", "value"),
    [
        ("solvent=N,N-dimethylformamide", "method.solvent.name", "N,N-dimethylformamide"),
        ("method.solvent=water", "method.solvent.name", "water"),
        ("solvent=null", "method.solvent.name", None),
        ("solvent={name:water,model:SS(V)PE}", "method.solvent", {"name": "water", "model": "SS(V)PE"}),
        ("solvent.model=SS(V)PE", "method.solvent.model", "SS(V)PE"),
        ("solvent.epsilon=4.5", "method.solvent.epsilon", 4.5),
    ],
)
def test_short_forms_of_the_solvent(word: str, setting: str, value: object) -> None:
    (prepared,) = prepare([word], multirun=False)
    assert prepared.partition("=")[0] == setting and parsed([prepared]) == [value]


def test_arguments_that_start_a_run() -> None:
    for word in ("+method=x", "method=x", "++seed=1", "~ckpt", "hydra/launcher=joblib", "-m", "system.atoms=H 0 0 0"):
        assert is_override(word)
    for word in ("methods", "plugin", "new-plugin", "--help"):
        assert not is_override(word)


def test_relative_paths_refer_to_the_start_directory(program: Program, tmp_path: Path) -> None:
    (tmp_path / "dir (1)").mkdir()
    (tmp_path / "dir (1)" / "x=y.xyz").write_text("2\n\nH 0 0 0\nH 0 0 0.75\n")
    assert program("+method=toy", "system=dir (1)/x=y.xyz", "hydra.run.dir=out (2)").status == 0
    config = OmegaConf.load(tmp_path / "out (2)" / "config.yaml")
    assert config.system.path == str(tmp_path / "dir (1)" / "x=y.xyz")


def test_text_passes_through_a_sweep(program: Program, tmp_path: Path) -> None:
    atoms = "H 0 0 0; H 0 0 0.74"
    words = ("+method=toy", "system=inline", f"system.atoms={atoms}", "method.basis=6-31G+(d,p),sto-3g")
    assert program("-m", *words, "hydra.sweep.dir=s").status == 0
    configs = [OmegaConf.load(tmp_path / "s" / job / "config.yaml") for job in "01"]
    assert [config.method.basis for config in configs] == ["6-31G+(d,p)", "sto-3g"]
    assert {config.system.atoms for config in configs} == {atoms}


def test_lists_of_methods_are_quoted_inside() -> None:
    natural = "methods=[hf,ani-2x@1,{method: dft, basis: 6-31G(d,p), optimisation: {steps: 10}, factor: -1.5}]"
    expected = [
        "hf",
        "ani-2x@1",
        {"method": "dft", "basis": "6-31G(d,p)", "optimisation": {"steps": 10}, "factor": -1.5},
    ]
    for word in (natural, natural.replace("[", "").replace("]", "")):
        assert parsed(prepare([word], multirun=False)) == [expected]
    assert parsed(prepare(["task.reaction=2 h2o -> 2 h2 + o2", "system=x"], multirun=False))[0] == "2 h2o -> 2 h2 + o2"
    assert prepare(["methods=[hf,dft],[hf,mp2]"], multirun=True) == ["methods=['hf','dft'],['hf','mp2']"]


def test_data_can_be_names_and_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "frames").mkdir()
    (tmp_path / "qm7").mkdir()
    assert prepare(["data=qm7"], multirun=False) == ["data=qm7"], "a name goes before a folder that has it too"
    for path in ("my data.xyz", "frames", "a/b"):
        words = prepare([f"data={path}"], multirun=False)
        assert parsed(words) == ["file", path]
    assert prepare(["data=a.xyz,b.h5"], multirun=True) == ["data=file", "data.path='a.xyz','b.h5'"]
    assert prepare(["data=qm7,ani1"], multirun=True) == ["data=qm7,ani1"]


def test_data_can_be_a_mixture() -> None:
    mixture = "data=[qm7,{data: b.xyz, energy: e(dft), forces: {sign: -1}}]"
    entries = ["qm7", {"data": "b.xyz", "energy": "e(dft)", "forces": {"sign": -1}}]
    assert parsed(prepare([mixture], multirun=False)) == ["mixture", entries]


NAMES = [
    "w@1.xyz",
    "a b.xyz",
    "a=b.xyz",
    "a,b.xyz",
    "a#%b.xyz",
    "$a.xyz",
    "it's.xyz",
    'q"q.xyz',
    "wässer.xyz",
    "-dash.xyz",
]
NAMES += [
    "POSCAR",
    "no suffix",
    "[1].xyz",
    "a+b.xyz",
    "(1).xyz",
    "{x}.xyz",
    "glob(a).xyz",
    "a;b.xyz",
    "back\\slash.xyz",
]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_of_any_name_is_a_system(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fusion.chemistry import system_input

    monkeypatch.chdir(tmp_path)
    text = "h2\n1.0\n9 0 0\n0 9 0\n0 0 9\nH\n2\nCartesian\n0 0 0\n0 0 0.74\n"
    (tmp_path / name).write_text(text if name == "POSCAR" else "2\n\nH 0 0 0\nH 0 0 0.74\n")
    for given in (f"./{name}", str(tmp_path / name), *([] if name.startswith("-") else [name])):
        words = prepare([f"system={given}", f"task.product={given}"], multirun=False)
        path, product = parsed([word for word in words if word.startswith(("system.path=", "task.product="))])
        assert words[0] == "system=file" and path == product == given
        if name != "no suffix":
            assert system_input.read({"path": path}, tmp_path).symbols == ("H", "H")


def test_an_option_takes_precedence_over_a_file_of_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("h2o", "qm7", "CONTCAR"):
        (tmp_path / name).write_text("")
    assert prepare(["system=h2o", "data=qm7"], multirun=False) == ["system=h2o", "data=qm7"]
    assert prepare(["system=./h2o"], multirun=False)[:2] == ["system=file", "system.path='./h2o'"]
    assert prepare(["system=CONTCAR"], multirun=False)[:2] == ["system=file", "system.path='CONTCAR'"]
    assert prepare(["system=CONTCAT", "data=qm8"], multirun=False) == ["system=CONTCAT", "data=qm8"]


def test_a_sweep_over_a_pattern_runs_over_its_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mols").mkdir()
    for name in ("a.xyz", "it's, b.xyz", "c.cif"):
        (tmp_path / "mols" / name).write_text("")
    for key, setting in (("system", "system.path"), ("data", "data.path"), ("task.product", "task.product")):
        (word,) = [w for w in prepare([f"{key}=glob(mols/*.xyz)"], multirun=True) if w.startswith(f"{setting}=")]
        (override,) = OverridesParser.create().parse_overrides([word])
        assert [str(value)[1:-1] for value in override.sweep_string_iterator()] == ["mols/a.xyz", r"mols/it\'s, b.xyz"]
    excluding = prepare(["system=glob([mols/*],exclude=*.xyz)"], multirun=True)
    assert excluding[:2] == ["system=file", "system.path='mols/c.cif'"]
    assert prepare(["system=choice(a.xyz,b.xyz)"], multirun=True)[1] == "system.path='a.xyz','b.xyz'"
    assert prepare(["system=glob(h2*)"], multirun=True) == ["system=glob(h2*)"]  # names of options


@pytest.mark.parametrize(
    "word", ["system=glob(nothing/*)", "+method=glob(zzz*)", "seed=range(3,3)", "data=glob(x*.npz)"]
)
def test_a_sweep_over_nothing_is_refused(program: Program, word: str, tmp_path: Path) -> None:
    words = [word] if "method" in word else ["+method=toy", word]
    done = program("-m", *words)
    assert done.status == 2 and done.out == "" and done.err.count("\n") == 1 and word in done.err
    assert list(tmp_path.iterdir()) == []
