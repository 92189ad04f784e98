"""Untrusted run directories: nothing in them is executed, and nothing outside is read or written."""

from __future__ import annotations

import os
import pickle
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from fusion.config import compose as trees
from fusion.config import options, places, signature
from fusion.errors import InputError
from processes import Program

Alter = Callable[[dict[str, Any], Path], None]


class Touch:
    """Object whose pickle creates a file when it is loaded."""

    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("canary"),))


@pytest.fixture(scope="module")
def benign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Finished run of the toy method, as received from another user."""
    import fusion
    from fusion import plugins

    place = tmp_path_factory.mktemp("benign")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(Path(__file__).parents[1] / "toy_plugin"))
        patch.setattr(plugins, "_discovery", None)
        patch.chdir(place)
        fusion.run(["+method=toy", "hydra.run.dir=r"])
    unsign(place / "r")
    yield place / "r"


def unsign(directory: Path) -> str:
    """Remove the signature and return it."""
    file = directory / "config.yaml"
    first, _, rest = file.read_text().partition("\n")
    assert re.fullmatch("# signature: [0-9a-f]{64}", first)
    file.write_text(rest)
    return first + "\n"


def at(path: str, value: Any) -> Alter:
    """Set one node; create missing mappings above it."""

    def alter(config: dict[str, Any], place: Path) -> None:
        *above, last = path.split("/")
        for key in above:
            if not isinstance(config.get(key), dict):
                config[key] = {}
            config = config[key]
        config[last] = value

    return alter


def call(path: str, target: str, /, **keywords: Any) -> Alter:
    return at(path, {"_target_": target, **keywords})


ASE = {"_target_": "fusion_conventional.ase_calculator.ASECalculator", "name": "ase", "title": "ASE"}
TOUCH = {"command": "touch canary"}
SUM = {"_target_": "fusion.methods.sums.SumMethod", "name": "sum"}
COMPARE = {"_target_": "fusion.tasks.compare.Compare", "name": "compare"}


def comparison(entry: dict[str, Any]) -> Alter:
    def alter(config: dict[str, Any], place: Path) -> None:
        del config["method"]
        config |= {"task": dict(COMPARE), "methods": ["toy", entry]}

    return alter


HOSTILE: dict[str, Alter] = {
    "unpickled": call("task", "numpy.load", file="evil.pickle", allow_pickle=True),
    "torch": call("task", "torch.load", f="evil.pickle", weights_only=False),
    "copied": call("task", "shutil.copyfile", src="secret", dst="canary"),
    "run": call("task", "fusion.app.run", overrides=["+method=toy", "hydra.run.dir=canary"]),
    "program": call("task", "fusion.cli.main.main", arguments=["new-plugin", "canary"]),
    "written": call("task", "fusion.cli.new_plugin.write", name="canary", kind="potential", into="."),
    "commands": call("task", "fusion.cli.zoo.pull", names=["ani-2x"]),
    "module here": call("task", "evil.Task", name="energy"),
    "through a module": call("task", "fusion.chemistry.system.np.load", file="evil.pickle", allow_pickle=True),
    "built in": call("task", "builtins.exec", _args_=["open('canary', 'w')"]),
    "hydra": call("task", "hydra.utils.get_method", path="evil.Task"),
    "other place": call("task", "fusion.potentials.PotentialMethod", name="x"),
    "arguments": at("task/_args_", ["energy"]),
    "partial": at("task/_partial_", True),
    "no text": at("task/_target_", ["evil.Task"]),
    "method": call("method", "os.system", command="touch canary"),
    "model": call("method/model", "subprocess.run", args=["touch", "canary"]),
    "nested": at("method/model", {"_target_": "toy.morse.Morse", "layers": [{"_target_": "evil.Task"}]}),
    "dotted": at("method/model._target_", "evil.Task"),
    "logger": call("logger/x", "evil.Task"),
    "logger outside": call("logger/x", "pytorch_lightning.loggers.CSVLogger", save_dir="/tmp/canary"),
    "logger above": call("logger/x", "pytorch_lightning.loggers.CSVLogger", save_dir=None, name="../../canary"),
    "logger online": call("logger/x", "fusion.runs.metrics.wandb_logger", save_dir=None, mode="online"),
    "callback": call("callbacks/x", "pytorch_lightning.callbacks.ModelCheckpoint", dirpath="canary"),
    "trainer": at("trainer/default_root_dir", "canary"),
    "trainer plugins": at("trainer/plugins", [{"_target_": "evil.Task"}]),
    "trainer of text": at("trainer", "evil.Task"),
    "logger of text": at("logger/x", "evil.Task"),
    "strategy": call("trainer/strategy", "evil.Task"),
    "optimiser": at("task/optimiser", {"_target_": "ase.optimize.LBFGS", "trajectory": "canary"}),
    "other optimiser": call("task/optimiser", "ase.io.read", filename="secret"),
    "downloaded": at("data", {"files": [{"path": "../canary", "size": 1, "sha256": "0", "urls": ["file:secret"]}]}),
    "ase": at("method", ASE | {"calculator": "nwchem", "options": TOUCH}),
    "ase module": at("method", ASE | {"calculator": "evil.Task"}),
    "ase python": at("method", ASE | {"python": "./canary"}),
    "ase in a sum": at("method", SUM | {"terms": [{"method": "ase", "calculator": "evil.Task"}]}),
    "ase compared": comparison({"method": "ase", "calculator": "evil.Task"}),
    "class compared": comparison({"method": "toy", "_target_": "evil.Task"}),
    "environment": at("system/name", "${oc.env:SECRET}"),
    "decoded": at("system/name", "${oc.decode:'[1]'}"),
    "created": at("system", "${oc.create:{a:1}}"),
    "in text": at("method/options", ["x ${oc.env:SECRET} y"]),
}


@pytest.fixture
def hostile(benign: Path, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copy of the benign run beside a module, a pickle and a secret."""
    (tmp_path / "evil.py").write_text("open('canary', 'w').close()\nclass Task:\n    implemented_properties = []\n")
    (tmp_path / "evil.pickle").write_bytes(pickle.dumps(Touch()))
    (tmp_path / "secret").write_text("5ecret")
    monkeypatch.setenv("SECRET", "5ecret")
    monkeypatch.syspath_prepend(str(tmp_path))
    shutil.copytree(benign, tmp_path / "r")
    return tmp_path / "r"


def assert_refused(program: Program, directory: Path) -> None:
    """Check that `resume` refuses in one line, `report` at most shows the result, and none reveals more."""
    outside = {path: path.read_bytes() for path in directory.parent.iterdir() if path.is_file()}
    resumed, reported = program("resume", directory.name), program("report", directory.name)
    assert resumed.status == 2 and resumed.err.startswith("error: ") and resumed.err.count("\n") == 1, resumed
    assert reported.status in (0, 2) and reported.err.count("\n") == (reported.status == 2), reported
    assert {path: path.read_bytes() for path in directory.parent.iterdir() if path.is_file()} == outside
    assert not list(directory.parent.rglob("canary*"))
    shown = resumed.out + resumed.err + reported.out + reported.err
    written = b"".join(path.read_bytes() for path in directory.rglob("*") if path.is_file() and not path.is_symlink())
    assert "5ecret" not in shown and b"5ecret" not in written


@pytest.mark.parametrize("name", HOSTILE)
def test_foreign_settings_run_no_code(name: str, program: Program, hostile: Path) -> None:
    file = hostile / "config.yaml"
    config = yaml.safe_load(file.read_text())
    HOSTILE[name](config, hostile)
    file.write_text(f"# signature: {'0' * 64}\n" + yaml.safe_dump(config))
    (hostile / "result.json").unlink()
    assert_refused(program, hostile)


@pytest.mark.parametrize("name", ["method", "model", "ase module"])
def test_publishing_a_foreign_run_runs_no_code(name: str, program: Program, hostile: Path) -> None:
    from fusion.cli.publish import Facts, add

    file = hostile / "config.yaml"
    config = yaml.safe_load(file.read_text())
    HOSTILE[name](config, hostile)
    config["method"].setdefault("model", {})
    file.write_text(yaml.safe_dump(config))
    with pytest.raises(InputError, match="signature"):
        add(hostile, Facts("x"), hostile.parent / "zoo")
    assert not Path("canary").exists()


def test_yaml_objects_are_not_created(program: Program, hostile: Path) -> None:
    (hostile / "config.yaml").write_text("task: !!python/object/apply:os.system ['touch canary']\n")
    assert_refused(program, hostile)


@pytest.mark.parametrize("name", ["metrics.csv", "result.json", "checkpoints", "x.png", ".lock"])
def test_links_out_of_the_directory_are_not_followed(name: str, program: Program, hostile: Path) -> None:
    outside = hostile.parent / ("folder" if name == "checkpoints" else "secret")
    (hostile.parent / "folder").mkdir()
    (hostile / name).unlink(missing_ok=True)
    (hostile / name).symlink_to(outside)
    assert_refused(program, hostile)
    done = program("+method=toy", "ckpt=last", "hydra.run.dir=r")
    assert done.status == 2 and "link" in done.err and (hostile.parent / "secret").read_text() == "5ecret"


@pytest.mark.parametrize("name", [".lock", "md.csv", "checkpoints/last.ckpt"])
def test_hard_links_are_not_written_to(name: str, program: Program, hostile: Path) -> None:
    secret = hostile.parent / "secret"
    (hostile / name).parent.mkdir(exist_ok=True)
    (hostile / name).hardlink_to(secret)
    (hostile / "result.json").unlink()
    for words in (("resume", "r"), ("+method=toy", "hydra.run.dir=r")):
        done = program(*words)
        assert done.status == 2 and "hard link" in done.err and secret.read_text() == "5ecret"
    assert program("report", "r").status == 0


@pytest.mark.parametrize("name", [".files", "md.csv", "metrics.csv"])
def test_a_run_does_not_wait_for_pipes(name: str, program: Program, hostile: Path) -> None:
    (hostile / name).unlink(missing_ok=True)
    os.mkfifo(hostile / name)
    (hostile / "result.json").unlink()
    done = program("resume", "r")
    assert done.status == 2 and "is not a regular file" in done.err and done.err.count("\n") == 1


@pytest.mark.parametrize("kind", ["conventional", "functional", "ansatz"])
@pytest.mark.parametrize("text", [True, False])
def test_a_basis_set_holds_numbers_only(kind: str, text: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fusion.chemistry import system_input
    from fusion.functionals.scf.kohn_sham import molecule as all_electron
    from fusion.wavefunctions.hartree_fock import hartree_fock
    from fusion_conventional.molecules import molecule

    monkeypatch.chdir(tmp_path)
    basis = "BASIS\nH S\n open('canary','w').tell()+1 1.0\nEND\n"
    Path("evil.nw").write_text(basis)
    system = system_input.read({"name": "h2", "atoms": "H 0 0 0; H 0 0 0.74"}, tmp_path)
    read = {"conventional": molecule, "functional": all_electron, "ansatz": hartree_fock}[kind]
    with pytest.raises(InputError):
        read(system, basis if text else "evil.nw")
    assert not Path("canary").exists()


def test_a_file_with_the_name_of_a_basis_set_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fusion.chemistry import system_input
    from fusion_conventional.molecules import molecule

    monkeypatch.chdir(tmp_path)
    for name in ("sto-3g", "mine", "mine.nw"):
        Path(name).write_text("BASIS\nH S\n 1.0 1.0\nEND\n")
    system = system_input.read({"name": "h2", "atoms": "H 0 0 0; H 0 0 0.74"}, tmp_path)
    primitives = {name: molecule(system, name).npgto_nr() for name in ("sto-3g", "./sto-3g", "./mine", "mine.nw")}
    assert primitives == {"sto-3g": 6, "./sto-3g": 2, "./mine": 2, "mine.nw": 2}
    with pytest.raises(InputError, match="no basis 'mine'"):
        molecule(system, "mine")


def test_modules_of_the_current_directory_are_not_imported(process: Program, tmp_path: Path) -> None:
    for name in ("typing", "pluggy", "typer", "yaml", "toy"):
        (tmp_path / f"{name}.py").write_text("open('canary', 'w').close()\n")
    done = process("plugins")
    assert done.status == 0 and "toy" in done.out and not (tmp_path / "canary").exists()


def test_settings_without_a_signature_resume(program: Program, tmp_path: Path) -> None:
    words = ("+method=morse", "task=relax", "task.optimiser._target_=ase.optimize.FIRE", "task.steps=1")
    assert program(*words, "hydra.run.dir=r").status == 1
    unsign(tmp_path / "r")
    (tmp_path / "r" / "result.json").unlink()
    done = program("resume", "r")
    assert done.status == 1 and "NOT CONVERGED" in done.out and done.err == ""
    assert not (tmp_path / "r" / "config.yaml").read_text().startswith("#")


def test_options_are_allowed_only_in_their_places(with_toy: None) -> None:
    allowed = places.of(options.sources())
    from omegaconf import OmegaConf

    for words in (
        ["+method=ferminet", "envelope=full", "optimiser=kfac", "logger=wandb", "trainer=ddp"],
        ["+method=coulomb", "descriptor=sorted", "task=train", "data=qm7", "logger=tensorboard"],
        ["+method=ani", "task=md", "ensemble=npt"],
        ["task=compare"],
    ):
        config: Any = OmegaConf.to_container(trees.compose(words)[0], resolve=True)
        assert allowed.refusal(config) is None, words


def test_programs_of_ase_need_a_signature_or_the_command(program: Program, tmp_path: Path) -> None:
    words = ("+method=ase", "method.calculator=ase.calculators.emt.EMT", "system=n2")
    assert program(*words, "hydra.run.dir=r").status == 0
    result = (tmp_path / "r" / "result.json").read_text()
    (tmp_path / "r" / "result.json").unlink()
    assert program("resume", "r").status == 0
    line = unsign(tmp_path / "r")
    (tmp_path / "r" / "result.json").unlink()
    done = program("resume", "r")
    assert done.status == 2 and "method.calculator=ase.calculators.emt.EMT" in done.err
    assert "ckpt=last hydra.run.dir=r" in done.err and done.err.count("\n") == 1
    assert program(*words, "ckpt=last", "hydra.run.dir=r").status == 0
    assert program("resume", "r").status == 0 and (tmp_path / "r" / "config.yaml").read_text().startswith("#")
    assert line and result


def test_a_signature_depends_on_the_content(signing_key: Path) -> None:
    content = {"task": {"name": "energy"}, "tolerance": 1e-9}
    line = signature.line(content)
    assert signature.valid(line, content) and not signature.valid(line, content | {"tolerance": 1e-8})
    assert not signature.valid(f"# signature: {'0' * 64}\n", content) and not signature.valid("", content)


def test_the_key_belongs_to_one_user_and_is_private(signing_key: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = {"task": {"name": "energy"}, "tolerance": 1e-9}
    line = signature.line(content)
    key = signing_key / "fusion" / "signing.key"
    assert key.stat().st_mode & 0o777 == 0o600
    monkeypatch.setenv("XDG_DATA_HOME", str(signing_key / "other"))
    assert not signature.valid(line, content) and signature.line(content) != line
    other = signing_key / "other" / "fusion" / "signing.key"
    other.chmod(0o644)  # anybody could have read it
    assert signature.line(content) == ""
    other.chmod(0o600)
    other.write_bytes(b"")
    assert signature.line(content) == ""


def test_without_a_key_nothing_is_signed(program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "file"))
    done = program("+method=toy", "hydra.run.dir=r")
    assert done.status == 0 and done.err == "" and not (tmp_path / "r" / "config.yaml").read_text().startswith("#")
    (tmp_path / "r" / "result.json").unlink()
    assert program("resume", "r").status == 0


@pytest.mark.parametrize("word", ["system.name=${oc.env:SECRET}", "+method.options='x ${oc.env:SECRET}'"])
def test_the_environment_is_not_stored(
    word: str, program: Program, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET", "5ecret")
    done = program("+method=toy", word, "hydra.run.dir=r")
    assert done.status == 2 and "environment" in done.err and "5ecret" not in done.err and not (tmp_path / "r").exists()
