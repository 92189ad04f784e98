"""Plots are drawn from the files of a run, also of an unfinished one."""

from __future__ import annotations

import contextlib
import csv
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fusion import plotting
from fusion.chemistry import cube
from fusion.errors import InputError
from fusion.potentials.training import plot as potential_training
from fusion.runs import metrics_table
from fusion.tasks.compare import plot as comparison
from fusion.tasks.scan import plot as scan
from fusion.tasks.thermochemistry import plot as thermochemistry
from fusion.tasks.vibrations import spectrum_plot
from fusion.tasks.vibrations.spectrum import broadened
from fusion.wavefunctions import density_plot
from fusion.wavefunctions import energy_plot as plots

pytestmark = pytest.mark.usefixtures("pictures")
COLUMNS = ["step", "phase", "energy", "stderr", "variance", "loss"]


def write_metrics(directory: Path, pretrain: int = 0, optimise: int = 0, evaluate: int = 0, **changes: Any) -> None:
    rng = np.random.default_rng(0)
    with (directory / "metrics.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, COLUMNS)
        table.writeheader()
        table.writerows({"step": i, "phase": "pretrain", "loss": 0.1} for i in range(pretrain))
        for phase, number in (("optimise", optimise), ("evaluate", evaluate)):
            for i in range(number):
                row = {"energy": -8.07 + 0.1 * math.exp(-i) + 0.005 * rng.normal(), "stderr": 0.005, "variance": 0.007}
                table.writerow({"step": i, "phase": phase} | row | changes)


def write_result(directory: Path) -> None:
    result = {
        "status": "ok",
        "method": "ferminet",
        "system": {"formula": "LiH"},
        "energy": {"value": -8.07, "stderr": 0.0002},
        "reference": {"value": -8.0705, "source": "a very long source " * 10, "difference_mhartree": 0.5},
        "vmc": {"hartree_fock": {"energy_hartree": -7.98733, "basis": "cc-pVQZ"}},
    }
    (directory / "result.json").write_text(json.dumps(result))


@pytest.mark.parametrize("finished", [True, False])
@pytest.mark.parametrize(
    "phases",
    [
        {"pretrain": 5, "optimise": 100, "evaluate": 60},
        {"optimise": 3},
        {"optimise": 1, "evaluate": 1},
        {"evaluate": 40},
        {"optimise": 10, "variance": 0.0, "stderr": 0.0, "energy": -0.5},
        {"optimise": 10, "variance": "", "stderr": "nan"},
    ],
)
# Garbage of earlier tests, such as PySCF's temporary files, may be collected while a picture is drawn.
@pytest.mark.filterwarnings("error", "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_picture_is_drawn(phases: dict[str, Any], finished: bool, tmp_path: Path) -> None:
    write_metrics(tmp_path, **phases)
    if finished:
        write_result(tmp_path)
    path = plots.energy_curve(tmp_path)
    assert path == tmp_path / "energy.png" and path.read_bytes().startswith(b"\x89PNG")


def test_runs_without_data_draw_nothing(tmp_path: Path) -> None:
    for write in (lambda: None, lambda: write_metrics(tmp_path, pretrain=3)):
        write()
        assert not plots.has_energies(tmp_path)
        with pytest.raises(InputError, match="records no energies"):
            plots.energy_curve(tmp_path)


def test_metrics_of_a_killed_and_resumed_run(tmp_path: Path) -> None:
    lines = ["step,phase,energy,stderr", "0,evaluate,3,1", "0,optimise,1,1", "1,optimise,9,1", "1,optimise,2,1"]
    (tmp_path / "metrics.csv").write_text("\n".join([*lines, "oops", "2,optimise,nan,1", "1,evaluate,4"]))
    rows = metrics_table.read_metrics(tmp_path)
    assert [(row["phase"], row["step"]) for row in rows] == [
        ("optimise", 0), ("optimise", 1), ("optimise", 2), ("evaluate", 0),
    ]  # fmt: skip
    assert [row["energy"] for row in rows[:2]] == [1.0, 2.0] and math.isnan(rows[2]["energy"])


def test_smoothing_ignores_single_bad_iterations() -> None:
    energy = np.full(300, -8.0)
    energy[[5, 100]] = -20.0, np.nan
    curve = plots.Curve("optimise", np.arange(300.0), energy, np.full(300, 0.01), np.ones(300))
    smooth = plots._smooth(curve)
    assert np.all(smooth.energy == -8.0)
    assert smooth.error[-150] == pytest.approx(0.01 / math.sqrt(11), rel=0.1)


def test_a_broadened_spectrum_keeps_its_intensities(tmp_path: Path) -> None:
    axis = np.linspace(-20000.0, 25000.0, 200_001)
    curve = broadened(axis, np.array([1600.0, 3800.0]), np.array([50.0, 20.0]), 10.0)
    assert float(curve.sum() * (axis[1] - axis[0])) == pytest.approx(70.0, rel=1e-3)
    assert float(curve.max()) == pytest.approx(50.0 / (10.0 * np.pi), rel=1e-3)
    document = {"status": "ok", "method": "toy", "frequencies_cm1": [-300.0, 1600.0]}
    for name, more in (("without", {}), ("with", {"ir_intensities_km_per_mol": [1.0, 50.0]})):
        (tmp_path / name).mkdir()
        (tmp_path / name / "result.json").write_text(json.dumps(document | more))
        spectrum_plot.draw(tmp_path / name, tmp_path / f"{name}.png")
    assert (tmp_path / "with.png").is_file() and not (tmp_path / "without.png").exists()


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """List of the drawn figures, in their order."""
    figures: list[Any] = []

    @contextlib.contextmanager
    def picture(*_: Any) -> Iterator[Any]:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        figure = Figure(layout="constrained")
        FigureCanvasAgg(figure)
        figures.append(figure)
        yield figure
        figure.canvas.draw()

    for module in (comparison, potential_training, scan, thermochemistry):
        monkeypatch.setattr(module, "picture", picture)
    return figures


def compared(directory: Path, kind: str, *quantities: dict[str, dict[str, float]], **more: Any) -> None:
    labels = list(quantities[0])
    methods = [{"label": label, "cpu_s": 1.0 + index, "peak_memory_bytes": 2e8} for index, label in enumerate(labels)]
    rows = [{"label": f"q{n}", "coordinate": 1.0 + n, "values": each} for n, each in enumerate(quantities)]
    document = {
        "title": "a comparison",
        "against": labels[0],
        "kind": kind,
        "methods": methods,
        "quantities": rows,
    } | more
    (directory / "result.json").write_text(json.dumps({"status": "ok", "comparison": document}))
    comparison.draw(directory, directory / "comparison.png")


def test_a_comparison_draws_no_panel_without_data(tmp_path: Path, drawn: list[Any]) -> None:
    alone = {"hf": {"energy_hartree": -1.0}, "own zero": {"energy_hartree": -3.0}}
    compared(tmp_path, "molecule", alone)
    compared(tmp_path, "scan", alone, {"hf": {"energy_hartree": -0.9}, "own zero": {}}, axis="bond / Å")
    compared(tmp_path, "molecule", {"hf": {"energy_hartree": -1.0}, "mp2": {"difference_hartree": -0.1}})
    assert [len(figure.axes) for figure in drawn] == [1, 2, 2]
    assert all(axes.has_data() and np.ptp(axes.get_xlim()) > 1e-3 for figure in drawn for axes in figure.axes)


def test_numbers_of_bars_are_beyond_their_error_bars(tmp_path: Path, drawn: list[Any]) -> None:
    values = {"energy_hartree": 0.02, "std_hartree": 0.01}
    compared(tmp_path, "reaction", {"hf": values, "ani": {**values, "energy_hartree": -0.02}})
    texts = {text.get_text(): text.xy[1] for text in drawn[0].axes[0].texts}
    assert texts["12.6"] == pytest.approx(627.509 * 0.03, abs=0.1)
    assert texts["-12.6"] == pytest.approx(-627.509 * 0.03, abs=0.1)


def test_thermochemistry_has_a_linear_axis_numbers_and_a_title(tmp_path: Path, drawn: list[Any]) -> None:
    rows = [{"name": name, "level": "hf", "error_hartree": error} for name, error in (("H2O", 0.14), ("CO2", -0.017))]
    document = {"formation": rows, "reactions": [], "levels": ["hf"], "unit": "kcal/mol"}
    (tmp_path / "result.json").write_text(json.dumps({"status": "ok", "thermochemical": document}))
    thermochemistry.draw(tmp_path, tmp_path / "thermochemistry.png")
    (axes,) = drawn[0].axes
    assert axes.get_xscale() == "linear" and drawn[0].get_suptitle()
    assert [text.get_text() for text in axes.texts] == ["+87.9", "-10.7"]


def test_training_has_whole_epochs_a_labelled_loss_and_no_single_formula(tmp_path: Path, drawn: list[Any]) -> None:
    rows = "epoch_done,loss,validation_loss,learning_rate,validation_energy_mae_kcal_mol\n"
    rows += "".join(f"{n},{0.5**n},{0.6**n},0.001,{2.0**-n}\n" for n in range(1, 4))
    (tmp_path / "metrics.csv").write_text(rows)
    (tmp_path / "result.json").write_text(json.dumps({"status": "ok", "method": "ani", "system": {"formula": "H2O"}}))
    potential_training.draw(tmp_path)
    above, below, _ = drawn[0].axes
    assert above.get_ylabel() == "loss" and "H2O" not in drawn[0].get_suptitle()
    assert all(float(tick).is_integer() for tick in below.get_xticks())
    for axes in (above, below):  # the legend stands above the curves
        box = axes.get_legend().get_window_extent(drawn[0].canvas.get_renderer())
        assert box.y0 >= axes.get_window_extent().y1 - 1


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        (np.linspace(180, 540, 7), np.linspace(-180, 180, 7)),
        (np.linspace(-45, 315, 7), np.linspace(-45, 315, 7)),
        (np.linspace(-150, -240, 4), np.linspace(210, 120, 4)),
        (np.array([60, 180, 300, 420]), np.array([-180, -60, 60, 60])),
    ],
)
def test_dihedrals_are_drawn_within_a_turn(values: np.ndarray, shown: np.ndarray) -> None:
    order, degrees = scan.turned(values)
    assert degrees == pytest.approx(shown)
    assert np.cos(np.radians(values[order])) == pytest.approx(np.cos(np.radians(degrees)))


@pytest.mark.parametrize("name", ["a$\\frac{$", "$", "$^$", "\x1b[31m", "漢"])
def test_any_name_can_be_drawn(name: str, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    from fusion.plotting import picture

    with picture(tmp_path / "x.png") as figure:
        figure.suptitle(name)
        figure.subplots().set_xlabel("kcal mol$^{-1}$")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")
    assert not [warning for warning in recwarn.list if warning.category is not ResourceWarning]


@pytest.mark.parametrize(
    ("result", "text"),
    [
        ({"method": "dft", "settings": {"method": {"xc": "pbe", "basis": "def2-svp"}}}, "H2O · pbe/def2-svp"),
        ({"method": "hf", "settings": {"method": {"xc": None, "basis": "sto-3g"}}}, "H2O · hf/sto-3g"),
        ({"method": "d3", "settings": {"method": {"xc": "pbe"}}}, "H2O · d3"),
        ({"method": "ani", "weights": {"name": "ani-2x"}}, "H2O · ani-2x"),
    ],
)
def test_a_title_states_functional_and_basis(tmp_path: Path, result: dict[str, Any], text: str) -> None:
    assert plotting.title(result | {"status": "ok", "system": {"formula": "H2O"}}, tmp_path) == text


WATER = np.array([[0.1, 0.0, 0.3], [0.1, 1.4, 1.4], [0.1, -1.4, 1.4]])


def water(values: np.ndarray) -> cube.Cube:
    """A density on a grid of 30 x 40 x 40 points around water in the plane x = 0.1."""
    numbers = np.array([8, 1, 1])
    return cube.Cube(values, np.array([-2.9, -3.9, -3.9]), 0.2 * np.eye(3), numbers, 1.0 * numbers, WATER)


@pytest.mark.parametrize(
    "names", [("density.cube",), ("pair_density.csv",), ("density.cube", "pair_density.csv"), ("empty", "density.cube")]
)
def test_densities_are_drawn(names: tuple[str, ...], tmp_path: Path) -> None:
    values = np.zeros((30, 40, 40)) if "empty" in names else np.random.default_rng(0).random((30, 40, 40))
    contents = {
        "density.cube": cube.content(water(values), "", "").decode(),
        "pair_density.csv": "u_bohr,h_parallel_per_bohr3,h_parallel_stderr_per_bohr3,h_antiparallel_per_bohr3,"
        "h_antiparallel_stderr_per_bohr3\n0.5,0,,1,0.5\n1.5,0.1,0.1,0.5,0.1\n",
    }
    for name in contents.keys() & set(names):
        (tmp_path / name).write_text(contents[name])
    assert density_plot.draw(tmp_path) == tmp_path / "density.png"
    assert (tmp_path / "density.png").read_bytes().startswith(b"\x89PNG")


def test_without_densities_nothing_is_drawn(tmp_path: Path) -> None:
    assert density_plot.draw(tmp_path) is None
    assert not any(tmp_path.iterdir())


def test_the_plane_of_a_density_has_all_nuclei_of_water() -> None:
    centre, axes = density_plot.plane(WATER)
    np.testing.assert_allclose((WATER - centre) @ axes[2], 0.0, atol=1e-12)
    np.testing.assert_allclose(axes @ axes.T, np.eye(3), atol=1e-12)


@pytest.mark.parametrize("positions", [np.zeros((1, 3)), np.array([[0.0, 0.0, -3.0], [0.0, 0.0, 4.0]])])
def test_the_plane_of_an_atom_or_a_line_is_that_of_z_and_x(positions: np.ndarray) -> None:
    np.testing.assert_allclose(density_plot.plane(positions)[1], np.eye(3)[[2, 0, 1]], atol=1e-12)


def test_a_section_shows_the_density_where_it_is() -> None:
    """The only voxel with electrons is that of a proton."""
    values = np.zeros((30, 40, 40))
    field = water(values)
    values[tuple(np.rint((WATER[1] - field.origin) / 0.2).astype(int))] = 1.0
    shown, (x, y) = density_plot.section(field)
    centre, axes = density_plot.plane(WATER)
    rows, columns = np.nonzero(shown == 1.0)
    place = centre + x[columns].mean() * axes[0] + y[rows].mean() * axes[1]
    np.testing.assert_allclose(place, WATER[1], atol=0.15)


def test_a_section_is_empty_outside_of_the_grid() -> None:
    """The axes of the plane are turned against those of the grid, whose corners do not fill the picture."""
    field = water(np.ones((30, 40, 40)))
    turned = cube.Cube(field.values, field.origin, field.steps, field.numbers[:2], field.charges[:2], WATER[:2])
    shown, _ = density_plot.section(turned)
    assert np.isnan(shown[0, 0]) and shown[len(shown) // 2, len(shown) // 2] == 1.0
