"""Matrices of low rank fit the pairs that they are made of, against the textbook's updates."""

import numpy as np
from numpy.testing import assert_allclose

from dsoftmax.solvers.algebra.low_rank import bfgs_update, rank_one_fit


def test_the_rank_one_matrix_fits_its_pairs(rng):
    H = rng.normal(size=(6, 6))
    H = H + H.T
    steps = rng.normal(size=(3, 2, 3))
    lacks = (steps.reshape(3, 6) @ H).reshape(3, 2, 3)
    C = rank_one_fit(steps, lacks, 6)
    assert_allclose(C, C.T, atol=1e-12)
    assert_allclose(C @ steps.reshape(3, 6).T, lacks.reshape(3, 6).T, rtol=1e-8)


def test_the_compact_form_is_a_chain_of_bfgs_updates(rng):
    """B ← B − BssᵀB/sᵀBs + yyᵀ/yᵀs for each pair in turn (Nocedal and Wright 2006, eq. 6.19)."""
    half, other = rng.normal(size=(2, 6, 6))
    here, more = half @ half.T + np.eye(6), other @ other.T
    steps, lacks = rng.normal(size=(3, 2, 3)), np.zeros((3, 2, 3))
    for i, s in enumerate(steps.reshape(3, 6)):
        lacks[i] = (more @ s).reshape(2, 3)
    B = here.copy()
    for s in steps.reshape(3, 6):
        y = here @ s + more @ s
        B = B - np.outer(B @ s, B @ s) / (s @ B @ s) + np.outer(y, y) / (y @ s)

    def product(V):
        return (here @ V.ravel()).reshape(2, 3)

    found = bfgs_update(steps, lacks, product, product)
    assert_allclose(here + found.matrix(), B, rtol=1e-7, atol=1e-7)
    V = rng.normal(size=(2, 3))
    assert_allclose(found.product(V).ravel(), found.matrix() @ V.ravel(), rtol=1e-9, atol=1e-9)


def test_a_pair_without_curvature_is_left_out(rng):
    here = np.eye(6)

    def product(V):
        return (here @ V.ravel()).reshape(2, 3)

    steps = rng.normal(size=(2, 2, 3))
    lacks = np.stack([-2 * steps[0], 3 * steps[1]])  # the first pair bends by −1
    both, second = (bfgs_update(steps[k:], lacks[k:], product, product) for k in (0, 1))
    assert_allclose(both.matrix(), second.matrix(), atol=1e-12)
    assert np.linalg.eigvalsh(here + both.matrix()).min() > 0
