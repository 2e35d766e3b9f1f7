"""The loops over CSR: row after row if θ fits the cache, else panel after panel of columns.

Panels are propagation blocking: Beamer, Asanović and Patterson (2017), "Reducing Pagerank
Communication via Propagation Blocking". The entries of the matrix stand for the messages. They
are sorted into panels by counting.
"""

from typing import Any

import numpy as np

from dsoftmax.kernels.compiled.compile import compiled
from dsoftmax.kernels.compiled.registers import scatter, sparse_add, sparse_logits, take, whole_at
from dsoftmax.kernels.compiled.shapes import COLUMN_BITS, SLICE_VECTORS
from dsoftmax.kernels.compiled.simd import constant, exp, larger, largest, load, log1p, store, total

TURN = 32
"""Columns transposed at a time from (classes, columns) to (columns, classes), or back."""
NEVER = -1e30
"""Logit of the padding classes in the last vector, whose P is 0."""


@compiled
def _row_residuals(z: Any, at: Any, width: Any, label: Any, weight: Any, lanes: Any) -> Any:
    """Replace the logits of one row, from place ``at`` on, by sᵢ(Pᵢₖ − 1{yᵢ=k}).

    Return Σⱼ exp(zⱼ − max z) − 1, and z of the label less max z.
    """
    top, label, stop = load(z, at), at + label, at + width
    for j in range(at + lanes, stop, lanes):
        top = larger(load(z, j), top)
    most = largest(top)
    z_own = z[label] - most
    top = constant(top, np.float64(most))
    for j in range(at, stop, lanes):
        store(z, j, exp(load(z, j) - top))
    own = z[label]
    z[label] = 0
    sums = load(z, at)
    for j in range(at + lanes, stop, lanes):
        sums = sums + load(z, j)
    others = total(sums)
    scale = weight / (others + own)
    factor = constant(sums, np.float64(scale))
    for j in range(at, stop, lanes):
        store(z, j, load(z, j) * factor)
    z[label] = -others * scale
    return others + (own - z.dtype.type(1)), z_own


@compiled
def _losses(excess: Any, z_own: Any, s: Any, start: Any, rows: Any, lanes: Any) -> Any:
    """Return Σ sᵢ(log Σⱼ exp zⱼ − z of the label) over a tile, which begins at row ``start``."""
    excess[rows : rows + lanes] = 0
    z_own[rows : rows + lanes] = 0
    value = 0.0
    for r in range(0, rows, lanes):  # zero beyond the last row of the tile, whatever the weight
        value += total((log1p(load(excess, r)) - load(z_own, r)) * load(s, start + r))
    return value


@compiled
def _turn_in(
    theta: Any, d: Any, k: Any, n_classes: Any, columns: Any, table: Any, base: Any, pitch: Any
) -> Any:
    """Copy classes k : k + n_classes of θ to ``table``, (columns, pitch) from ``base`` on.

    θ is (K, d), flat.

    Zeros fill each row of the table.
    """
    for j in range(0, columns, TURN):
        stop = min(j + TURN, columns)
        for c in range(n_classes):
            for at in range(j, stop):
                table[base + at * pitch + c] = theta[(k + c) * d + at]
        for at in range(j, stop):
            table[base + at * pitch + n_classes : base + (at + 1) * pitch] = 0


@compiled
def _turn_out(
    sums: Any, pitch: Any, columns: Any, gradient: Any, d: Any, k: Any, n_classes: Any, first: Any
) -> Any:
    """Add ``sums``, (columns, pitch), to ``gradient``.

    They belong to classes k : k + n_classes, and to the columns from ``first`` on.
    """
    for j in range(0, columns, TURN):
        for c in range(n_classes):
            to = (k + c) * d + first
            for at in range(j, min(j + TURN, columns)):
                gradient[to + at] += sums[at * pitch + c]


@compiled
def _entries(
    data: Any,
    data_tag: Any,
    indices: Any,
    indices_tag: Any,
    pointers: Any,
    pointers_tag: Any,
    row: Any,
) -> Any:
    """Return the addresses of the values and the columns of a row, and their number."""
    here = pointers + row * pointers_tag.itemsize
    first = whole_at(here, pointers_tag)
    count = whole_at(here + pointers_tag.itemsize, pointers_tag) - first
    return data + first * data_tag.itemsize, indices + first * indices_tag.itemsize, count


@compiled
def add_rows(
    theta: Any, K: Any, p: Any,
    data: Any, data_tag: Any, indices: Any, indices_tag: Any, pointers: Any, pointers_tag: Any,
    y: Any, s: Any, n: Any, gradient: Any, lanes: Any,
    tile: Any, batch: Any, pitch: Any, table: Any, sums: Any, Z: Any,
) -> Any:  # fmt: skip
    """Return J and add ∇J to ``gradient``, (K, p+1) flat as ``theta`` is.

    The loop visits row after row, with vectors of classes.

    The loop first computes the logits of a batch of rows, then adds the batch to the sums. So
    either θ or the sums alone fill the cache. Buffers in the compute dtype are ``table``
    (p·pitch) for θ, ``sums`` (p·pitch) for the sums of a tile, and ``Z`` (batch·pitch) for the
    logits. ``data``, ``indices`` and ``pointers`` are addresses.
    """
    d, value = p + 1, 0.0
    last, intercepts = np.zeros(pitch, table.dtype), np.empty(pitch, table.dtype)
    excess, z_own = np.empty(tile + lanes, table.dtype), np.empty(tile + lanes, table.dtype)
    _turn_in(theta, d, 0, K, p, table, 0, pitch)
    sums[:] = 0
    for k in range(pitch):
        intercepts[k] = theta[k * d + p] if k < K else NEVER
    for start in range(0, n, tile):
        rows = min(tile, n - start)
        for begin in range(0, rows, batch):
            stop = min(begin + batch, rows)
            for r in range(begin, stop):
                x, at, count = _entries(
                    data, data_tag, indices, indices_tag, pointers, pointers_tag, start + r
                )
                place = (r - begin) * pitch
                Z[place : place + pitch] = intercepts
                for v in range(0, pitch, SLICE_VECTORS * lanes):
                    m = min(SLICE_VECTORS, (pitch - v) // lanes)
                    sparse_logits(
                        x, data_tag, at, indices_tag, count, table, v, pitch, Z, place + v, m
                    )
                excess[r], z_own[r] = _row_residuals(
                    Z, place, pitch, int(y[start + r]), s[start + r], lanes
                )
                for j in range(0, pitch, lanes):
                    store(last, j, load(last, j) + load(Z, place + j))
            for r in range(begin, stop):
                x, at, count = _entries(
                    data, data_tag, indices, indices_tag, pointers, pointers_tag, start + r
                )
                for v in range(0, pitch, SLICE_VECTORS * lanes):
                    m = min(SLICE_VECTORS, (pitch - v) // lanes)
                    sparse_add(
                        x,
                        data_tag,
                        at,
                        indices_tag,
                        count,
                        sums,
                        v,
                        pitch,
                        Z,
                        (r - begin) * pitch + v,
                        m,
                    )
        value += _losses(excess, z_own, s, start, rows, lanes)
        _turn_out(sums, pitch, p, gradient, d, 0, K, 0)
        for k in range(K):
            gradient[k * d + p] += last[k]
        sums[:] = 0
        last[:] = 0
    return value


@compiled
def _partition(
    data: Any, data_tag: Any, indices: Any, indices_tag: Any, pointers: Any, pointers_tag: Any,
    rows: Any, shift: Any, ends: Any, places: Any, numbers: Any,
) -> Any:  # fmt: skip
    """Sort the entries of a tile into panels of 2^shift columns, rows ascending.

    Panel b ends at ``ends[b]``.

    A place holds the row in the tile, and in its low bits the column in the panel. Numbers are in
    the compute dtype.
    """
    first = whole_at(pointers, pointers_tag)
    last = whole_at(pointers + rows * pointers_tag.itemsize, pointers_tag)
    ends[:] = 0
    for t in range(first, last):
        ends[(whole_at(indices + t * indices_tag.itemsize, indices_tag) >> shift) + 1] += 1
    for b in range(1, len(ends)):
        ends[b] += ends[b - 1]
    low, t = (1 << shift) - 1, first
    for r in range(rows):
        stop = whole_at(pointers + (r + 1) * pointers_tag.itemsize, pointers_tag)
        while t < stop:
            column = whole_at(indices + t * indices_tag.itemsize, indices_tag)
            to = ends[column >> shift]
            ends[column >> shift] = to + 1
            places[to] = r << COLUMN_BITS | column & low
            take(data + t * data_tag.itemsize, data_tag, numbers, to, 1)
            t += 1


@compiled
def _rows_that_fit(pointers: Any, pointers_tag: Any, most_rows: Any, most_entries: Any) -> Any:
    """Return the number of rows of a tile: at least one."""
    first, rows = whole_at(pointers, pointers_tag), 1
    while (
        rows < most_rows
        and whole_at(pointers + (rows + 1) * pointers_tag.itemsize, pointers_tag) - first
        <= most_entries
    ):
        rows += 1
    return rows


@compiled
def add_panels(
    theta: Any, K: Any, p: Any,
    data: Any, data_tag: Any, indices: Any, indices_tag: Any, pointers: Any, pointers_tag: Any,
    y: Any, s: Any, n: Any, gradient: Any, lanes: Any, tile: Any, shift: Any,
    table: Any, Z: Any, sums: Any, ends: Any, places: Any, numbers: Any,
) -> Any:  # fmt: skip
    """Return J and add ∇J to ``gradient``, (K, p+1) flat as ``theta`` is.

    The loop visits tiles of rows and panels of columns.

    Both stay in the cache. The classes are cut into slices of at most `SLICE_VECTORS` vectors.
    ``table`` (p·pitch) holds θ slice by slice, each (p, width). ``Z`` (tile·pitch) holds the
    logits of a tile in the same way. ``sums`` holds the sums of one slice over one panel. The
    entries of a tile are sorted into panels once. Every slice reads them twice.
    """
    vectors, d, itemsize = -(-K // lanes), p + 1, pointers_tag.itemsize
    slices, columns = -(-vectors // SLICE_VECTORS), 1 << shift
    z, last = np.empty(vectors * lanes, table.dtype), np.zeros(vectors * lanes, table.dtype)
    excess, z_own = np.empty(tile + lanes, table.dtype), np.empty(tile + lanes, table.dtype)
    value, start = 0.0, 0
    for i in range(slices):
        k, width = _slice(i, slices, vectors, lanes)
        _turn_in(theta, d, k, min(width, K - k), p, table, p * k, width)
    while start < n:
        here = pointers + start * itemsize
        rows = _rows_that_fit(here, pointers_tag, min(tile, n - start), len(places))
        _partition(
            data,
            data_tag,
            indices,
            indices_tag,
            here,
            pointers_tag,
            rows,
            shift,
            ends,
            places,
            numbers,
        )
        for i in range(slices):
            k, width = _slice(i, slices, vectors, lanes)
            for c in range(width):
                z[c] = theta[(k + c) * d + p] if k + c < K else NEVER
            for r in range(rows):
                for j in range(0, width, lanes):
                    store(Z, tile * k + r * width + j, load(z, j))
            first = 0
            for b in range(len(ends) - 1):
                count = ends[b] - first
                scatter(
                    places,
                    numbers,
                    first,
                    count,
                    table,
                    p * k + (b << shift) * width,
                    Z,
                    tile * k,
                    width // lanes,
                    True,
                )
                first = ends[b]
        for r in range(rows):
            for i in range(slices):
                k, width = _slice(i, slices, vectors, lanes)
                for j in range(0, width, lanes):
                    store(z, k + j, load(Z, tile * k + r * width + j))
            excess[r], z_own[r] = _row_residuals(
                z, 0, len(z), int(y[start + r]), s[start + r], lanes
            )
            for j in range(0, len(z), lanes):
                store(last, j, load(last, j) + load(z, j))
            for i in range(slices):
                k, width = _slice(i, slices, vectors, lanes)
                for j in range(0, width, lanes):
                    store(Z, tile * k + r * width + j, load(z, k + j))
        for i in range(slices):
            k, width = _slice(i, slices, vectors, lanes)
            first = 0
            for b in range(len(ends) - 1):
                count = ends[b] - first
                if count == 0:
                    continue
                stop = min(columns, p - (b << shift))
                sums[: stop * width] = 0
                scatter(places, numbers, first, count, Z, tile * k, sums, 0, width // lanes, False)
                first = ends[b]
                _turn_out(sums, width, stop, gradient, d, k, min(width, K - k), b << shift)
        value += _losses(excess, z_own, s, start, rows, lanes)
        for k in range(K):
            gradient[k * d + p] += last[k]
        last[:] = 0
        start += rows
    return value


@compiled
def _slice(i: Any, slices: Any, vectors: Any, lanes: Any) -> Any:
    """Return the first class of slice i, and its number of classes."""
    first, stop = i * vectors // slices, (i + 1) * vectors // slices
    return first * lanes, (stop - first) * lanes
