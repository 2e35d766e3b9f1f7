"""The choice of a kernel, which a run makes once."""

import numpy as np
import pytest
import scipy.sparse
from compiled_cases import NEEDS_NUMBA
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened

from dsoftmax.data.block import Block
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import DsoftmaxError, OptionError
from dsoftmax.first_pass.labels import Encoder
from dsoftmax.kernels.choose import choose_kernel
from dsoftmax.kernels.compiled import availability
from dsoftmax.objective.visit import Evaluate, Question
from dsoftmax.solvers.protocol import Query
from dsoftmax.training.loop import train
from dsoftmax.training.prepare import prepare
from dsoftmax.training.settings import Settings

pytestmark = NEEDS_NUMBA


@pytest.fixture
def without_numba(monkeypatch):
    monkeypatch.setattr(availability, "available", lambda: False)


@pytest.fixture
def source(rng):
    X = rng.normal(size=(300, 4)).astype("f4")
    return opened(X, (X @ rng.normal(size=(4, 3)) + rng.gumbel(size=(300, 3))).argmax(axis=1))


def test_auto_is_fused_where_numba_is_and_the_work_is_worth_compiling(source, monkeypatch):
    assert train(source, SerialEngine(), Settings(max_iter=2)).run.kernel == "numpy"
    monkeypatch.setattr("dsoftmax.kernels.choose.FUSED_VALUES", 300 * 4)
    assert train(source, SerialEngine(), Settings(max_iter=2)).run.kernel == "fused"


def test_auto_is_numpy_without_numba(source, without_numba):
    assert train(source, SerialEngine(), Settings(max_iter=2)).run.kernel == "numpy"


@pytest.mark.parametrize("kernel", ["numpy", "fused"])
def test_engines_give_the_same_bits_with_either_kernel(source, kernel):
    settings = Settings(max_iter=5, kernel=kernel)
    one, two = (train(source, engine, settings) for engine in (SerialEngine(), ThreadsEngine(3)))
    assert_array_equal(one.model.theta, two.model.theta)


def test_both_kernels_reach_one_optimum(source):
    ends = [
        train(source, SerialEngine(), Settings(tol=1e-9, kernel=kernel))
        for kernel in ("numpy", "fused")
    ]
    assert all(end.converged for end in ends)
    assert_allclose(ends[1].model.theta, ends[0].model.theta, atol=1e-6)


def test_a_resumed_run_keeps_to_its_kernel(source):
    seen = []
    whole = train(
        source,
        SerialEngine(),
        Settings(solver="lbfgs", kernel="numpy"),
        watchers=[lambda record, runs: seen.append(runs)],
    )
    again = train(source, SerialEngine(), Settings(solver="lbfgs"), resume=seen[2])
    assert again.run.kernel == "numpy"
    assert_array_equal(again.model.theta, whole.model.theta)
    with pytest.raises(OptionError, match=r"kernel='fused', but the run to resume used 'numpy'"):
        train(source, SerialEngine(), Settings(kernel="fused"), resume=seen[2])


def test_missing_numba_is_named(without_numba):
    with pytest.raises(
        OptionError, match=r"pip install 'dsoftmax\[fast\]', or pass kernel='numpy'"
    ):
        Settings(kernel="fused").check()
    with pytest.raises(
        OptionError, match=r"which this run used.*start a new run with kernel='numpy'"
    ):
        choose_kernel("auto", "fused")
    visit = Evaluate(
        (Question(Query(np.zeros((2, 2))), None, np.dtype("f4")),), Encoder(np.arange(2)), "fused"
    )
    with pytest.raises(DsoftmaxError, match="on every worker"):
        visit(Block(np.zeros((2, 1), "f4"), np.arange(2)))


def test_an_unknown_kernel_is_refused():
    with pytest.raises(OptionError, match=r"kernel='fuse' is unknown. Did you mean 'fused'"):
        Settings(kernel="fuse").check()


@pytest.mark.parametrize("sparse", [False, True])
def test_the_first_pass_is_planned_with_its_compiled_code(rng, sparse):
    X = rng.normal(size=(300, 4))
    source = opened(scipy.sparse.csr_array(X) if sparse else X, rng.integers(0, 3, 300))
    for kernel in ("numpy", "fused"):
        projected = prepare(source, Settings(kernel=kernel)).footprint.code
        assert projected == (availability.CODE_BYTES if sparse and kernel == "fused" else 0)
