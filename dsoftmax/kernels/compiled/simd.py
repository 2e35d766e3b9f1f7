"""SIMD lanes as one value inside numba functions: loads, arithmetic, exp and log1p.

numba has no vector type. It leaves to LLVM whether a loop over an array becomes vector
instructions. A `Vector` is LLVM's own ``<lanes x float>``: it lives in a register, and ``a * b``
is one instruction. Its width is fixed in bytes for all processors, so the order of every sum
follows from the dtype. LLVM cuts a vector into those of the processor.

Conventions
-----------
An array argument is flat and contiguous. A place in it is an element number: ``load(a, i)`` is
``a[i : i + lanes]``, unaligned and unchecked. ``tag`` is an array of any length that has the
dtype of the numbers at an address.

References
----------
exp: Cody and Waite (1980), Software Manual for the Elementary Functions, chapter 6, with the
Taylor polynomial instead of the rational one. log1p: W. Kahan's correction for the part that 1 +
u rounds off; the logarithm is the atanh series.
"""

import math
import operator
from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.datamodel import PrimitiveModel
from numba.core.typing.templates import ConcreteTemplate, infer_global, signature
from numba.extending import intrinsic, lower_builtin, overload, register_model

from dsoftmax.kernels.compiled.shapes import VECTOR_BYTES
from dsoftmax.kernels.softmax import LOWEST


class Vector(types.Type):
    """The numba type of a vector of floats."""

    def __init__(self, dtype: Any) -> None:
        self.dtype = dtype
        self.lanes = VECTOR_BYTES * 8 // dtype.bitwidth
        super().__init__(name=f"Vector({dtype} x {self.lanes})")


SINGLE, DOUBLE = Vector(types.float32), Vector(types.float64)
OF = {types.float32: SINGLE, types.float64: DOUBLE}


def llvm(kind: Vector) -> ir.VectorType:
    """Return the LLVM type of a vector."""
    return ir.VectorType(ir.FloatType() if kind == SINGLE else ir.DoubleType(), kind.lanes)


def whole(kind: Vector) -> ir.VectorType:
    """Return the LLVM type of integers of the same lanes and size."""
    return ir.VectorType(ir.IntType(kind.dtype.bitwidth), kind.lanes)


@register_model(Vector)
class _VectorModel(PrimitiveModel):
    def __init__(self, manager: Any, kind: Vector) -> None:
        super().__init__(manager, kind, llvm(kind))


def _register(op: Any, build: str) -> None:
    @infer_global(op)
    class _Typing(ConcreteTemplate):
        cases: ClassVar = [signature(kind, kind, kind) for kind in (SINGLE, DOUBLE)]

    @lower_builtin(op, Vector, Vector)
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return getattr(builder, build)(*args)


for _op, _build in (
    (operator.add, "fadd"),
    (operator.sub, "fsub"),
    (operator.mul, "fmul"),
    (operator.truediv, "fdiv"),
):
    _register(_op, _build)


# The parts of the intrinsics, here and in `dsoftmax.kernels.compiled.registers`.


def pointer(context: Any, builder: Any, array_type: Any, array: Any, place: Any) -> Any:
    """Return the address of an element."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [place], inbounds=True)


def load_at(builder: Any, kind: Vector, address: Any) -> Any:
    """Return the vector at the address of its first element."""
    return builder.load(
        builder.bitcast(address, llvm(kind).as_pointer()), align=kind.dtype.bitwidth // 8
    )


def store_at(builder: Any, kind: Vector, address: Any, value: Any) -> None:
    """Store a vector at the address of its first element."""
    builder.store(
        value, builder.bitcast(address, llvm(kind).as_pointer()), align=kind.dtype.bitwidth // 8
    )


def splat_of(builder: Any, kind: Vector, scalar: Any) -> Any:
    """Return a vector with the scalar in every lane."""
    first = builder.insert_element(
        ir.Constant(llvm(kind), ir.Undefined), scalar, ir.Constant(ir.IntType(32), 0)
    )
    return shuffled(builder, first, first, [0] * kind.lanes)


def shuffled(builder: Any, a: Any, b: Any, order: Iterable[int]) -> Any:
    """Return the named lanes of a followed by b."""
    order = list(order)
    return builder.shuffle_vector(
        a, b, ir.Constant(ir.VectorType(ir.IntType(32), len(order)), order)
    )


def fused(builder: Any, kind: Vector, a: Any, b: Any, c: Any) -> Any:
    """Return a·b + c, rounded once if the processor can."""
    vector = llvm(kind)
    name = f"llvm.fmuladd.v{kind.lanes}f{kind.dtype.bitwidth}"
    function = builder.module.globals.get(name)
    if function is None:
        function = ir.Function(builder.module, ir.FunctionType(vector, [vector] * 3), name)
    return builder.call(function, [a, b, c])


def across(builder: Any, kind: Vector, value: Any, join: Any) -> Any:
    """Return one number that joins all lanes, by halves."""
    lanes = kind.lanes
    while lanes > 1:
        lanes //= 2
        low = shuffled(builder, value, value, range(lanes))
        value = join(low, shuffled(builder, value, value, range(lanes, 2 * lanes)))
    return builder.extract_element(value, ir.Constant(ir.IntType(32), 0))


@intrinsic
def load(typing: Any, array: Any, place: Any) -> Any:
    """Load ``array[place : place + lanes]``."""
    kind = OF[array.dtype]

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return load_at(builder, kind, pointer(context, builder, sig.args[0], *args))

    return kind(array, types.intp), build


@intrinsic
def store(typing: Any, array: Any, place: Any, value: Any) -> Any:
    """Store ``array[place : place + lanes] = value``."""
    kind = OF[array.dtype]

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        store_at(builder, kind, pointer(context, builder, sig.args[0], *args[:2]), args[2])
        return context.get_dummy_value()

    return types.void(array, types.intp, kind), build


@intrinsic
def splat(typing: Any, array: Any, place: Any) -> Any:
    """Return ``array[place]`` in every lane."""
    kind = OF[array.dtype]

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return splat_of(builder, kind, builder.load(pointer(context, builder, sig.args[0], *args)))

    return kind(array, types.intp), build


@intrinsic
def constant(typing: Any, like: Any, number: Any) -> Any:
    """Return a number in every lane, with the type of ``like``."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        scalar = args[1] if sig.return_type == DOUBLE else builder.fptrunc(args[1], ir.FloatType())
        return splat_of(builder, like, scalar)

    return like(like, types.float64), build


@intrinsic
def lowest(typing: Any, like: Any) -> Any:
    """Return `dsoftmax.kernels.softmax.LOWEST` of the dtype in every lane."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return splat_of(
            builder, like, ir.Constant(llvm(like).element, LOWEST[np.dtype(like.dtype.name)])
        )

    return like(like), build


@intrinsic
def fma(typing: Any, a: Any, b: Any, c: Any) -> Any:
    """Return a·b + c."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return fused(builder, a, *args)

    return a(a, a, a), build


@intrinsic
def larger(typing: Any, a: Any, b: Any) -> Any:
    """Return the larger of two, lane by lane."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return a(a, a), build


@intrinsic
def where_equal(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """Return ``yes`` in the lanes in which a equals b, else ``no``."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("==", args[0], args[1]), args[2], args[3])

    return a(a, a, a, a), build


@intrinsic
def where_less(typing: Any, a: Any, b: Any, yes: Any, no: Any) -> Any:
    """Return ``yes`` in the lanes in which a is less than b, else ``no``."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", args[0], args[1]), args[2], args[3])

    return a(a, a, a, a), build


@intrinsic
def largest(typing: Any, value: Any) -> Any:
    """Return the largest of the lanes."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return across(
            builder,
            value,
            args[0],
            lambda a, b: builder.select(builder.fcmp_ordered(">", a, b), a, b),
        )

    return value.dtype(value), build


@intrinsic
def total(typing: Any, value: Any) -> Any:
    """Return the sum of the lanes."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return across(builder, value, args[0], builder.fadd)

    return value.dtype(value), build


def _layout(kind: Vector) -> tuple[int, int]:
    """Return the bits of the fraction, and the bias of the exponent."""
    return (23, 127) if kind == SINGLE else (52, 1023)


@intrinsic
def power_of_two(typing: Any, exponent: Any) -> Any:
    """Return 2ⁿ for whole n whose power is a normal number."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fraction, bias = _layout(exponent)
        bits = whole(exponent)
        # n + bias + 2^fraction has n + bias in its low bits. Every processor has this conversion
        # for vectors.
        magic = ir.Constant(llvm(exponent), [float(bias + 1.5 * 2**fraction)] * exponent.lanes)
        moved = builder.bitcast(builder.fadd(args[0], magic), bits)
        return builder.bitcast(
            builder.shl(moved, ir.Constant(bits, [fraction] * exponent.lanes)), llvm(exponent)
        )

    return exponent(exponent), build


def _split(builder: Any, kind: Vector, value: Any) -> tuple[Any, Any]:
    """Return the bits of m, and the integer n, with value = m·2ⁿ and m between √½ and √2."""
    fraction, bias = _layout(kind)
    bits, lanes = whole(kind), kind.lanes
    # The bits of √½.
    root_half = math.isqrt(2 ** (2 * fraction + 1)) - 2**fraction + ((bias - 1) << fraction)
    raw = builder.bitcast(value, bits)
    width = ir.Constant(bits, [fraction] * lanes)
    n = builder.ashr(builder.sub(raw, ir.Constant(bits, [root_half] * lanes)), width)
    return builder.sub(raw, builder.shl(n, width)), n


@intrinsic
def fraction_of(typing: Any, value: Any) -> Any:
    """Return m, with value = m·2ⁿ > 0 and m between √½ and √2."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.bitcast(_split(builder, value, args[0])[0], llvm(value))

    return value(value), build


@intrinsic
def exponent_of(typing: Any, value: Any) -> Any:
    """Return n of `fraction_of` as a float."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        fraction, _ = _layout(value)
        bits = whole(value)
        # The conversion of `power_of_two`, reversed.
        magic = ir.Constant(llvm(value), [1.5 * 2**fraction] * value.lanes)
        n = builder.add(_split(builder, value, args[0])[1], builder.bitcast(magic, bits))
        return builder.fsub(builder.bitcast(n, llvm(value)), magic)

    return value(value), build


def exp(v: Any) -> Any:
    """Return exp(v) for v ≤ 0, lane by lane, to 1.5 ulp.

    It is 0 below `dsoftmax.kernels.softmax.LOWEST`.
    """
    raise NotImplementedError


def log1p(u: Any) -> Any:
    """Return log(1 + u) for u ≥ 0, lane by lane, to 3 ulp."""
    raise NotImplementedError


LOG2_E = 1 / math.log(2)
# ln 2 in two parts. The first has so few digits that its product with any exponent is exact.
LN2_HIGH_32, LN2_LOW_32 = 0.693359375, -2.12194440054690583e-4
LN2_HIGH_64, LN2_LOW_64 = 6.93147180369123816490e-01, 1.90821492927058770002e-10
ROUND_32, ROUND_64 = 1.5 * 2**23, 1.5 * 2**52  # adding and subtracting rounds
C2, C3, C4, C5, C6, C7, C8, C9, C10, C11, C12, C13 = (1 / math.factorial(n) for n in range(2, 14))


def _exp32(v: Any) -> Any:
    one = constant(v, 1.0)
    rounding = constant(v, ROUND_32)
    least = lowest(v)
    x = larger(v, least)
    n = (x * constant(v, LOG2_E) + rounding) - rounding
    r = fma(n, constant(v, -LN2_LOW_32), fma(n, constant(v, -LN2_HIGH_32), x))
    e = fma(constant(v, C7), r, constant(v, C6))
    e = fma(e, r, constant(v, C5))
    e = fma(e, r, constant(v, C4))
    e = fma(e, r, constant(v, C3))
    e = fma(e, r, constant(v, C2))
    e = fma(e, r, one)
    e = fma(e, r, one)
    return where_less(v, least, constant(v, 0.0), e * power_of_two(n))


def _exp64(v: Any) -> Any:
    one = constant(v, 1.0)
    rounding = constant(v, ROUND_64)
    least = lowest(v)
    x = larger(v, least)
    n = (x * constant(v, LOG2_E) + rounding) - rounding
    r = fma(n, constant(v, -LN2_LOW_64), fma(n, constant(v, -LN2_HIGH_64), x))
    e = fma(constant(v, C13), r, constant(v, C12))
    e = fma(e, r, constant(v, C11))
    e = fma(e, r, constant(v, C10))
    e = fma(e, r, constant(v, C9))
    e = fma(e, r, constant(v, C8))
    e = fma(e, r, constant(v, C7))
    e = fma(e, r, constant(v, C6))
    e = fma(e, r, constant(v, C5))
    e = fma(e, r, constant(v, C4))
    e = fma(e, r, constant(v, C3))
    e = fma(e, r, constant(v, C2))
    e = fma(e, r, one)
    e = fma(e, r, one)
    return where_less(v, least, constant(v, 0.0), e * power_of_two(n))


def _log1p32(u: Any) -> Any:
    one = constant(u, 1.0)
    t = one + u
    lost = (u - (t - one)) / t
    n, f = exponent_of(t), fraction_of(t) - one
    s = f / (f + constant(u, 2.0))
    q = s * s
    series = fma(constant(u, 2 / 11), q, constant(u, 2 / 9))
    series = fma(series, q, constant(u, 2 / 7))
    series = fma(series, q, constant(u, 2 / 5))
    series = fma(series, q, constant(u, 2 / 3))
    series = fma(series * q, s, s + s)
    return fma(n, constant(u, LN2_HIGH_32), series + fma(n, constant(u, LN2_LOW_32), lost))


def _log1p64(u: Any) -> Any:
    one = constant(u, 1.0)
    t = one + u
    lost = (u - (t - one)) / t
    n, f = exponent_of(t), fraction_of(t) - one
    s = f / (f + constant(u, 2.0))
    q = s * s
    series = fma(constant(u, 2 / 23), q, constant(u, 2 / 21))
    series = fma(series, q, constant(u, 2 / 19))
    series = fma(series, q, constant(u, 2 / 17))
    series = fma(series, q, constant(u, 2 / 15))
    series = fma(series, q, constant(u, 2 / 13))
    series = fma(series, q, constant(u, 2 / 11))
    series = fma(series, q, constant(u, 2 / 9))
    series = fma(series, q, constant(u, 2 / 7))
    series = fma(series, q, constant(u, 2 / 5))
    series = fma(series, q, constant(u, 2 / 3))
    series = fma(series * q, s, s + s)
    return fma(n, constant(u, LN2_HIGH_64), series + fma(n, constant(u, LN2_LOW_64), lost))


@overload(exp, jit_options={"forceinline": True})
def _exp(v: Any) -> Any:
    return _exp32 if v == SINGLE else _exp64


@overload(log1p, jit_options={"forceinline": True})
def _log1p(u: Any) -> Any:
    return _log1p32 if u == SINGLE else _log1p64
