"""A validation set says when to stop: every pass scores its rows, and learns nothing from them."""

import json
import pickle
from itertools import pairwise
from pathlib import Path

import dask.array as da
import numpy as np
import pytest
import reference
import scipy.sparse
import zarr
from click.testing import CliRunner
from distributed import Client, LocalCluster
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened

from dsoftmax import SoftmaxRegression
from dsoftmax.cli.program import main
from dsoftmax.data.block import Block
from dsoftmax.data.validation import WithValidation, with_validation
from dsoftmax.engines.cluster.engine import ClusterEngine
from dsoftmax.engines.kept.block_file import describe_block, read_block, write_block
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import DataError, OptionError
from dsoftmax.first_pass.held_out import VALIDATION, fold_of, folds, places
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.first_pass.sample import Draw
from dsoftmax.first_pass.visit import Collect
from dsoftmax.kernels.choose import KERNELS
from dsoftmax.kernels.compiled.availability import available
from dsoftmax.objective.visit import Evaluate, Part, Question
from dsoftmax.results.stored_model import load_model
from dsoftmax.solvers.protocol import Query
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings

N, N_VAL, P, K = 300, 120, 12, 3
OVERFITTING = Settings(C=np.inf, tol=0, max_iter=500, solver="lbfgs", n_iter_no_change=3)


@pytest.fixture
def rows(rng):
    """Training and validation rows of one kind, too few to learn from without a penalty."""
    X = rng.normal(size=(N + N_VAL, P))
    y = (X[:, :K] + 2 * rng.gumbel(size=(N + N_VAL, K))).argmax(axis=1)
    weights = rng.integers(1, 5, N_VAL) / 2
    return X[:N], y[:N], X[N:], y[N:], weights


def in_numpy(X, y, w, path):
    return X, y, w


def in_csr(X, y, w, path):
    return scipy.sparse.csr_array(X), y, w


def in_zarr(X, y, w, path):
    def stored(name, values, chunks):
        return (
            None if values is None else zarr.create_array(path / name, data=values, chunks=chunks)
        )

    return stored("X", X, (40, P)), stored("y", y + 0, (64,)), stored("w", w, (30,))


def in_dask(X, y, w, path):
    return (
        da.from_array(X, chunks=(50, P)),
        da.from_array(y, chunks=70),
        None if w is None else da.from_array(w, chunks=33),
    )


KINDS = {"numpy": in_numpy, "csr": in_csr, "zarr": in_zarr, "dask": in_dask}


def sources(kind, rows, tmp_path):
    X, y, X_val, y_val, w = rows
    training = opened(*KINDS[kind](X, y, None, tmp_path / "training"), missing_chunks="fill")
    return training, opened(
        *KINDS[kind](X_val, y_val, w, tmp_path / "validation"), missing_chunks="fill"
    )


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_has_the_bits_of_a_run_without_validation(kind, rows, tmp_path):
    training, validation = sources(kind, rows, tmp_path)
    settings = Settings(tol=1e-7, n_iter_no_change=1000)
    alone = train(training, SerialEngine(), settings)
    judged = train(training, SerialEngine(), settings, validation=validation)
    assert alone.converged
    assert judged.converged
    assert judged.model.theta.tobytes() == alone.model.theta.tobytes()
    assert judged.model.about == alone.model.about
    assert [one.objective for one in judged.history] == [one.objective for one in alone.history]
    assert [one.rows for one in judged.history] == [N + N_VAL] * len(judged.history)


@pytest.mark.parametrize("kind", KINDS)
def test_it_returns_the_point_with_the_least_loss_on_the_validation_rows(kind, rows, tmp_path):
    training, validation = sources(kind, rows, tmp_path)
    _, _, X_val, y_val, weights = rows
    points = []
    result = train(
        training,
        SerialEngine(),
        OVERFITTING,
        validation=validation,
        watchers=[lambda _, runs: points.append(runs[0].theta)],
    )
    losses = [reference.value(theta, X_val, y_val, weights) / weights.sum() for theta in points[1:]]
    assert_allclose([one.held_loss for one in result.history[1:]], losses, rtol=1e-12)
    best = int(np.argmin(losses))
    assert 0 < best < len(losses) - 1
    assert_array_equal(result.model.theta, points[1 + best] - points[1 + best].mean(axis=0))
    assert result.converged
    steps = [one.iteration for one in result.history]
    assert steps[-1] - steps[1 + best] == OVERFITTING.n_iter_no_change
    assert (
        f"the loss on the validation rows has not fallen below {losses[best]:.6g} for 3 iterations"
        in result.status
    )


def test_engines_and_places_give_the_same_bits(rows, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.zarr.source.GROUP_BYTES", 0)
    training, validation = sources("zarr", rows, tmp_path)
    ends = [
        train(training, engine, OVERFITTING, validation=validation)
        for engine in (SerialEngine(), ThreadsEngine(3))
    ]
    local = {"n_workers": 2, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with LocalCluster(**local) as cluster, Client(cluster) as client:
        engine = ClusterEngine(client)
        ends.append(train(training, engine, OVERFITTING, validation=validation))
        X, y, X_val, y_val, w = rows
        kept = client.persist([da.from_array(part, chunks=100) for part in (X_val, y_val, w)])
        X_in_dask = da.from_array(X, chunks=(40, P)).persist()
        persisted = opened(X_in_dask, da.from_array(y, chunks=64).persist())
        ends.append(train(persisted, engine, OVERFITTING, validation=opened(*kept)))
        ends.append(train(training, engine, OVERFITTING, validation=opened(*kept)))
        engine.close()
    assert len(ends) == 5
    assert len({end.status for end in ends}) == 1
    assert len({end.model.theta.tobytes() for end in ends}) == 1


def test_the_source_of_both_has_the_chunks_of_both_and_marks_the_validation_rows(rows, tmp_path):
    training, validation = sources("zarr", rows, tmp_path)
    both = with_validation(training, validation)
    n = len(training.chunk_rows)
    assert_array_equal(both.chunk_rows, [*training.chunk_rows, *validation.chunk_rows])
    assert_array_equal(both.chunk_bytes, [*training.chunk_bytes, *validation.chunk_bytes])
    for chunks in (
        range(len(both.chunk_rows)),
        range(n),
        range(n, len(both.chunk_rows)),
        [n - 1, n],
    ):
        share = pickle.loads(pickle.dumps(both.share(list(chunks))))
        for chunk in chunks:
            alone = training.load(chunk) if chunk < n else validation.load(chunk - n)
            for block in (
                both.load(chunk),
                share.load(chunk),
                share.load(chunk, np.empty(10_000, np.uint8)),
            ):
                assert_array_equal(block.X, alone.X)
                assert_array_equal(block.y, alone.y)
                assert (block.first_row, block.names, block.validation) == (
                    alone.first_row,
                    alone.names,
                    chunk >= n,
                )
    assert json.loads(json.dumps(both.describe())) == {
        "training": training.describe(),
        "validation": validation.describe(),
    }


@pytest.mark.parametrize("dtypes", [("u1", "u1"), ("u1", "f4"), ("f4", "f8")])
def test_products_are_in_a_dtype_that_holds_both(dtypes):
    one, two = (opened(np.eye(4, dtype=dtype), [0, 1, 0, 1]) for dtype in dtypes)
    assert WithValidation(one, two).dtype == np.promote_types(*dtypes)


def test_a_block_stays_one_of_validation_in_leaves_and_in_a_spool(rng, tmp_path):
    block = Block(rng.normal(size=(300_000, 2)), rng.integers(0, 2, 300_000), validation=True)
    leaves = list(block.leaves())
    assert len(leaves) > 1
    assert all(leaf.validation for leaf in leaves)
    write_block(tmp_path / "block", *describe_block(3, block))
    assert read_block(tmp_path / "block", 3, None).validation
    assert not any(fold_of(folds(3), places(leaf)).min() < 3 for leaf in leaves)
    assert all(VALIDATION.mask(places(leaf)).all() for leaf in leaves)


def test_the_first_pass_checks_validation_rows_and_adds_none_of_them(rng):
    block = Block(rng.normal(size=(50, 3)), rng.integers(0, 3, 50), rng.uniform(1, 2, 50))
    judging = Block(block.X, block.y, block.weights, 0, block.names, None, True)
    for gram, draw in ((0.0, None), (1.0, Draw(1.0, 0))):
        found = Collect(gram, draw=draw)(judging)
        full = Collect(gram, draw=draw)(block)
        assert set(found) == set(full)
        assert not found["by_label"].leaves
        assert not np.any(found["squares"])
        assert not np.any(found["absolute"])
        assert gram == 0 or (not found["gram"].any() and len(found["sample"].numbers) == 0)


@pytest.mark.parametrize("kernel", [one for one in KERNELS if one == "numpy" or available()])
@pytest.mark.parametrize("sparse", [False, True])
def test_validation_rows_are_scored_and_in_no_other_sum(kernel, sparse, rng, monkeypatch):
    monkeypatch.setattr("dsoftmax.objective.scores.SCORED_VALUES", 64)
    X, y, w = rng.normal(size=(50, 3)), rng.integers(0, 3, 50), rng.uniform(1, 2, 50)
    theta, trial = rng.normal(size=(2, 3, 4))
    query = Query(theta, trials=trial[None], direction=trial, hessian=not sparse, moments=True)
    visit = Evaluate(
        (Question(query, None, np.dtype("f8"), VALIDATION),), Encoder(np.arange(3)), kernel
    )
    stored = scipy.sparse.csr_array(X) if sparse else X
    found = visit(Block(stored, y, w, validation=True))
    for point, name in ((theta, Part("held")), (trial, Part("held", point=1))):
        hits = (X @ point[:, :-1].T + point[:, -1]).argmax(axis=1) == y
        assert_allclose(
            found.pop(name), [reference.value(point, X, y, w), w @ hits, w.sum()], rtol=1e-12
        )
    others = visit(Block(stored, y, w))
    assert set(found) == set(others) - {Part("held"), Part("held", point=1)}
    for name, part in found.items():
        assert np.shape(part) == np.shape(others[name])
        assert not np.any(part), name
    assert_array_equal(others[Part("held")], 0)


def test_a_validation_set_that_cannot_score_is_refused_by_name(rows):
    X, y, X_val, y_val, w = rows
    bad, other, none = X_val.copy(), y_val.copy(), np.zeros(N_VAL)
    bad[7, 2], other[9] = np.nan, 17
    fit = SoftmaxRegression(solver="lbfgs").fit
    for arguments, error, message in (
        ({"X_val": X_val}, OptionError, "X_val and y_val belong together"),
        ({"sample_weight_val": w}, OptionError, "sample_weight_val to them"),
        (
            {"X_val": X_val, "y_val": y_val[:-1]},
            DataError,
            f"y_val has {N_VAL - 1} rows and X_val has {N_VAL}",
        ),
        ({"X_val": bad, "y_val": y_val}, DataError, "X_val row 7, column 2: the value is nan"),
        (
            {"X_val": X_val, "y_val": other},
            DataError,
            r"y_val rows 0–119: label 17 \(row 9\).*Validation rows may only have",
        ),
        (
            {"X_val": X_val, "y_val": y_val, "sample_weight_val": none},
            DataError,
            "weights of the validation rows are all zero",
        ),
        (
            {"X_val": X_val, "y_val": y_val, "sample_weight_val": -w},
            DataError,
            "sample_weight_val row 0: the weight is -",
        ),
        (
            {"X_val": scipy.sparse.csr_array(X_val), "y_val": y_val},
            DataError,
            "X_val is sparse and X is dense",
        ),
    ):
        with pytest.raises(error, match=message):
            fit(X, y, **arguments)
    with pytest.raises((DataError, ValueError), match=f"{P - 1} features"):
        fit(X, y, X_val=X_val[:, 1:], y_val=y_val)
    with pytest.raises(DataError, match=f"X_val has {P - 1} features and X has {P}"):
        fit(da.from_array(X), y, X_val=da.from_array(X_val[:, 1:]), y_val=y_val)
    with pytest.raises(
        OptionError, match="validation_fraction does nothing if a validation set is given"
    ):
        SoftmaxRegression(validation_fraction=0.1).fit(X, y, X_val=X_val, y_val=y_val)


def test_the_estimator_takes_validation_rows_of_any_kind(rows):
    X, y, X_val, y_val, w = rows
    estimator = SoftmaxRegression(C=np.inf, tol=0, max_iter=500, solver="lbfgs", n_iter_no_change=3)
    names = np.array(["a", "b", "c"])
    kinds = [(X_val, y_val, w), (da.from_array(X_val, chunks=50), da.from_array(y_val), w)]
    found = [
        estimator.fit(X, names[y], X_val=A, y_val=names[np.asarray(b)], sample_weight_val=v)
        for A, b, v in kinds
    ]
    for one in found:
        assert one.status_.startswith("Stopped early")
        assert one.coef_.tobytes() == found[0].coef_.tobytes()
    losses = [line["held_loss"] for line in estimator.history_[1:]]
    log_p = estimator.predict_log_proba(X_val)[np.arange(N_VAL), y_val]
    assert_allclose(min(losses), -(w @ log_p) / w.sum(), rtol=1e-10)


@pytest.fixture
def stores(rows, tmp_path, monkeypatch):
    X, y, X_val, y_val, _ = rows
    for name, features, labels in (("data.zarr", X, y), ("judge.zarr", X_val, y_val)):
        group = zarr.create_group(tmp_path / name)
        group.create_array("X", data=features, chunks=(50, P))
        group.create_array("y", data=labels, chunks=(50,), config={"write_empty_chunks": True})
    monkeypatch.chdir(tmp_path)


COMMAND = (
    "data.zarr",
    "--features",
    "X",
    "--labels",
    "y",
    "--validation",
    "judge.zarr",
    "--C",
    "inf",
    "--solver",
    "lbfgs",
)


def run(*words):
    return CliRunner().invoke(main, [*words])


def test_the_command_stops_early_and_resumes_where_it_was_stopped(stores, rows):
    words = ("train", *COMMAND, "--tol", "0", "--n-iter-no-change", "3", "--max-iter")
    assert run(*words, "2", "--out", "parts").exit_code == 3
    for out in ("parts", "whole"):
        found = run(*words, "500", "--out", out)
        assert found.exit_code == 0, found.stderr
        assert "Stopped early after" in found.stdout
        assert "validation rows" in found.stdout
    parts, whole = (load_model(Path(out) / "model.zarr").theta for out in ("parts", "whole"))
    assert parts.tobytes() == whole.tobytes()
    losses = [
        json.loads(line)["held_loss"]
        for line in Path("whole/history.jsonl").read_text().splitlines()[1:]
    ]
    assert min(losses) < losses[-1]
    assert any(a > b for a, b in pairwise(losses))
    assert_allclose(min(losses), reference.value(whole, rows[2], rows[3]) / N_VAL, rtol=1e-10)
    shown = run("inspect", *COMMAND)
    assert shown.exit_code == 0, shown.stderr
    assert "judge.zarr/X" in shown.stdout
    assert f"{N + N_VAL}" in shown.stdout


def test_a_run_belongs_to_its_validation_rows(stores, rows):
    words = ("train", *COMMAND, "--max-iter", "2", "--out", "run")
    assert run(*words).exit_code == 3
    X_val = rows[2].copy()
    X_val[-1, -1] += 1
    zarr.open_group("judge.zarr")["X"][:] = X_val
    found = run(*words)
    assert found.exit_code == 1
    assert "contents of the first or last chunk" in found.stderr
    found = run(*(word for word in words if word not in ("--validation", "judge.zarr")))
    assert found.exit_code == 1
    assert "validation" in found.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--validation", "data.zarr"), "--features names"),
        (("--validation", "judge.zarr", "--labels", "data.zarr/y"), "--labels names"),
        (("--validation", "judge.zar"), "Did you mean judge.zarr"),
        (
            ("--validation", "judge.zarr", "--folds", "3"),
            "--validation and --folds",
        ),
        (
            ("--validation", "judge.zarr", "--validation-fraction", "0.1"),
            "--validation and --validation-fraction",
        ),
    ],
)
def test_options_that_contradict_are_refused_before_anything_is_made(stores, options, message):
    found = run("train", "data.zarr", "--features", "X", "--labels", "y", *options, "--out", "run")
    assert found.exit_code == 1
    assert message in " ".join(found.stderr.split())
    assert not Path("run").exists()
