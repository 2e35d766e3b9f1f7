"""Every engine on every storage: the contract, and the same bits."""

import numpy as np
import pytest
import stored
from counted import ENGINES, Counting, bits, rows_and_labels
from opening import opened

from dsoftmax.data.memory import MemoryRows
from dsoftmax.data.rows import RowSource
from dsoftmax.data.table import Table
from dsoftmax.engines.feed import Feed
from dsoftmax.engines.plan import Plan, needs_of
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine, visit_all
from dsoftmax.engines.visit import Footprint
from dsoftmax.first_pass.labels import Encoder, plain_labels
from dsoftmax.first_pass.visit import Collect
from dsoftmax.objective.visit import Evaluate, Question
from dsoftmax.solvers.protocol import Query
from dsoftmax.testing.engines import check_engine


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_keeps_the_contract(engine):
    engine = ENGINES[engine]()
    check_engine(engine)
    engine.close()


def test_an_engine_that_loses_a_row_fails_the_contract():
    class Forgetful(SerialEngine):
        def total(self, visit, source):
            totals = super().total(visit, source)
            totals.n_rows -= 1
            return totals

    with pytest.raises(AssertionError, match="n_rows is 519; expected 520"):
        check_engine(Forgetful())


@pytest.mark.parametrize("kind", stored.KINDS)
def test_all_engines_return_the_same_bits_from_every_storage(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.zarr.source.GROUP_BYTES", 0)
    monkeypatch.setattr("dsoftmax.data.memory.CHUNK_BYTES", 500)
    monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", 2000)
    data = stored.KINDS[kind](tmp_path)
    source = opened(*data)
    assert (
        len(source.chunk_rows) > 1
        or "one chunk" in kind
        or kind in ("lists", "numpy with labels in dask")
    )
    rng = np.random.default_rng(0)
    queries = tuple(Query(*rng.normal(size=(2, 3, stored.P + 1)), hessian=True) for _ in range(2))
    questions = tuple(
        Question(query, np.array([1.0, 0.3, 2.0]), np.dtype("f8")) for query in queries
    )
    evaluate = Evaluate(questions, Encoder(np.unique(plain_labels(data.y))))
    for visit in (Collect(gram=True), evaluate):
        expected = SerialEngine().total(visit, source)
        assert expected.n_rows == stored.N
        for n_threads in (1, 2, 8):
            found = ThreadsEngine(n_threads).total(visit, source)
            assert bits(found.result()) == bits(expected.result())
            assert (found.n_rows, found.n_bytes, found.n_leaves) == (
                expected.n_rows,
                expected.n_bytes,
                expected.n_leaves,
            )


@pytest.mark.parametrize("dtype", ["f4", "f8"])
def test_many_leaves_of_many_tiles_have_the_same_bits_on_any_number_of_threads(rng, dtype):
    X = rng.normal(size=(200_000, 9)).astype(dtype)
    source = opened(X, rng.integers(0, 4, 200_000))
    visit = Evaluate(
        (Question(Query(rng.normal(size=(4, 10))), None, np.dtype(dtype)),), Encoder(np.arange(4))
    )
    expected = bits(SerialEngine().total(visit, source).result())
    for n_threads in (2, 3, 8):
        assert bits(ThreadsEngine(n_threads).total(visit, source).result()) == expected


def test_sums_that_threads_share_have_the_same_bits():
    source = Counting(40)
    needs = needs_of(source, Footprint(), 4, None)
    expected = bits(SerialEngine().total(rows_and_labels, source).result())
    for totals in (1, 2, 3, 4):
        found = visit_all(rows_and_labels, Feed(source, range(40), Plan(needs, 4, 8, totals)))
        assert bits(found.result()) == expected
        assert (found.n_rows, found.n_leaves) == (int(source.chunk_rows.sum()), 40)


@pytest.mark.parametrize("n_threads", [1, 2, 5, 16])
def test_threads_that_merge_in_pairs_leave_one_total(n_threads):
    source = Counting(16)
    for _ in range(20):  # the order of the threads differs from run to run
        totals = ThreadsEngine(n_threads).total(rows_and_labels, source)
        assert totals.n_leaves == 16
        assert bits(totals.result()) == bits(SerialEngine().total(rows_and_labels, source).result())


@pytest.mark.parametrize("engine", ENGINES)
def test_engines_count_the_rows_if_all_are_skipped(engine):
    n = 2000
    skipped = MemoryRows(np.full(n, 2, np.uint8))
    table = Table(MemoryRows(np.ones((n, 1))), MemoryRows(np.zeros(n)), skipped=skipped)
    source = RowSource(table, np.ones(n, np.int64), np.full(n, 8))
    engine = ENGINES[engine]()
    totals = engine.total(Collect(), source)
    engine.close()
    assert (totals.n_rows, totals.n_seen) == (0, n)
    assert totals.skipped.tolist() == [0, n, 0, 0]
    assert totals.result() == {}
