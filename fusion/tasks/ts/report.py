"""Terminal report of energies along a coordinate or a path."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fusion.console import units as printed_units
from fusion.console.format import with_error
from fusion.console.units import relative

_SHOWN = 40  # rows of a table: one screen


def scan_rows(scan: dict[str, Any]) -> Iterator[list[str]]:
    """Yield lines about a scan from the `scan` of `result.json`."""
    energies, unit = scan["energies_hartree"], scan["unit"]
    values = next(scan[key] for key in ("values_degree", "values_angstrom") if key in scan)
    key = "degree" if "values_degree" in scan else "angstrom"
    zero = scan["minimum"]["energy_hartree"]
    spreads = scan.get("relative_std_hartree") or scan.get("energies_std_hartree") or [None] * len(values)
    errors = scan.get("energies_stderr_hartree") or [None] * len(values)
    spins = scan.get("spin_squared") or [None] * len(values)
    spin_errors = scan.get("spin_squared_stderr") or [None] * len(values)
    yield ["scanned", scan["label"], f"{len(values)} points, {'relaxed' if scan['relaxed'] else 'rigid'}"]
    stride = -(-len(values) // _SHOWN)
    shown = printed_units.of_relative()
    yield [f"  {unit:>8}", "  ".join(f"{each.symbol:>10}" for each in shown)]
    for index in range(0, len(values), stride):
        if energies[index] is None:
            yield [f"  {values[index]:8.2f}", "no energy"]
            continue
        text = "  ".join(f"{(energies[index] - zero) * each.factor:10.{each.decimals + 1}f}" for each in shown)
        if errors[index] is not None:
            text += f"   ± {shown[0].text(errors[index])} statistical"
        if spreads[index] is not None:
            text += f"   ± {shown[0].text(spreads[index])} model"
        if spins[index] is not None:
            text += f"   ⟨S²⟩ {with_error(spins[index], spin_errors[index], decimals=3)}"
        yield [f"  {values[index]:8.2f}", text + ("" if scan["converged"][index] else "   NOT CONVERGED")]
    for name in ("minimum", "maximum"):
        place = scan[name]
        height = relative(place["energy_hartree"] - zero) if name == "maximum" else printed_units.energy(zero)
        error = scan.get("barrier_stderr_hartree") if name == "maximum" else None
        statistical = [] if error is None else [f"± {shown[0].text(error)} statistical"]
        yield ["lowest" if name == "minimum" else "highest", f"at {place[key]:.2f} {unit}", height, *statistical]
    if scan.get("lowest_within_noise"):
        others = ", ".join(f"{value:.2f}" for value in scan["lowest_within_noise"][:8])
        remark = "the lowest of noisy energies is too low: heights above it are too large by about an error bar"
        yield ["", f"points at {others} {unit} are as low within the noise", remark]
    places = scan.get("stationary") or []
    for kind in ("minimum", "maximum"):
        extrema = [place for place in places if place["kind"] == kind]
        if len(extrema) > 1:
            heights = [shown[0].number(place["energy_hartree"] - zero) for place in extrema]
            text = ", ".join(f"{place[key]:g} ({z})" for place, z in zip(extrema[:8], heights[:8], strict=True))
            yield ["minima" if kind == "minimum" else "maxima", f"at {text} {unit} ({shown[0].symbol})"]
    if scan.get("hysteresis_hartree") is not None:
        text, error = relative(scan["hysteresis_hartree"]), scan.get("hysteresis_stderr_hartree")
        text += "" if error is None else f" ± {shown[0].text(error)} statistical"
        yield ["hysteresis", f"at {scan[f'hysteresis_at_{key}']:.2f} {unit}", f"{text} between the two directions"]


def reaction_rows(document: dict[str, Any]) -> Iterator[list[str]]:
    """Yield lines about a transition state, its barriers and its path."""
    from fusion.tasks.vibrations.report import movers, wavenumber

    saddle, path, barriers, irc = (document.get(key) for key in ("transition_state", "path", "barriers", "irc"))
    if path:
        verdict = "converged" if path["converged"] else "not converged"
        top = max(path["energies_hartree"]) - path["energies_hartree"][0]
        yield ["path", f"{path['images']} images, {path['steps']} steps", verdict, f"top at {relative(top)}"]
    if saddle and "imaginary_cm1" in saddle:
        yield ["imaginary", f"{wavenumber(saddle['imaginary_cm1'])} cm⁻¹", f"moves {movers(saddle['movers'])}"]
    if saddle:
        next_modes = [wavenumber(value) for value in saddle["frequencies_cm1"][1:4]]
        yield ["next modes", f"{', '.join(next_modes)} cm⁻¹", f"{saddle['steps']} steps, {saddle['hessians']} Hessians"]
    if barriers:
        energies = {name: barriers[f"{name}_hartree"] for name in ("forward", "reverse", "reaction")}
        for name, energy in energies.items():
            label = "reaction energy" if name == "reaction" else f"barrier {name}"
            first, *others = printed_units.of_relative()
            columns = [unit.text(energy) for unit in others]
            if name != "reaction" and energy < 0.0:
                columns.append("NO BARRIER: negative")
            if f"{name}_std_hartree" in barriers:
                columns.append(f"± {first.text(barriers[f'{name}_std_hartree'])} model")
            if "with_zero_point" in barriers:
                with_zero_point = barriers["with_zero_point"][f"{name}_hartree"]
                columns.append(f"with zero-point energy {first.text(with_zero_point)}")
            yield [label, first.text(energy), *columns]
    if irc:
        points = f"{irc['backward']['points']} + {irc['forward']['points']} points"
        yield ["downhill", points, irc["connects"]]
