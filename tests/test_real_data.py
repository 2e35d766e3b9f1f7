"""Real data from a Zarr store: scikit-learn's optimum on a sample, and whole sets to the tolerance.

Covertype's features run from metres to 0/1. It is trained raw, as stored, and standardised.
Fashion-MNIST is divided by 255.
"""

import os
from pathlib import Path

import numpy as np
import pytest
import zarr
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression

from dsoftmax import SoftmaxRegression
from dsoftmax.estimators.sklearn import ConvergenceWarning

DATA = os.environ.get("DSOFTMAX_DATA")

pytestmark = [
    pytest.mark.data,
    pytest.mark.timeout(600),
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.skipif(
        DATA is None,
        reason="DSOFTMAX_DATA does not name a folder with covtype.npz and fashion_mnist.npz",
    ),
]


def plain_objective(coef: NDArray, intercept: NDArray, X: NDArray, y: NDArray, C: float) -> float:
    """Return F by the textbook formula, in float64."""
    Z = X.astype(np.float64) @ coef.T + intercept
    Z -= Z.max(axis=1, keepdims=True)
    losses = np.log(np.exp(Z).sum(axis=1)) - Z[np.arange(len(y)), y]
    return float(losses.mean() + np.sum(coef**2) / (2 * C * len(y)))


@pytest.fixture(scope="module")
def covtype() -> tuple[NDArray, NDArray]:
    with np.load(Path(str(DATA)) / "covtype.npz") as stored:
        return stored["X"], stored["y"]


@pytest.fixture(scope="module")
def fashion() -> tuple[NDArray, NDArray]:
    with np.load(Path(str(DATA)) / "fashion_mnist.npz") as stored:
        return stored["X_train"], stored["y_train"]


def standardised(X: NDArray) -> NDArray:
    return ((X - X.mean(axis=0)) / X.std(axis=0).clip(1e-9)).astype(np.float32)


def stored(path: Path, X: NDArray, y: NDArray, chunk_rows: int) -> zarr.Group:
    group = zarr.create_group(path)
    group.create_array("X", data=X, chunks=(chunk_rows, X.shape[1]))
    # The rows are in map order, so whole chunks have class 0. Zarr would leave out the fill value.
    group.create_array("y", data=y, chunks=(chunk_rows,), config={"write_empty_chunks": True})
    return group


def sample(X: NDArray, y: NDArray) -> tuple[NDArray, NDArray]:
    rows = np.sort(np.random.default_rng(0).choice(len(y), 8_000, replace=False))
    return X[rows], y[rows]


def test_covtype_sample_reaches_the_optimum_of_scikit_learn(
    covtype: tuple[NDArray, NDArray], tmp_path: Path
) -> None:
    raw, y = sample(*covtype)
    X = standardised(raw)
    group = stored(tmp_path / "s.zarr", X, y, 10_000)
    theirs = LogisticRegression(C=1.0, tol=1e-8, max_iter=500, solver="newton-cholesky").fit(
        X.astype(np.float64), y
    )
    ours = SoftmaxRegression(C=1.0, tol=3e-6, max_iter=3_000).fit(group["X"], group["y"])
    best = plain_objective(theirs.coef_, theirs.intercept_, X, y, 1.0)
    assert plain_objective(ours.coef_, ours.intercept_, X, y, 1.0) == pytest.approx(best, rel=1e-6)
    assert ours.objective_ == pytest.approx(best, rel=1e-6)


def test_fashion_mnist_sample_reaches_the_optimum_of_scikit_learn(
    fashion: tuple[NDArray, NDArray], tmp_path: Path
) -> None:
    raw, y = sample(*fashion)
    X = (raw / np.float32(255)).astype(np.float32)
    group = stored(tmp_path / "s.zarr", X, y, 10_000)
    theirs = LogisticRegression(C=1e-4, tol=1e-8, max_iter=2_000).fit(X.astype(np.float64), y)
    ours = SoftmaxRegression(C=1e-4, tol=1e-5, max_iter=1_000).fit(group["X"], group["y"])
    best = plain_objective(theirs.coef_, theirs.intercept_, X, y, 1e-4)
    assert plain_objective(ours.coef_, ours.intercept_, X, y, 1e-4) == pytest.approx(best, rel=1e-6)
    assert ours.objective_ == pytest.approx(best, rel=1e-6)


def test_raw_covtype_is_read_as_stored_and_reaches_the_optimum(
    covtype: tuple[NDArray, NDArray], tmp_path: Path
) -> None:
    X, y = covtype
    group = stored(tmp_path / "s.zarr", X, y, 50_000)
    assert group["X"].dtype == np.int16
    model = SoftmaxRegression(C=1.0, tol=1e-4, kernel="fused").fit(group["X"], group["y"])
    assert model.status_.startswith("Converged")
    assert model.n_passes_ <= 15
    value = plain_objective(model.coef_, model.intercept_, X, y, 1.0)
    assert model.objective_ == pytest.approx(value, rel=1e-9)
    assert [record["rows"] for record in model.history_] == [581_012] * model.n_passes_
    # scikit-learn's optimum of a sample, scaled back, bounds the optimum of all rows from above.
    # Its penalty is stronger for every feature whose spread exceeds 1.
    rows, labels = sample(X, y)
    scale = rows.std(axis=0).clip(1e-9)
    theirs = LogisticRegression(C=1.0, tol=1e-6, max_iter=500, solver="newton-cholesky").fit(
        rows / scale, labels
    )
    assert value < plain_objective(theirs.coef_ / scale, theirs.intercept_, X, y, 1.0)


def test_plain_lbfgs_says_that_raw_covtype_wants_another_scale(
    covtype: tuple[NDArray, NDArray], tmp_path: Path
) -> None:
    X, y = sample(*covtype)
    group = stored(tmp_path / "s.zarr", X, y, 5_000)
    with pytest.warns(ConvergenceWarning, match="scale the features"):
        SoftmaxRegression(solver="lbfgs", max_iter=20).fit(group["X"], group["y"])


def test_the_whole_of_covtype_trains_to_the_tolerance(
    covtype: tuple[NDArray, NDArray], tmp_path: Path
) -> None:
    X, y = covtype
    group = stored(tmp_path / "s.zarr", standardised(X), y, 50_000)
    model = SoftmaxRegression(C=1.0, tol=1e-4, max_iter=1_000, kernel="fused").fit(
        group["X"], group["y"]
    )
    assert model.status_.startswith("Converged")
    assert model.score(group["X"], group["y"]) > 0.71


def test_the_whole_of_fashion_mnist_trains_to_the_tolerance(
    fashion: tuple[NDArray, NDArray], tmp_path: Path
) -> None:
    X, y = fashion
    group = stored(tmp_path / "s.zarr", (X / np.float32(255)).astype(np.float32), y, 5_000)
    model = SoftmaxRegression(C=1e-3, tol=1e-4, max_iter=1_000, kernel="fused").fit(
        group["X"], group["y"]
    )
    assert model.status_.startswith("Converged")
    assert model.score(group["X"], group["y"]) > 0.8
