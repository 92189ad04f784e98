"""Arithmetic of numba's kernels: functions whose loops the compiler can vectorise, and products of short vectors."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from llvmlite import ir  # type: ignore[import-untyped]
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic, overload

from fusion.compilation import INNER, njit

# Without nnan and ninf: numbers that are not finite must stay so.
# numba compiles a function anew for each literal that it is called with, also for the first value of a counter:
# np.int64(counter) and np.bool_(flag) prevent it.
OPTIONS: dict[str, Any] = {
    "nogil": True,
    "cache": True,
    "fastmath": {"reassoc", "contract", "nsz", "arcp", "afn"},
    "error_model": "numpy",
}
INT = ir.IntType(64)
_LAYOUT = {types.float64: (ir.IntType(64), 52, 1023), types.float32: (ir.IntType(32), 23, 127)}


@intrinsic
def _nearest(context: Any, x: Any) -> Any:
    """Round to the nearest integer, as a floating-point number, in one vector instruction."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        function = builder.module.declare_intrinsic("llvm.rint", [arguments[0].type])
        return builder.call(function, arguments)

    return x(x), generate


@intrinsic
def _power_of_two(context: Any, n: Any) -> Any:
    """2^n of a floating-point integer, by its bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer, mantissa, bias = _LAYOUT[n]
        shifted = builder.add(builder.fptosi(arguments[0], integer), ir.Constant(integer, bias))
        return builder.bitcast(builder.shl(shifted, ir.Constant(integer, mantissa)), arguments[0].type)

    return n(n), generate


@intrinsic
def _exponent(context: Any, x: Any) -> Any:
    """The integer n with 2^n <= x < 2^(n + 1), as a floating-point number, by the bits."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        integer, mantissa, bias = _LAYOUT[x]
        bits = builder.lshr(builder.bitcast(arguments[0], integer), ir.Constant(integer, mantissa))
        return builder.sitofp(builder.sub(bits, ir.Constant(integer, bias)), arguments[0].type)

    return x(x), generate


_EXP = tuple(1.0 / math.factorial(n) for n in range(14))
_ARTANH = tuple(2.0 / (2 * n + 1) for n in range(11))
_COSINE = tuple((-1) ** n * math.pi ** (2 * n) / math.factorial(2 * n) for n in range(13))
_SINE = tuple((-1) ** n * math.pi ** (2 * n + 1) / math.factorial(2 * n + 1) for n in range(12))


@njit(**OPTIONS, **INNER)
def _series(x, coefficients):  # type: ignore[no-untyped-def]
    """sum_n coefficients[n] x^n."""
    real = type(x)
    p = real(0.0)
    for n in range(len(coefficients)):
        p = p * x + real(coefficients[len(coefficients) - 1 - n])
    return p


def exp(x: Any) -> Any:
    """exp(x) for x <= 0, accurate to rounding; exp(-87) for all smaller x."""


@overload(exp)
def _exp(x: Any) -> Any:
    single = x == types.float32
    terms = _EXP[:7] if single else _EXP
    # The rounding error of x / log 2 in float32 matters only for large |x|, where exp is negligible against one.
    high, low = (0.6931471805599453, 0.0) if single else (0.693145751953125, 1.4286068203094173e-06)

    def implementation(x: Any) -> Any:
        real = type(x)
        x = real(-87.0) if x < real(-87.0) else x
        n = _nearest(x * real(1.4426950408889634))
        r = (x - n * real(high)) - n * real(low)
        return _series(r, terms) * _power_of_two(n)

    return implementation


def log(x: Any) -> Any:
    """log(x) for x > 0, accurate to rounding: 2 artanh((m - 1) / (m + 1)) of the mantissa, m within sqrt(2) of one."""


@overload(log)
def _log(x: Any) -> Any:
    terms = _ARTANH[:5] if x == types.float32 else _ARTANH

    def implementation(x: Any) -> Any:
        real = type(x)
        n = _exponent(x * real(1.4142135623730951))
        m = x * _power_of_two(-n)
        s = (m - real(1.0)) / (m + real(1.0))
        return _series(s * s, terms) * s + n * real(0.6931471805599453)

    return implementation


def sine(x: Any) -> Any:
    """sin(pi x) for x within half of zero."""


@overload(sine)
def _sine(x: Any) -> Any:
    terms = _SINE[:7] if x == types.float32 else _SINE

    def implementation(x: Any) -> Any:
        return _series(x * x, terms) * x

    return implementation


def cosine(x: Any) -> Any:
    """cos(pi x) for x within half of zero."""


@overload(cosine)
def _cosine(x: Any) -> Any:
    terms = _COSINE[:8] if x == types.float32 else _COSINE

    def implementation(x: Any) -> Any:
        return _series(x * x, terms)

    return implementation


def splat(builder: Any, value: Any, lanes: int) -> Any:
    """Vector whose lanes all hold one number."""
    vector = ir.VectorType(value.type, lanes)
    single = builder.insert_element(ir.Constant(vector, ir.Undefined), value, ir.Constant(ir.IntType(32), 0))
    return _shuffle(builder, single, [0] * lanes)


def _shuffle(builder: Any, vector: Any, places: Sequence[int]) -> Any:
    mask = ir.Constant(ir.VectorType(ir.IntType(32), len(places)), [int(place) for place in places])
    return builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)


def lane_mask(builder: Any, count: Any, begin: int, lanes: int) -> Any:
    """Mask of the lanes, which stand for begin, begin + 1, ..., that are below `count`."""
    numbers = ir.Constant(ir.VectorType(INT, lanes), [begin + lane for lane in range(lanes)])
    return builder.icmp_signed("<", numbers, splat(builder, count, lanes))


class Memory:
    """Vectors in an array's memory, at places that need not be multiples of their length."""

    def __init__(self, context: Any, builder: Any, kind: Any, array: Any) -> None:
        self.builder, self.size = builder, kind.dtype.bitwidth // 8
        self.data = context.make_array(kind)(context, builder, array).data
        self.real = context.get_value_type(kind.dtype)

    def _at(self, place: Any, lanes: int) -> Any:
        pointer = self.builder.gep(self.data, [place])
        return self.builder.bitcast(pointer, ir.VectorType(self.real, lanes).as_pointer())

    def load(self, place: Any, lanes: int, mask: Any = None) -> Any:
        pointer = self._at(place, lanes)
        if mask is None:
            return self.builder.load(pointer, align=self.size)
        align, zero = ir.Constant(ir.IntType(32), self.size), ir.Constant(pointer.type.pointee, None)
        return self._masked("load", zero.type, zero.type, pointer, align, mask, zero)

    def scalar(self, place: Any) -> Any:
        return self.builder.load(self.builder.gep(self.data, [place]))

    def store(self, value: Any, place: Any, mask: Any = None) -> None:
        pointer = self._at(place, value.type.count)
        if mask is None:
            self.builder.store(value, pointer, align=self.size)
        else:
            align = ir.Constant(ir.IntType(32), self.size)
            self._masked("store", ir.VoidType(), value.type, value, pointer, align, mask)

    def _masked(self, operation: str, result: Any, vector: Any, *arguments: Any) -> Any:
        """LLVM's masked load or store, which does not touch the memory of the other lanes."""
        name = f"llvm.masked.{operation}.v{vector.count}f{8 * self.size}.p0"
        kind = ir.FunctionType(result, [argument.type for argument in arguments])
        return self.builder.call(cgutils.get_or_insert_function(self.builder.module, kind, name), arguments)


def fused(builder: Any, term: Any, *factors: Any) -> Any:
    """`term` plus the product of `factors`."""
    product = factors[0]
    for factor in factors[1:]:
        product = builder.fmul(product, factor, flags=("contract",))
    return builder.fadd(term, product, flags=("contract",))


def _vector(builder: Any, values: Any, count: int) -> Any:
    """Vector of a tuple's numbers."""
    vector = ir.Constant(ir.VectorType(values.type.element, count), ir.Undefined)
    for n in range(count):
        vector = builder.insert_element(vector, builder.extract_value(values, n), ir.Constant(ir.IntType(32), n))
    return vector


@intrinsic
def combine(context, out, at, constant, a, first, b, second):  # type: ignore[no-untyped-def]
    """out = constant + a first + b second for tuples `first` and `second` of one length."""
    signature = types.void(out, types.int64, out.dtype, out.dtype, first, out.dtype, second)
    lanes = len(first)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        memory = Memory(context, builder, signature.args[0], values[0])
        total, a, b = (splat(builder, values[n], lanes) for n in (2, 3, 5))
        total = fused(builder, total, a, _vector(builder, values[4], lanes))
        memory.store(fused(builder, total, b, _vector(builder, values[6], lanes)), values[1])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def outer(context, out, at, factor, first, second, start, stop, first_shape, second_shape):  # type: ignore[no-untyped-def]
    """out[s, z] += sum_t factor[t] first[t, s] second[t, z], t from start; s and z run over the shapes' lengths."""
    signature = types.void(out, types.int64, factor, first, second, types.int64, types.int64, first_shape, second_shape)
    s, z = len(first_shape), len(second_shape)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        kinds = signature.args
        out, factor, first, second = (Memory(context, builder, kinds[n], values[n]) for n in (0, 2, 3, 4))
        total = cgutils.alloca_once(builder, ir.VectorType(out.real, s * z))
        builder.store(out.load(values[1], s * z), total)
        with cgutils.for_range_slice(builder, values[5], values[6], ir.Constant(INT, 1)) as (t, _):
            of_t = splat(builder, factor.scalar(t), s)
            scaled = builder.fmul(first.load(builder.mul(t, ir.Constant(INT, s)), s), of_t, flags=("contract",))
            left = _shuffle(builder, scaled, [n // z for n in range(s * z)])
            right = _shuffle(builder, second.load(builder.mul(t, ir.Constant(INT, z)), z), list(range(z)) * s)
            builder.store(fused(builder, builder.load(total), left, right), total)
        out.store(builder.load(total), values[1])
        return context.get_dummy_value()

    return signature, generate


@intrinsic
def contract(  # type: ignore[no-untyped-def]
    context, source, at, first, d_first, second, d_second, start, stop, value, by_second, by_first, shape, second_shape
):
    """value[t] = sum_sz source[s, z] first[t, s] second[t, z], and the same with `d_second` or `d_first` instead."""
    numbers = types.int64, types.int64, value, by_second, by_first, shape, second_shape
    signature = types.void(source, types.int64, first, d_first, second, d_second, *numbers)
    s, z = len(shape), len(second_shape)

    def generate(context: Any, builder: Any, signature: Any, values: Any) -> Any:
        places = 0, 2, 3, 4, 5, 8, 9, 10
        memory = [Memory(context, builder, signature.args[n], values[n]) for n in places]
        source, first, d_first, second, d_second, value, by_second, by_first = memory
        values_ = source.load(values[1], s * z)
        with cgutils.for_range_slice(builder, values[6], values[7], ir.Constant(INT, 1)) as (t, _):
            sums = []
            for factor in (first, d_first):
                line = factor.load(builder.mul(t, ir.Constant(INT, s)), s)
                product = builder.fmul(values_, _shuffle(builder, line, [n // z for n in range(s * z)]))
                sums.append(_total(builder, product, s))
            line, d_line = (factor.load(builder.mul(t, ir.Constant(INT, z)), z) for factor in (second, d_second))
            for into, left, right in ((value, sums[0], line), (by_second, sums[0], d_line), (by_first, sums[1], line)):
                into.store(_total(builder, builder.fmul(left, right), z), t)
        return context.get_dummy_value()

    return signature, generate


def _total(builder: Any, vector: Any, parts: int) -> Any:
    """Sum of `parts` parts of one length."""
    lanes = vector.type.count // parts
    while parts % 2 == 0:
        parts //= 2
        vector = builder.fadd(*(_shuffle(builder, vector, range(n, n + parts * lanes)) for n in (0, parts * lanes)))
    pieces = [_shuffle(builder, vector, range(n * lanes, (n + 1) * lanes)) for n in range(parts)]
    total = pieces[0]
    for piece in pieces[1:]:
        total = builder.fadd(total, piece)
    return total
