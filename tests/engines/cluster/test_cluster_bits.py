"""Passes on a dask cluster: the bits of one core on any workers, and the optimum of plain NumPy."""

from collections.abc import Callable, Sequence

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import zarr
from opening import opened
from visits import Visiting

from dsoftmax.data.block import Block
from dsoftmax.engines.cluster import tree
from dsoftmax.engines.cluster.connect import local_cluster
from dsoftmax.engines.cluster.engine import ClusterEngine
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.solvers.lbfgs.solver import LBFGS
from dsoftmax.solvers.protocol import Answer
from dsoftmax.sums.totals import Rounded
from dsoftmax.training.grid import Grid
from dsoftmax.training.loop import Settings, train
from dsoftmax.training.record import Record
from dsoftmax.training.result import Result, Trained
from dsoftmax.training.run import Run

SETTINGS = Settings(C=1.0, tol=1e-5, solver="lbfgs")


def plain_objective(
    theta: np.ndarray, X: np.ndarray, y: np.ndarray, C: float
) -> tuple[float, np.ndarray]:
    """F and ∇F in the textbook way, on the whole array at once."""
    n = len(y)
    Z = X @ theta[:, :-1].T + theta[:, -1]
    Z -= Z.max(axis=1, keepdims=True)
    P = np.exp(Z) / np.exp(Z).sum(axis=1, keepdims=True)
    Y = np.eye(len(theta))[y]
    value = -np.log(P[np.arange(n), y]).mean() + (theta[:, :-1] ** 2).sum() / (2 * C * n)
    gradient = np.hstack([(P - Y).T @ X, (P - Y).sum(axis=0)[:, None]]) / n
    gradient[:, :-1] += theta[:, :-1] / (C * n)
    return value, gradient


def bits(result: Result | Trained) -> tuple[bytes, str, bytes]:
    """The final θ, F and ∇F, to the last bit."""
    state = result.run.state
    return result.model.theta.tobytes(), state.value.hex(), state.gradient.tobytes()


@pytest.fixture(scope="module")
def reference(store: zarr.Group) -> tuple[bytes, str, bytes]:
    return bits(train(opened(store["fine"], store["y"]), SerialEngine(), SETTINGS))


def test_serial_agrees_with_plain_numpy(
    arrays: tuple[np.ndarray, np.ndarray], store: zarr.Group
) -> None:
    X, y = arrays
    result = train(opened(store["X"], store["y"]), SerialEngine(), SETTINGS)
    value, gradient = plain_objective(result.run.theta, X, y, SETTINGS.C)
    assert result.converged
    assert result.run.state.value == pytest.approx(value, rel=1e-10)
    np.testing.assert_allclose(result.run.gradient, gradient, atol=1e-10)


def test_the_same_solver_on_plain_numpy_ends_at_the_same_point(
    arrays: tuple[np.ndarray, np.ndarray], store: zarr.Group
) -> None:
    X, y = arrays
    means = X.mean(axis=0)
    X, solver = X - means, LBFGS()  # solvers move points of centred features
    start = np.zeros((5, 8))
    start[:, -1] = np.log(np.bincount(y) / len(y))
    start[:, -1] -= start[:, -1].mean()
    state = solver.start(start, Answer(*plain_objective(start, X, y, SETTINGS.C)))
    while np.abs(state.gradient).max() > SETTINGS.tol:
        state, query = solver.ask(state)
        state = solver.tell(state, Answer(*plain_objective(query.theta, X, y, SETTINGS.C)))
    ours = train(opened(store["X"], store["y"]), SerialEngine(), SETTINGS)
    assert state.n_iter == ours.run.state.n_iter > 5
    theta = state.theta.copy()
    theta[:, -1] -= theta[:, :-1] @ means
    np.testing.assert_allclose(ours.model.theta, theta - theta.mean(axis=0), atol=1e-9)


def test_eight_threads_give_the_bits_of_one(
    store: zarr.Group, reference: tuple[bytes, str, bytes]
) -> None:
    result = train(opened(store["fine"], store["y"]), ThreadsEngine(8), SETTINGS)
    assert bits(result) == reference


@pytest.mark.parametrize("n_workers", [1, 3])
def test_worker_processes_give_the_bits_of_one_core(
    n_workers: int, store: zarr.Group, reference: tuple[bytes, str, bytes]
) -> None:
    with local_cluster(n_workers) as engine:
        result = train(opened(store["fine"], store["y"]), engine, SETTINGS)
    assert bits(result) == reference


def test_two_worker_processes_give_the_bits_of_one_core(
    two_workers: ClusterEngine, store: zarr.Group, reference: tuple[bytes, str, bytes]
) -> None:
    assert bits(train(opened(store["fine"], store["y"]), two_workers, SETTINGS)) == reference


def test_a_run_resumed_on_other_workers_ends_with_the_same_bits(
    two_workers: ClusterEngine, store: zarr.Group, reference: tuple[bytes, str, bytes]
) -> None:
    seen: list[Sequence[Run]] = []

    def keep(record: Record, runs: Sequence[Run]) -> None:
        seen.append(runs)

    source = opened(store["fine"], store["y"])
    train(source, SerialEngine(), SETTINGS, watchers=[keep])
    halfway = seen[len(seen) // 2]
    assert bits(train(source, two_workers, SETTINGS, resume=halfway)) == reference
    assert bits(train(source, ThreadsEngine(3), SETTINGS, resume=halfway)) == reference


@pytest.mark.parametrize("stored", ["numpy", "zarr", "dask"])
def test_folds_of_groups_have_the_same_bits_on_workers(
    stored: str, two_workers: ClusterEngine, store: zarr.Group
) -> None:
    words = np.array(["ash", "béé", "elm", "fir", "oak", "yew"])[np.arange(20_000) // 300 % 6]
    groups: object = {
        "numpy": words,
        "zarr": store["scene"],
        "dask": da.from_array(words, chunks=3_000),
    }[stored]
    grid, found = Grid(np.array([0.1, 1.0]), 2), []
    for engine, column in ((SerialEngine(), words), (two_workers, groups)):
        source = opened(store["fine"], store["y"], groups=column)
        found.append(train(source, engine, SETTINGS, grid))
    one, two = found
    assert one.log_loss.tobytes() == two.log_loss.tobytes()
    assert [bits(result) for result in one.models] == [bits(result) for result in two.models]


@pytest.mark.parametrize("n_workers", [1, 2])
def test_large_sums_come_to_the_driver_rounded(
    n_workers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    @Visiting
    def total(block: Block) -> dict[str, object]:
        return {"sum": block.X.sum(axis=0) / 3, "rows": block.n_rows}

    source = opened(np.random.default_rng(0).standard_normal((9_000, 4)), np.zeros(9_000, int))
    monkeypatch.setattr(tree, "DIRECT_BYTES", -1)
    with local_cluster(n_workers) as engine:
        totals = engine.total(total, source)
    assert type(totals.parts["sum"]) is Rounded
    assert totals.n_rows == 9_000
    expected = SerialEngine().total(total, source).result()
    assert totals.result()["sum"].tobytes() == expected["sum"].tobytes()
    assert totals.result()["rows"] == expected["rows"]


@pytest.mark.parametrize("stored", [np.asarray, scipy.sparse.csr_array])
def test_arrays_in_memory_travel_to_the_workers_once(
    stored: Callable[[np.ndarray], object],
    two_workers: ClusterEngine,
    arrays: tuple[np.ndarray, np.ndarray],
) -> None:
    X, y = stored(arrays[0]), arrays[1]
    there = train(opened(X, y), two_workers, SETTINGS).model.theta
    here = train(opened(X, y), SerialEngine(), SETTINGS).model.theta
    assert there.tobytes() == here.tobytes()


@pytest.mark.parametrize("kind", ["lazy", "persisted", "made from persisted"])
def test_dask_arrays_train_where_they_are(
    kind: str, two_workers: ClusterEngine, store: zarr.Group, arrays: tuple[np.ndarray, np.ndarray]
) -> None:
    X, y = (
        da.from_zarr(store["fine"], chunks=(3_000, 56)),
        da.from_zarr(store["y"], chunks=(4_000,)),
    )
    if kind != "lazy":
        X, y = X.persist(), y.persist()
    if kind == "made from persisted":
        X = X * 1
    there = train(opened(X, y), two_workers, SETTINGS).model.theta
    here = train(
        opened(np.tile(arrays[0], (1, 8)), arrays[1]), SerialEngine(), SETTINGS
    ).model.theta
    np.testing.assert_allclose(
        there, here, atol=1e-6
    )  # other chunks, other leaves: equal to rounding


def test_skipped_rows_have_the_same_bits_on_workers(
    arrays: tuple[np.ndarray, np.ndarray], two_workers: ClusterEngine
) -> None:
    X, y = arrays
    X = X.copy()
    X[:400], X[::7, 0] = np.nan, np.nan  # nothing of the first block counts
    dark = np.isnan(X).any(axis=1)
    lazy = da.ma.masked_invalid(da.from_array(X, chunks=(400, X.shape[1])))
    source = opened(lazy, np.ma.MaskedArray(y, np.arange(len(y)) % 11 == 0))
    found = train(source, two_workers, SETTINGS)
    assert bits(found) == bits(train(source, SerialEngine(), SETTINGS))
    blank = (np.arange(len(y)) % 11 == 0) & ~dark
    assert found.run.statistics.skipped.tolist() == [dark.sum(), blank.sum(), 0, 0]
