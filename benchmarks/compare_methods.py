"""Learned and conventional methods compared by `fusion task=compare`.

`python benchmarks/compare_methods.py CASE DIRECTORY [STRUCTURES]`; writes compare_CASE.md and .png. DIRECTORY keeps the
runs, so that an interrupted case resumes. STRUCTURES holds what two cases need: the geometries of Kinal and Piecuch,
J. Phys. Chem. A 111, 734 (2007), for bicyclobutane; E-1,2-di(biphenyl-4-yl)-1,2-diphenylethene for c38h28. Basis sets
are small so that a laptop does it in minutes (c38h28: in an hour and a half, with 9 GB).
"""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from pathlib import Path

from ase.data.s22 import create_s22_system

from runs import machine


def _same(basis: str, *methods: str) -> str:
    """List of `methods` with one basis for all that have any."""
    learned = ("ani", "ferminet")
    entries = []
    for method in methods:
        name, _, settings = method.partition(" ")
        more = f", {settings}" if settings else ""
        needed = "" if name.startswith(learned) else f", basis: {basis}"
        entries.append(f"{{method: {name}{needed}{more}}}" if needed or more else name)
    return f"methods=[{', '.join(entries)}]"


B3LYP, WB97X = "dft xc: b3lyp, label: b3lyp", "dft xc: wb97x, label: wb97x"
FERMINET = "ferminet optimisation.steps: 1000, evaluation.steps: 500, pretraining.steps: 300"


def words(case: str, directory: Path, structures: Path) -> list[str]:
    """Command-line arguments of a case."""
    if case == "water":
        methods = ("hf", B3LYP, WB97X, "mp2", "ccsd", "ccsd_t", "dm21", "ani-2x", "ani-1ccx", FERMINET)
        return ["system=h2o", _same("cc-pvdz", *methods), "task.against=ccsd_t"]
    if case == "water_atomisation":
        methods = ("hf", B3LYP, WB97X, "mp2", "ccsd", "ccsd_t", "dm21", "ani-2x")
        return ["system=h2o", "task.atomisation=true", _same("cc-pvtz", *methods), "task.against=ccsd_t"]
    if case == "ethanol_torsion":
        methods = ("hf", B3LYP, WB97X, "mp2", "ccsd_t", "ani-2x", "ani-1ccx")
        scan = "task.scan={atoms: [4,3,2,1], start: 0, stop: 180, points: 7}"
        return ["system=ethanol", scan, "task.forces=false", _same("6-31g*", *methods), "task.against=ccsd_t"]
    if case == "nitrogen":
        methods = ("hf", B3LYP, "ccsd", "ccsd_t", "fci", "dm21")
        scan = "task.scan={atoms: [1,2], values: [0.95,1.1,1.25,1.4,1.6,1.8,2.0]}"
        return ["system=n2", scan, "task.forces=false", _same("sto-3g", *methods), "task.against=fci"]
    if case == "bicyclobutane":
        start = structures / "bicyclobutane.xyz"
        ends = ("bicbut_con_TS", "bicbut_dis_TS", "butadiene_trans")
        reactions = ", ".join(f"{start} -> {structures / end}.xyz" for end in ends)
        methods = ("hf", B3LYP, WB97X, "mp2", "ccsd_t", "ani-2x", "ani-1ccx")
        return [f"task.reaction=[{reactions}]", "task.forces=false", _same("6-31g*", *methods), "task.against=ccsd_t"]
    if case == "water_dimer":
        file = directory / "water_dimer.xyz"
        create_s22_system("Water_dimer").write(file)
        methods = ("hf", B3LYP, "dft xc: b3lyp, dispersion: d3bj, label: b3lyp-d3", WB97X, "mp2", "ccsd_t")
        listed = _same("aug-cc-pvdz", *methods, "dm21", "ani-2x", "ani-1ccx")
        return [f"system={file}", "task.fragments=auto", "task.forces=false", listed, "task.against=ccsd_t"]
    if case == "c38h28":
        fitted = "basis: def2-svp, density_fit: true, conv_tol: 1.0e-7"
        b3lyp = f"{{method: dft, xc: b3lyp, label: b3lyp, {fitted}}}"
        listed = f"methods=[{b3lyp}, {{method: dm21, {fitted}, memory_mb: 9000}}, ani-2x]"
        return [f"system={structures}/C38H28_E.xyz", listed, "task.forces=false"]
    raise SystemExit(f"no case {case}")


NOTES = {
    "water": "All in cc-pVDZ, forces in mHa/bohr; the potentials in the basis of their training. FermiNet: the "
    "small network after 1000 steps, not at its end; it has no basis, so it may lie below CCSD(T) in a small one.",
    "water_atomisation": "All in cc-pVTZ; the geometry is that of experiment, without zero-point energy. "
    "Experiment without it: 232.6 kcal/mol.",
    "ethanol_torsion": "6-31G*, rigid rotation of the hydroxyl group about C-O; the potentials at their own level.",
    "nitrogen": "STO-3G, spin-restricted: the errors are those of the methods against all determinants of this basis.",
    "bicyclobutane": "6-31G*, spin-restricted, no zero-point energies. Literature, diffusion Monte Carlo (Berner and "
    "Lüchow 2010): 40.4 (conrotatory), 58.6 (disrotatory), -27.9 (butadiene) kcal/mol. DM21: "
    "dm21_bicyclobutane.md. At the disrotatory transition state, a biradical, CCSD(T) itself fails.",
    "c38h28": "def2-SVP (672 functions), grid level 3, density fitting of the Coulomb matrix; the potential at its own "
    "level. DM21 starts at a B3LYP density of its own, which counts.",
    "water_dimer": "aug-cc-pVDZ, S22 geometry. S22 reference, CCSD(T) at the basis-set limit: -5.02 kcal/mol.",
}


def main(case: str, directory: Path, structures: Path) -> None:
    """Run the case, put its table and picture beside this script."""
    directory.mkdir(parents=True, exist_ok=True)
    run = directory / case
    given = words(case, directory, structures)
    place = ("task.jobs=1", f"hydra.run.dir={run}", "ckpt=last")
    command = [sys.executable, "-m", "fusion", "task=compare", *given, *place]
    done = subprocess.run(command, check=False)
    if not (run / "comparison.md").is_file():
        raise SystemExit(done.returncode)
    target = Path(__file__).with_name(f"compare_{case}.md")
    title, _, rest = (run / "comparison.md").read_text().partition("\n")
    shown = " ".join(shlex.quote(word.replace(f"{structures}/", "").replace(f"{directory}/", "")) for word in given)
    about = (
        f"`fusion task=compare {shown}`\n\n{NOTES[case]} {machine()}; other programs ran beside: CPU times, not wall."
    )
    target.write_text(f"{title}\n\n{about}\n{rest}")
    shutil.copy(run / "comparison.png", target.with_suffix(".png"))
    print(target.read_text())


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]).absolute(), Path(sys.argv[3] if len(sys.argv) > 3 else ".").absolute())
