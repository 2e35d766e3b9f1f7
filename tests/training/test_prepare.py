"""Sizes, settings and the memory limit decide all before the first pass: no chunk is loaded."""

import subprocess
import sys

import numpy as np
import pytest
import scipy.sparse
from opening import opened

from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.table import Names, Table
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import MemoryLimitError, OptionError
from dsoftmax.first_pass.held_out import VALIDATION, folds
from dsoftmax.kernels import choose
from dsoftmax.kernels.choose import FUSED_FROM, FUSED_VALUES, choose_kernel
from dsoftmax.kernels.compiled.availability import available
from dsoftmax.solvers.auto import SURROGATE, SURROGATE_ENTRIES
from dsoftmax.solvers.table import SOLVERS, Choice
from dsoftmax.training.grid import Grid
from dsoftmax.training.loop import train
from dsoftmax.training.prepare import Resumed, prepare
from dsoftmax.training.settings import Settings

needs_numba = pytest.mark.skipif(
    not available(), reason="numba is not installed: pip install 'dsoftmax[fast]'"
)


class Metadata:
    """A source that knows its sizes and refuses to load a chunk."""

    sparse, resident, names, columns = False, False, Names(), ColumnBytes(label=8)

    def __init__(self, n_rows, n_features, dtype="f4", sparse=False, bytes_per_value=None):
        self.n_features, self.dtype, self.sparse = n_features, np.dtype(dtype), sparse
        self.dtypes = Table(self.dtype, np.dtype(np.int64))
        self.chunk_rows = np.array([n_rows])
        each = bytes_per_value or self.dtype.itemsize
        self.chunk_bytes = self.chunk_rows * n_features * each

    def load(self, chunk, buffer=None):
        raise AssertionError("a chunk was loaded")


def test_no_chunk_is_loaded_and_the_draw_and_the_gram_matrix_follow_from_the_sizes():
    few = prepare(Metadata(1000, 10), Settings())
    assert few.draw.share == 1  # small data are drawn whole
    assert few.gram == 1
    many, wide = (prepare(Metadata(10_000_000, p), Settings()) for p in (100, 2000))
    assert 0 < many.draw.share < 1
    assert many.gram == 1  # rows are drawn by their leverages
    assert 0 < wide.gram < 1
    assert prepare(Metadata(1000, 10, sparse=True), Settings()).gram == 0
    assert prepare(Metadata(1000, 10), Settings(solver="lbfgs")).draw is None
    assert prepare(Metadata(1000, 10), Settings(solver="lbfgs")).gram == 0


@pytest.mark.parametrize(("stored", "products"), [("f4", "f4"), ("i2", "f4"), ("f8", "f8")])
def test_products_are_in_the_smallest_dtype_that_holds_the_stored_values(stored, products):
    assert prepare(Metadata(100, 3, stored), Settings()).dtype == products
    assert prepare(Metadata(100, 3, stored), Settings(dtype="float64")).dtype == "f8"


def test_every_model_has_its_C_and_the_rows_it_holds_out():
    source, other = Metadata(100, 3), Metadata(50, 3)
    (one,) = prepare(source, Settings(C=3.0)).members
    assert (one.settings.C, one.held_out, one.part) == (3.0, None, None)
    (one,) = prepare(source, Settings(validation_fraction=0.2)).members
    assert (one.held_out.low, one.held_out.high, one.part) == (0.0, 0.2, 0)
    prepared = prepare(source, Settings(), validation=other)
    (one,) = prepared.members
    assert (one.held_out, one.part) == (VALIDATION, None)
    assert (prepared.n_rows, prepared.source.chunk_rows.sum()) == (100, 150)
    prepared = prepare(source, Settings(), Grid(np.array([0.1, 1.0]), 3))
    expected = [(C, part, i) for i, part in enumerate(folds(3)) for C in (0.1, 1.0)]
    expected += [(C, None, None) for C in (0.1, 1.0)]
    found = [(one.settings.C, one.held_out, one.part) for one in prepared.members]
    assert found == expected
    assert prepared.visit.held_out == folds(3)


@pytest.mark.parametrize("settings", [Settings(validation_fraction=0.1), Settings()])
def test_two_options_that_hold_out_rows_are_refused(settings):
    source, grid = Metadata(100, 3), Grid(np.array([1.0]), 2)
    with pytest.raises(OptionError, match="does nothing if"):
        prepare(source, settings, grid, validation=Metadata(50, 3))
    if settings.validation_fraction is not None:
        for others in ({"grid": grid}, {"validation": Metadata(50, 3)}):
            with pytest.raises(OptionError, match="validation_fraction does nothing if"):
                prepare(source, settings, **others)


def test_the_solver_is_settled_at_once_or_by_the_number_of_classes():
    assert prepare(Metadata(1000, 9), Settings(solver="lbfgs")).choice.solver == "lbfgs"
    elastic = prepare(Metadata(100_000, 9), Settings(l1_ratio=0.5))
    assert elastic.choice is None
    solvers = [elastic.expect_solver(K).solver for K in (3, SURROGATE_ENTRIES // 10 + 1)]
    assert solvers == ["proximal-newton", "matrix-free"]
    assert all(SOLVERS[name].l1 for name in solvers)
    prepared = prepare(Metadata(100_000, 9), Settings())
    assert prepared.choice is None
    most = SURROGATE_ENTRIES // 10
    assert prepared.expect_solver(most).solver == SURROGATE
    assert prepared.expect_solver(most + 1).solver != SURROGATE
    used = prepare(
        Metadata(100_000, 9), Settings(), resumed=Resumed("numpy", Choice("lbfgs", "before"))
    )
    assert used.expect_solver(3) == Choice("lbfgs", "before")


@pytest.mark.parametrize("sparse", [False, True])
def test_the_solver_that_is_expected_is_the_one_that_training_chooses(rng, sparse):
    X, y = rng.normal(size=(400, 6)), rng.integers(0, 3, 400)
    source = opened(scipy.sparse.csr_array(X) if sparse else X, y)
    expected = prepare(source, Settings()).expect_solver(3)
    run = train(source, SerialEngine(), Settings(max_iter=1)).run
    assert (run.solver, run.why) == (expected.solver, expected.why)


def test_memory_without_a_sample_is_refused_for_a_new_run_and_not_for_one_that_has_its_sample(
    monkeypatch,
):
    monkeypatch.setattr("dsoftmax.first_pass.sample.LEAST_ROWS", 10**6)
    monkeypatch.setattr("dsoftmax.first_pass.sample.LEAST_BYTES", 0)
    source, settings = Metadata(10**6, 50), Settings(solver="surrogate")
    with pytest.raises(MemoryLimitError, match=r"solver='surrogate'.*solver='auto'"):
        prepare(source, settings, memory_limit=2**20)
    assert prepare(source, settings, memory_limit=2**20, resumed=Resumed("numpy")).draw is None
    assert prepare(source, Settings(), memory_limit=2**20).draw is None


@pytest.mark.parametrize("classes", [None, np.arange(3)])
def test_a_larger_memory_limit_does_not_make_the_footprint_larger(classes):
    settings, source = Settings(kernel="numpy", classes=classes), Metadata(10**6, 50)
    limits = [2**20, 2**28, 2**29, 2**31, None]
    prepared = [prepare(source, settings, memory_limit=limit) for limit in limits]
    assert prepared[0].draw is None
    assert prepared[-1].draw.n_bytes > 2**20
    assert len({one.footprint for one in prepared}) == 1


# The kernel


def chosen(source, settings=None, grid=None, **options):
    return prepare(source, settings or Settings(), grid, **options).kernel.name


@needs_numba
def test_auto_compiles_only_for_work_that_earns_it():
    rows = FUSED_VALUES // 8
    assert chosen(Metadata(rows - 1, 8)) == "numpy"
    assert chosen(Metadata(rows, 8)) == "fused"
    assert chosen(Metadata(rows, 8), Settings(kernel="numpy")) == "numpy"
    assert chosen(Metadata(10, 8), Settings(kernel="fused")) == "fused"


@needs_numba
def test_models_that_share_the_passes_count_as_work():
    grid = Grid(np.array([0.1, 1.0]), 3)  # eight models
    assert chosen(Metadata(FUSED_VALUES // 64, 8), grid=grid) == "fused"
    assert chosen(Metadata(FUSED_VALUES // 64 - 1, 8), grid=grid) == "numpy"
    assert chosen(Metadata(FUSED_VALUES // 64, 8)) == "numpy"


@needs_numba
def test_zeros_that_CSR_does_not_store_are_no_work(rng, monkeypatch):
    X = scipy.sparse.random(500, 40, density=0.1, format="csr", random_state=0)
    source = opened(X, rng.integers(0, 2, 500))
    monkeypatch.setattr(choose, "FUSED_VALUES", 2 * X.nnz)
    assert chosen(source) == "numpy"
    monkeypatch.setattr(choose, "FUSED_VALUES", X.nnz // 2)
    assert chosen(source) == "fused"


def test_a_run_that_is_resumed_keeps_its_kernel_at_any_size():
    assert chosen(Metadata(FUSED_VALUES, 8), resumed=Resumed("numpy")) == "numpy"
    if available():
        assert chosen(Metadata(10, 8), resumed=Resumed("fused")) == "fused"


@needs_numba
def test_each_reason_for_a_kernel_is_said():
    big, small = FUSED_VALUES, FUSED_VALUES - 1
    assert f"{small:,} values" in choose_kernel("auto", n_values=small).why
    assert "512 MiB" in choose_kernel("auto", allowed=FUSED_FROM - 1, n_values=big).why
    assert "numba" in choose_kernel("auto", allowed=FUSED_FROM, n_values=big).why
    assert choose_kernel("numpy", n_values=big).why == "as asked"
    assert "resume" in choose_kernel("auto", "fused", n_values=small).why


LOOPS = """
from dsoftmax.kernels.compiled.compile import compiled
@compiled
def plus_one(x):
    return x + 1
@compiled
def plus_two(x):
    return x + 2
"""
SCRIPT = """
import logging, sys
import dsoftmax.kernels.compiled
logging.basicConfig(level=logging.INFO, format="%(name)s %(levelname)s %(message)s")
{folder}.append(sys.argv[1])
from {module} import plus_one, plus_two
assert (plus_one(1), plus_two(1)) == (2, 3)
"""
OURS = {"folder": "dsoftmax.kernels.compiled.__path__", "module": "dsoftmax.kernels.compiled.loops"}
THEIRS = {"folder": "sys.path", "module": "loops"}


def logged(folder, where):
    """The lines that a process logs when it calls two compiled functions of a module."""
    (folder / "loops.py").write_text(LOOPS)
    command = [sys.executable, "-c", SCRIPT.format(**where), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    return [line for line in done.stderr.splitlines() if line.startswith("dsoftmax")]


@needs_numba
def test_one_line_says_that_numba_compiles_and_none_that_it_loads_machine_code(tmp_path):
    (first,) = logged(tmp_path, OURS)
    assert first.startswith("dsoftmax WARNING numba compiles")
    assert logged(tmp_path, OURS) == []


@needs_numba
def test_functions_of_other_packages_are_compiled_without_a_line(tmp_path):
    assert logged(tmp_path, THEIRS) == []
