"""All members' networks of one element on a block of atoms, and the block's energies, compiled by numba."""

from __future__ import annotations

import numpy as np

from fusion.compilation import INNER, njit
from fusion_ani.kernels import backward, forward
from fusion_ani.products import STEP, panel_of, product
from fusion_ani.simd import OPTIONS, exp


@njit(**OPTIONS, **INNER)
def _celu(y, size, alpha):  # type: ignore[no-untyped-def]
    real = y.dtype.type
    scale = real(1.0) / alpha
    for u in range(size):
        value = y[u]
        low = value if value < real(0.0) else real(0.0)
        y[u] = (value - low) + alpha * (exp(low * scale) - real(1.0))


@njit(**OPTIONS, **INNER)
def _slope(y, alpha):  # type: ignore[no-untyped-def]
    """Derivative of CELU where its value is y."""
    slope = y / alpha + type(y)(1.0)
    return type(y)(1.0) if slope > type(y)(1.0) else slope


@njit(**OPTIONS, **INNER)
def networks(x, line, atoms, panels, packed, differentiate, energies):  # type: ignore[no-untyped-def]
    """Write the members' outputs for lines of `x` to energies[member, atom]; replace `x` by the gradient of their mean.

    `panels` are the panels of the first layers' inputs that the lines of `x` hold. `packed`: numbers, their places and
    widths as in `fusion_ani.ensemble.Packed`, and CELU's alpha.
    """
    numbers, places, widths, alpha = packed
    real = x.dtype.type
    members, layers = len(places), len(widths) - 1
    zero, width = np.int64(0), np.int64(panel_of(x))  # no literals, for each of which `product` is compiled anew
    rows = len(x) // line
    all_panels, nothing = np.arange(widths.max() // width), np.zeros(width, real)
    values = [np.empty(rows * widths[layer + 1], real) for layer in range(layers)]
    spare = np.empty(rows * widths[1:].max(), real)
    back = np.zeros(len(x) if differentiate else 0, real)
    for member in range(members):
        source, length, ins = x, line, panels
        for layer in range(layers):
            size, y = widths[layer + 1], values[layer]
            weight, _, bias = places[member, layer]
            every = all_panels[: size // width]
            depth = widths[layer] * width
            product(y, size, numbers, bias, zero, width, source, length, rows, numbers, weight, depth, ins, every)
            _celu(y, rows * size, alpha)
            source, length, ins = y, size, every
        last, _, bias = places[member, layers]
        for row in range(len(atoms)):
            total = numbers[bias]
            for column in range(length):
                total += source[row * length + column] * numbers[last + column]
            energies[member, atoms[row]] = total
        if not differentiate:
            continue
        share = real(1.0) / real(members)
        for row in range(rows):
            for column in range(length):
                value = source[row * length + column]
                source[row * length + column] = share * numbers[last + column] * _slope(value, alpha)
        for layer in range(layers - 1, 0, -1):
            size, y = widths[layer], values[layer - 1]
            weight, depth = places[member, layer, 1], length * width
            every = all_panels[: size // width]
            product(spare, size, nothing, zero, zero, zero, source, length, rows, numbers, weight, depth, ins, every)
            for u in range(rows * size):
                y[u] = spare[u] * _slope(y[u], alpha)
            source, length, ins = y, size, every
        weight, depth = places[member, 0, 1], length * width
        product(back, line, back, zero, line, width, source, length, rows, numbers, weight, depth, ins, panels)
    for u in range(len(back)):
        x[u] = back[u]


@njit(**OPTIONS)
def energies_of(  # type: ignore[no-untyped-def]
    vectors, first, other, species, atoms, constants, columns, packed, differentiate, energies, gradient
):
    """Write energies (M, N) of `atoms`, all of one element, and the gradient (P, 3) of the members' mean.

    `columns`: panels of inputs that can differ from zero, radial offsets by element, angular offsets by pair.
    """
    panels, radial_places, places = columns
    line = len(panels) * panel_of(vectors)
    x = np.zeros((len(atoms) + STEP - 1) // STEP * STEP * line, vectors.dtype)
    forward(vectors, first, other, species, atoms, constants, radial_places, places, x, line)
    networks(x, line, atoms, panels, packed, differentiate, energies)
    if differentiate:
        backward(vectors, first, other, species, atoms, constants, radial_places, places, x, line, gradient)


@njit(**OPTIONS)
def sums(energies, system, systems):  # type: ignore[no-untyped-def]
    """Sums (M, B), float64, of the atoms' energies (M, N) over each system."""
    result = np.zeros((len(energies), systems))
    for member in range(len(energies)):
        for atom in range(len(system)):
            result[member, system[atom]] += np.float64(energies[member, atom])
    return result
