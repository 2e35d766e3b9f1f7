"""The inner loops of products as intrinsics, with register tiles of sums.

A register tile stays in registers while the loop runs.

``outer`` and ``inner`` are the two ways to cut a product of matrices (Goto and van de Geijn 2008,
"Anatomy of high-performance matrix multiplication", section 4). ``outer`` sums outer products:
one number of A times vectors of B. ``inner`` sums dot products: vectors of A times vectors of B.
A register tile has at most `OUTER` or `INNER` vectors. With the operands they fill the 16 vector
registers of AVX2.

Places are element numbers in flat arrays, as in `dsoftmax.kernels.compiled.simd`. Addresses are
integers. Strides of stored data are in bytes.
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from dsoftmax.kernels.compiled.shapes import COLUMN_BITS, SLICE_VECTORS
from dsoftmax.kernels.compiled.simd import (
    OF,
    Vector,
    across,
    fused,
    llvm,
    load_at,
    shuffled,
    splat_of,
    store_at,
)

OUTER = (6, 2)
"""Most rows of A, and number of vectors of B, in a register tile of `outer`."""
INNER = (4, 4, 3)
"""Most rows of B in a register tile of `inner` with 1, 2 and 3 rows of A."""


def _choose(builder: Any, n: Any, most: int, build: Callable[[int], None]) -> None:
    """Build a body for every n from 1 to ``most``, and a switch between them."""
    after = builder.append_basic_block("chosen")
    switch = builder.switch(n, after)
    for size in range(1, most + 1):
        block = builder.append_basic_block(f"size{size}")
        switch.add_case(ir.Constant(n.type, size), block)
        with builder.goto_block(block):
            build(size)
            builder.branch(after)
    builder.position_at_end(after)


class _Flat:
    """Places of a flat array, as LLVM sees them."""

    def __init__(self, context: Any, builder: Any, array_type: Any, array: Any) -> None:
        self.builder, self.kind = builder, OF[array_type.dtype]
        self.data = context.make_array(array_type)(context, builder, array).data

    def at(self, *terms: Any) -> Any:
        """Return the address at the sum of the terms: values, or pairs of factors."""
        place = None
        for term in terms:
            if isinstance(term, tuple):
                value, times = term
                term = self.builder.mul(
                    value, ir.Constant(value.type, times) if isinstance(times, int) else times
                )
            place = term if place is None else self.builder.add(place, term)
        return self.builder.gep(self.data, [place], inbounds=True)

    def vector(self, *terms: Any) -> Any:
        return load_at(self.builder, self.kind, self.at(*terms))

    def splat(self, *terms: Any) -> Any:
        return splat_of(self.builder, self.kind, self.builder.load(self.at(*terms)))

    def store(self, value: Any, *terms: Any) -> None:
        store_at(self.builder, self.kind, self.at(*terms), value)


class _Sums:
    """Vectors that start at zero or at stored values, and stay in registers during a loop."""

    def __init__(self, builder: Any, kind: Vector, starts: dict[Any, Any]) -> None:
        self.builder, self.kind = builder, kind
        self.registers = {name: cgutils.alloca_once(builder, llvm(kind)) for name in starts}
        for name, start in starts.items():
            builder.store(
                ir.Constant(llvm(kind), None) if start is None else start, self.registers[name]
            )

    def add_product(self, name: Any, a: Any, b: Any) -> None:
        register = self.registers[name]
        added = fused(self.builder, self.kind, a, b, self.builder.load(register))
        self.builder.store(added, register)

    def items(self) -> Any:
        return ((name, self.builder.load(one)) for name, one in self.registers.items())


@intrinsic
def outer(
    typing: Any,
    A: Any, a: Any, a_row: Any, a_step: Any,
    B: Any, b: Any, b_step: Any,
    C: Any, c: Any, c_row: Any,
    count: Any, n_rows: Any, fresh: Any,
) -> Any:  # fmt: skip
    """Add Σₜ A[i, t]·B[t, v] to C[i, v], for ``n_rows`` rows i and two vectors v.

    t runs over ``count`` steps.

    A[i, t] lies at ``a + i·a_row + t·a_step``, B[t, v] at ``b + t·b_step + v·lanes``, C[i, v] at
    ``c + i·c_row + v·lanes``. ``fresh`` (a literal) stores the sums instead of adding them.
    """
    kind = OF[A.dtype]
    most, vectors = OUTER

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, a, a_row, a_step, _, b, b_step, _, c, c_row, count, n_rows, _ = args
        left, right, out = (_Flat(context, builder, sig.args[i], args[i]) for i in (0, 4, 7))
        shifts = [ir.Constant(c.type, v * kind.lanes) for v in range(vectors)]

        def body(size: int) -> None:
            places = {
                (i, v): (c, (c_row, i), shifts[v]) for i in range(size) for v in range(vectors)
            }
            sums = _Sums(
                builder,
                kind,
                {
                    at: None if fresh.literal_value else out.vector(*terms)
                    for at, terms in places.items()
                },
            )
            with cgutils.for_range(builder, count) as loop:
                rights = [right.vector(b, (loop.index, b_step), shift) for shift in shifts]
                for i in range(size):
                    one = left.splat(a, (a_row, i), (loop.index, a_step))
                    for v in range(vectors):
                        sums.add_product((i, v), one, rights[v])
            for at, value in sums.items():
                out.store(value, *places[at])

        _choose(builder, n_rows, most, body)
        return context.get_dummy_value()

    n = types.intp
    if not isinstance(fresh, types.Literal):
        return None
    return types.void(A, n, n, n, B, n, n, C, n, n, n, n, fresh), build


@intrinsic
def inner(
    typing: Any,
    A: Any, a: Any, a_row: Any,
    B: Any, b: Any, b_row: Any,
    C: Any, c: Any, c_row: Any, c_column: Any,
    count: Any, n_rows: Any, n_columns: Any, summed: Any,
) -> Any:  # fmt: skip
    """Add Σₜ A[i, t]·B[j, t] to C[i, j], or store it, over ``count`` numbers t.

    i runs over ``n_rows`` rows, j over ``n_columns`` rows.

    Rows lie at ``a + i·a_row`` and ``b + j·b_row``. ``count`` is a multiple of the lanes. C[i, j]
    lies at ``c + i·c_row + j·c_column``. With ``summed`` (a literal) it is one number, which is
    stored. Otherwise it is a vector of partial sums, which is added to.
    """
    kind = OF[A.dtype]

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        _, a, a_row, _, b, b_row, _, c, c_row, c_column, count, n_rows, n_columns, _ = args
        left, right, out = (_Flat(context, builder, sig.args[i], args[i]) for i in (0, 3, 6))
        step = ir.Constant(count.type, kind.lanes)

        def body(rows: int, columns: int) -> None:
            places = {
                (i, j): (c, (c_row, i), (c_column, j)) for i in range(rows) for j in range(columns)
            }
            sums = _Sums(
                builder,
                kind,
                {
                    at: None if summed.literal_value else out.vector(*terms)
                    for at, terms in places.items()
                },
            )
            with cgutils.for_range_slice(
                builder, ir.Constant(count.type, 0), count, step, inc=True
            ) as (t, _):
                rights = [right.vector(b, (b_row, j), t) for j in range(columns)]
                for i in range(rows):
                    one = left.vector(a, (a_row, i), t)
                    for j in range(columns):
                        sums.add_product((i, j), one, rights[j])
            for at, value in sums.items():
                if summed.literal_value:
                    builder.store(across(builder, kind, value, builder.fadd), out.at(*places[at]))
                else:
                    out.store(value, *places[at])

        _choose(
            builder,
            n_rows,
            len(INNER),
            lambda i: _choose(builder, n_columns, INNER[i - 1], lambda j: body(i, j)),
        )
        return context.get_dummy_value()

    n = types.intp
    if not isinstance(summed, types.Literal):
        return None
    return types.void(A, n, n, B, n, n, C, n, n, n, n, n, n, summed), build


def _as_float(builder: Any, stored: Any, value: Any, target: Any) -> Any:
    """Convert one stored number, or a vector of them, to the float type ``target``."""
    if stored in types.integer_domain:
        return (builder.sitofp if stored.signed else builder.uitofp)(value, target)
    scalar = target.element if isinstance(target, ir.VectorType) else target
    if stored.bitwidth == (32 if isinstance(scalar, ir.FloatType) else 64):
        return value
    return (builder.fptrunc if stored.bitwidth == 64 else builder.fpext)(value, target)


def _stored_at(context: Any, builder: Any, stored: Any, address: Any, lanes: int) -> Any:
    """Load numbers in their stored dtype from an integer address, aligned or not."""
    one = context.get_value_type(stored)
    kind = one if lanes == 1 else ir.VectorType(one, lanes)
    return builder.load(builder.inttoptr(address, kind.as_pointer()), align=1)


@intrinsic
def take(typing: Any, address: Any, tag: Any, out: Any, place: Any, lanes: Any) -> Any:
    """Convert ``lanes`` stored numbers from an address on, into ``out``.

    ``lanes`` is a literal: 1, or more for a whole vector.
    """
    kind = OF[out.dtype]
    if not isinstance(lanes, types.Literal):
        return None
    width = 1 if lanes.literal_value == 1 else kind.lanes

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address, _, out_, place, _ = args
        found = _stored_at(context, builder, tag.dtype, address, width)
        target = _Flat(context, builder, sig.args[2], out_)
        if width == 1:
            number = _as_float(builder, tag.dtype, found, llvm(kind).element)
            builder.store(number, target.at(place))
        else:
            target.store(_as_float(builder, tag.dtype, found, llvm(kind)), place)
        return context.get_dummy_value()

    return types.void(types.intp, tag, out, types.intp, lanes), build


@intrinsic
def take_turned(
    typing: Any, address: Any, stride: Any, tag: Any, out: Any, place: Any, pitch: Any
) -> Any:
    """Convert a square of ``lanes`` rows and columns; store its columns ``pitch`` apart.

    Rows are ``stride`` bytes apart.
    """
    kind = OF[out.dtype]
    lanes, half = kind.lanes, kind.lanes // 2

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        address, stride, _, out_, place, pitch = args
        target = _Flat(context, builder, sig.args[3], out_)
        rows = []
        for i in range(lanes):
            here = builder.add(address, builder.mul(stride, ir.Constant(stride.type, i)))
            rows.append(
                _as_float(
                    builder,
                    tag.dtype,
                    _stored_at(context, builder, tag.dtype, here, lanes),
                    llvm(kind),
                )
            )
        # Pairs (i, i + width) swap their off-diagonal parts within the halves, where processors
        # shuffle cheaply.
        width = 1
        while width < half:
            low = [
                e + o
                for s in (0, half)
                for e in range(s, s + half, 2 * width)
                for o in range(width)
            ]
            for i in (i for i in range(lanes) if not i & width):
                a, b = rows[i], rows[i + width]
                first = [
                    place
                    for e in low[::width]
                    for place in (*range(e, e + width), *range(lanes + e, lanes + e + width))
                ]
                second = [e + width for e in first]
                rows[i], rows[i + width] = (
                    shuffled(builder, a, b, first),
                    shuffled(builder, a, b, second),
                )
            width *= 2
        for i in range(half):
            a, b = rows[i], rows[i + half]
            rows[i] = shuffled(builder, a, b, [*range(half), *range(lanes, lanes + half)])
            rows[i + half] = shuffled(
                builder, a, b, [*range(half, lanes), *range(lanes + half, 2 * lanes)]
            )
        for j in range(lanes):
            target.store(rows[j], place, (pitch, j))
        return context.get_dummy_value()

    n = types.intp
    return types.void(n, n, tag, out, n, n), build


@intrinsic
def whole_at(typing: Any, address: Any, tag: Any) -> Any:
    """Load the integer at an address."""

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        found = _stored_at(context, builder, tag.dtype, args[0], 1)
        return found if tag.dtype.bitwidth == 64 else builder.sext(found, ir.IntType(64))

    return types.int64(types.intp, tag), build


@intrinsic
def sparse_logits(
    typing: Any,
    data: Any, data_tag: Any, indices: Any, indices_tag: Any, count: Any,
    W: Any, w: Any, pitch: Any, z: Any, place: Any, n_vectors: Any,
) -> Any:  # fmt: skip
    """Add Σₜ dataₜ·W[indicesₜ, v] to z[v], over ``count`` stored entries.

    v runs over ``n_vectors`` vectors of classes.

    ``data`` and ``indices`` are the addresses of the first entry; W[j, v] lies at ``w + j·pitch +
    v·lanes``.
    """
    return _sparse(typing, data_tag, indices_tag, W, z, gather=True)


@intrinsic
def sparse_add(
    typing: Any,
    data: Any, data_tag: Any, indices: Any, indices_tag: Any, count: Any,
    G: Any, g: Any, pitch: Any, z: Any, place: Any, n_vectors: Any,
) -> Any:  # fmt: skip
    """Add dataₜ·z[v] to G[indicesₜ, v], for ``count`` entries and ``n_vectors`` vectors v."""
    return _sparse(typing, data_tag, indices_tag, G, z, gather=False)


@intrinsic
def scatter(
    typing: Any,
    places: Any, numbers: Any, first: Any, count: Any,
    A: Any, a: Any, C: Any, c: Any, n_vectors: Any, to_rows: Any,
) -> Any:  # fmt: skip
    """Add numbersₜ·A[j, v] to C[i, v], for ``count`` entries from ``first`` on.

    v runs over ``n_vectors`` vectors.

    With ``to_rows`` (a literal), i is the row and j the column of placesₜ (uint32). Otherwise i
    is the column and j the row. A[j, v] lies at ``a + (j·n_vectors + v)·lanes``, C likewise.
    """
    kind = OF[A.dtype]
    if not isinstance(to_rows, types.Literal):
        return None

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        places, _, first, count, _, a, _, c, n_vectors, _ = args
        number, left, out = (_Flat(context, builder, sig.args[i], args[i]) for i in (1, 4, 6))
        place = context.make_array(sig.args[0])(context, builder, places).data

        def body(size: int) -> None:
            with cgutils.for_range(builder, count) as loop:
                at = builder.add(first, loop.index)
                found = builder.zext(
                    builder.load(builder.gep(place, [at], inbounds=True)), ir.IntType(64)
                )
                row = builder.lshr(found, ir.Constant(found.type, COLUMN_BITS))
                column = builder.and_(found, ir.Constant(found.type, 2**COLUMN_BITS - 1))
                i, j = (row, column) if to_rows.literal_value else (column, row)
                x = number.splat(at)
                for v in range(size):
                    shift = ir.Constant(found.type, v * kind.lanes)
                    there = (c, (i, size * kind.lanes), shift)
                    out.store(
                        fused(
                            builder,
                            kind,
                            x,
                            left.vector(a, (j, size * kind.lanes), shift),
                            out.vector(*there),
                        ),
                        *there,
                    )

        _choose(builder, n_vectors, SLICE_VECTORS, body)
        return context.get_dummy_value()

    n = types.intp
    return types.void(places, numbers, n, n, A, n, C, n, n, to_rows), build


def _sparse(typing: Any, data_tag: Any, indices_tag: Any, table: Any, z: Any, gather: bool) -> Any:
    kind = OF[z.dtype]

    def build(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        data, _, indices, _, count, table_, base, pitch, z_, place, n_vectors = args
        rows, row = (
            _Flat(context, builder, sig.args[5], table_),
            _Flat(context, builder, sig.args[8], z_),
        )

        def body(size: int) -> None:
            shifts = [ir.Constant(place.type, v * kind.lanes) for v in range(size)]
            starts = [row.vector(place, shift) for shift in shifts]
            sums = _Sums(builder, kind, dict(enumerate(starts)))
            with cgutils.for_range(builder, count) as loop:
                at = [
                    builder.add(
                        start,
                        builder.mul(loop.index, ir.Constant(start.type, tag.dtype.bitwidth // 8)),
                    )
                    for start, tag in ((data, data_tag), (indices, indices_tag))
                ]
                number = _as_float(
                    builder,
                    data_tag.dtype,
                    _stored_at(context, builder, data_tag.dtype, at[0], 1),
                    llvm(kind).element,
                )
                number = splat_of(builder, kind, number)
                column = _stored_at(context, builder, indices_tag.dtype, at[1], 1)
                if indices_tag.dtype.bitwidth < 64:
                    column = builder.sext(column, ir.IntType(64))
                start = builder.add(base, builder.mul(column, pitch))
                for v, shift in enumerate(shifts):
                    there = rows.vector(start, shift)
                    if gather:
                        sums.add_product(v, number, there)
                    else:
                        rows.store(fused(builder, kind, number, starts[v], there), start, shift)
            if gather:
                for v, value in sums.items():
                    row.store(value, place, shifts[v])

        _choose(builder, n_vectors, SLICE_VECTORS, body)
        return context.get_dummy_value()

    n = types.intp
    return types.void(n, data_tag, n, indices_tag, n, table, n, n, z, n, n), build
