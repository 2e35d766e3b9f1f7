"""Coefficients are counted before they are read, and read once."""

import tracemalloc

import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal

from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import MemoryLimitError
from dsoftmax.results import evaluate, predict
from dsoftmax.results.model import Model
from dsoftmax.results.outputs import logits
from dsoftmax.results.stored_model import load_model, save_model, sketch_model

K, P = 20, 100_000
THETA = 8 * K * (P + 1)


@pytest.fixture(scope="module")
def stored(tmp_path_factory):
    path = tmp_path_factory.mktemp("large")
    theta = np.random.default_rng(0).normal(size=(K, P + 1))
    save_model(Model(theta, np.arange(K)), path / "model.zarr")
    group = zarr.create_group(path / "data.zarr")
    X = np.random.default_rng(1).integers(0, 9, (40, P)).astype("u1")
    group.create_array("X", data=X, chunks=(10, P))
    group.create_array("y", data=np.arange(40) % K, chunks=(10,))
    return path / "model.zarr", group, theta


def peak_of(function, *args):
    tracemalloc.start()
    try:
        function(*args)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_coefficients_are_read_once_and_a_sketch_reads_none(stored):
    path, _, theta = stored
    assert_array_equal(load_model(path).theta, theta)
    assert THETA <= peak_of(load_model, path) < 1.2 * THETA
    assert peak_of(sketch_model, path) < 0.2 * THETA
    sketch = sketch_model(path)
    assert (sketch.theta.shape, sketch.theta.nbytes) == (theta.shape, THETA)
    assert_array_equal(sketch.classes, np.arange(K))


def test_a_prediction_holds_one_copy_of_the_coefficients(stored):
    _, group, theta = stored
    X = group["X"][:10]
    assert peak_of(logits, Model(theta, np.arange(K)), X) < 1.6 * THETA + 10 * 8 * 2 * P


@pytest.mark.parametrize("door", [predict, evaluate])
def test_memory_below_the_coefficients_is_refused_with_the_limit_that_is_enough(stored, door):
    path, group, _ = stored
    source = open_source(Table(group["X"], group["y"]))
    sketch = sketch_model(path)
    engine = ThreadsEngine(n_threads=1)
    door.require_memory(sketch, source, engine)
    work = (
        predict.scratch_bytes(sketch, source, False)
        if door is predict
        else evaluate.metrics.Score(sketch, 10).footprint(P, False).scratch
    )
    least = engine.plan(source).needs.process + THETA + work
    assert THETA <= work < 5 * THETA
    with pytest.raises(MemoryLimitError, match="Allow at least"):
        door.require_memory(sketch, source, ThreadsEngine(1, memory_limit=least))
    door.require_memory(sketch, source, ThreadsEngine(1, memory_limit=2 * least))
