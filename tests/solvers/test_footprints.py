"""The bytes that each solver says it allocates are true: measured ≤ said ≤ a small multiple."""

import tracemalloc

import numpy as np
import pytest
import scipy.sparse
from opening import opened

from dsoftmax.engines.serial import SerialEngine
from dsoftmax.solvers.matrix_free import solver as matrix_free
from dsoftmax.solvers.protocol import Allocation, Sizes
from dsoftmax.solvers.surrogate.solver import THREAD_BYTES, TRIALS
from dsoftmax.solvers.table import SOLVERS, Entry
from dsoftmax.training.budget import Drawn, problem_sizes
from dsoftmax.training.first_pass import collect_statistics
from dsoftmax.training.objectives import make_objective
from dsoftmax.training.prepare import prepare
from dsoftmax.training.settings import Settings

GENEROUS = 2.5
"""Largest ratio of the bytes that are said to those that are measured."""
PASSES = {"surrogate": 12, "newton": 6, "proximal-newton": 6, "matrix-free": 5}
"""Passes of a run that fill the memory of a solver; 24 if it is not listed."""


def hard_rows(n_rows, n_features, n_classes):
    """Nearly collinear features of different scales, which make preconditioners poor."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(n_rows, n_features)) * 10.0 ** rng.integers(-2, 3, n_features)
    X[:, 0] = X[:, 1] * (1 + 1e-3 * rng.normal(size=n_rows))
    X[:, :5] *= rng.standard_t(2, size=(n_rows, 5))
    logits = X / X.std(axis=0) @ rng.normal(size=(n_features, n_classes))
    return X, (logits + rng.gumbel(size=logits.shape)).argmax(axis=1)


class Peak:
    """The most bytes that watched calls allocate, on top of those since it was made."""

    def __init__(self):
        self.start, self.n_bytes = tracemalloc.get_traced_memory()[0], 0

    def of(self, function, *args):
        tracemalloc.reset_peak()
        found = function(*args)
        self.n_bytes = max(self.n_bytes, tracemalloc.get_traced_memory()[1] - self.start)
        return found


@pytest.fixture
def traced():
    tracemalloc.start()
    yield
    tracemalloc.stop()


def measured(name, rows, settings):
    """Return the peak bytes of models that step in turn, and the sizes of their problem."""
    source, engine, entry = opened(*rows), SerialEngine(), SOLVERS[name]
    peak = Peak()
    statistics, _ = collect_statistics(source, engine, prepare(source, settings[0]).visit)
    objectives = [
        make_objective(source, engine, one, statistics, True, "numpy") for one in settings
    ]
    solvers = [entry.make(objective.problem()) for objective in objectives]
    models = list(zip(solvers, objectives, strict=True))
    states = [solver.start(*objective.start()) for solver, objective in models]
    for _ in range(PASSES.get(name, 24)):
        queries = []
        for i, solver in enumerate(solvers):
            states[i], query = peak.of(solver.ask, states[i])
            queries.append(query)
        answers = [one.answer(query)[0] for one, query in zip(objectives, queries, strict=True)]
        for i, (solver, objective) in enumerate(models):
            states[i] = peak.of(solver.tell, states[i], answers[i])
            peak.of(objective.gap, states[i].gradient, answers[i].moments)
    n, p, K = len(rows[1]), rows[0].shape[1], len(statistics.classes)
    gram = bool(statistics.gram.size)
    return peak.n_bytes, problem_sizes(n, K, p, gram, Drawn.of(statistics.sample))


def said(name, sizes, n_models=1):
    """Return the bytes of the table, without the stacks of threads, which are not traced."""
    stacks = TRIALS * THREAD_BYTES if name == "surrogate" else 0
    return SOLVERS[name].n_bytes(sizes, n_models) - stacks


SHAPES = {  # rows, features, classes
    "surrogate": [(600, 50, 6)],
    "newton": [(800, 50, 6)],
    "proximal-newton": [(400, 60, 9), (300, 260, 4)],  # B as a matrix, and by products alone
}
OTHERS = [(3000, 60, 20), (400, 400, 60), (400, 20, 200)]


@pytest.mark.parametrize(
    ("name", "shape", "l1_ratio"),
    [
        (name, shape, l1_ratio)
        for name in SOLVERS
        for shape in SHAPES.get(name, OTHERS)
        for l1_ratio in ((0.0, 0.5) if SOLVERS[name].l1 else (0.0,))
    ],
)
def test_a_solver_allocates_what_it_says(name, shape, l1_ratio, small_sample, traced, monkeypatch):
    monkeypatch.setattr(
        matrix_free, "FIRST_BUDGET", matrix_free.MOST_BUDGET
    )  # all pairs and blocks
    settings = [Settings(C=1e4, l1_ratio=l1_ratio, solver=name)]
    found, sizes = measured(name, hard_rows(*shape), settings)
    assert found <= said(name, sizes) <= GENEROUS * found


@pytest.mark.parametrize("C", [1e4, 1e-1])
def test_matrix_free_allocates_what_it_says_for_sparse_rows_and_an_l1_part(C, small_sample, traced):
    X, y = hard_rows(600, 2000, 30)
    X = scipy.sparse.csr_array(np.where(np.random.default_rng(1).random(X.shape) < 0.02, X, 0))
    settings = [Settings(C=C, l1_ratio=0.7, solver="matrix-free")]
    found, sizes = measured("matrix-free", (X, y), settings)
    assert found <= said("matrix-free", sizes) <= GENEROUS * found


@pytest.mark.parametrize(
    ("name", "shape"),
    [("newton", (600, 40, 5)), ("lbfgs-kronecker", (400, 400, 60)), ("lbfgs", (400, 400, 60))],
)
def test_models_share_the_statistics_and_the_scratch(name, shape, small_sample, traced):
    settings = [Settings(C=C, solver=name) for C in (0.1, 1.0, 1e4)]
    found, sizes = measured(name, hard_rows(*shape), settings)
    assert found <= said(name, sizes, 3) <= GENEROUS * found
    assert said(name, sizes, 3) < 3 * said(name, sizes)


def test_an_entry_only_adds():
    sizes = Sizes(1000, 3, 4, gram=True, stored_bytes=7)
    entry = Entry(lambda problem: None, object, lambda sizes: Allocation(1000, 5000))
    theta, gram, moments = 8 * 3 * 5, 8 * 5 * 5, 8 * 3 * 3
    statistics, problem = theta + gram + 7, 2 * theta + 3 * gram + moments
    assert entry.n_bytes(sizes) == statistics + problem + 6000
    assert entry.n_bytes(sizes, 4) == statistics + 4 * (problem + 1000) + 5000


def test_sizes_are_those_of_the_arrays():
    sizes = Sizes(1000, 3, 4, gram=True)
    assert sizes.vector == np.zeros((3, 5)).nbytes
    assert sizes.matrix == np.zeros((15, 15)).nbytes
    assert sizes.moments == np.zeros((3, 3)).nbytes
    assert sizes.gram_matrix == np.zeros((5, 5)).nbytes
    assert Sizes(1000, 3, 4).gram_matrix == np.zeros(5).nbytes
