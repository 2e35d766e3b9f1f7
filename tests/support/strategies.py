"""Hypothesis strategies: small problems of every storage dtype, weight and layout."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from hypothesis import strategies as st

DTYPES = ("bool", "i1", "u1", "<i2", ">u2", "<i4", "<i8", ">i8", "<f2", "<f4", ">f4", "<f8", ">f8")


@dataclass(frozen=True)
class Problem:
    """One block, a point and a direction."""

    theta: np.ndarray
    direction: np.ndarray
    X: Any
    y: np.ndarray
    weights: np.ndarray | None


def values(rng, shape, dtype):
    """Return values that the dtype holds exactly."""
    dtype = np.dtype(dtype)
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind == "f":
        return rng.normal(size=shape).astype(dtype)
    low, high = (0, 250) if dtype.kind == "u" else (-100, 100)
    return rng.integers(low, high, shape).astype(dtype)


def layout(X, kind):
    """Return the same values in another layout: C, Fortran, strided or read-only memory."""
    if kind == "fortran":
        return np.asfortranarray(X)
    if kind == "strided":
        wide = np.zeros((2 * X.shape[0], 3 * X.shape[1]), X.dtype)
        wide[::2, ::3] = X
        return wide[::2, ::3]
    if kind == "reversed":
        return np.ascontiguousarray(X[::-1, ::-1])[::-1, ::-1]
    if kind == "read-only":
        X = X.copy()
        X.flags.writeable = False
        return X
    return np.ascontiguousarray(X)


def csr(X, rng, kind, container):
    """Return the values as CSR: clean, shuffled, with explicit zeros, or with entries split."""
    pointers, indices, data = [0], [], []
    for row in X:
        entries = [
            (j, v) for j, v in enumerate(row) if v or (kind == "zeros" and rng.random() < 0.5)
        ]
        if kind == "duplicates" and X.dtype.kind in "if":
            entries = [
                pair
                for j, v in entries
                for pair in ((j, v - X.dtype.type(1)), (j, X.dtype.type(1)))
            ]
        if kind in ("shuffled", "duplicates"):
            rng.shuffle(entries)
        indices += [int(j) for j, _ in entries]
        data += [v for _, v in entries]
        pointers.append(len(indices))
    parts = (
        np.array(data, X.dtype.newbyteorder("=")),
        np.array(indices, np.int32),
        np.array(pointers, np.int32),
    )
    return container(parts, shape=X.shape)


DENSE = ("c", "fortran", "strided", "reversed", "read-only")
SPARSE = ("clean", "shuffled", "zeros", "duplicates")


@st.composite
def problems(draw, dtypes=DTYPES, sparse=(False, True), max_rows=9, min_rows=0):
    """Draw a `Problem` with moderate logits."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, p, K = (
        draw(st.integers(min_rows, max_rows)),
        draw(st.integers(1, 4)),
        draw(st.integers(2, 4)),
    )
    dtype = np.dtype(draw(st.sampled_from(dtypes)))
    X = values(rng, (n, p), dtype)
    if draw(st.sampled_from(sparse)):
        X[rng.random((n, p)) < 0.4] = 0
        container = draw(st.sampled_from([scipy.sparse.csr_array, scipy.sparse.csr_matrix]))
        X = csr(X, rng, draw(st.sampled_from(SPARSE)), container)
    else:
        X = layout(X, draw(st.sampled_from(DENSE)))
    scale = {"i": 100.0, "u": 250.0}.get(dtype.kind, 1.0)
    theta, direction = rng.normal(size=(2, K, p + 1))
    theta[:, :-1] /= scale
    direction[:, :-1] /= scale
    weights = draw(st.sampled_from([None, "some", "zeros"]))
    if weights is not None:
        weights = rng.integers(0, 4, n) * 0.75 if weights == "some" else np.zeros(n)
    return Problem(
        theta,
        direction,
        X,
        rng.integers(0, K, n).astype(draw(st.sampled_from(["i4", "i8", "u1"]))),
        weights,
    )


@st.composite
def partitions(draw, n):
    """Draw cut points 0 = c₀ ≤ c₁ ≤ … = n."""
    inner = sorted(draw(st.lists(st.integers(0, n), max_size=5)))
    return [0, *inner, n]
