"""The sample of the first pass: its rows, their weights, and equality on every engine."""

import dataclasses

import numpy as np
import pytest
import scipy.sparse
from collecting import collected, gram_of
from numpy.testing import assert_allclose, assert_array_equal
from opening import opened

from dsoftmax.data.block import Block
from dsoftmax.engines import limits as memory
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.first_pass import sample
from dsoftmax.first_pass.finish import finish
from dsoftmax.first_pass.held_out import HeldOut, places
from dsoftmax.first_pass.sample import Draw, plan_draw
from dsoftmax.first_pass.visit import Collect
from dsoftmax.sums.totals import Totals
from dsoftmax.training.budget import memory_budget

HALF = Draw(0.5, 0)


def statistics_of(X, y, w=None, share=0.2, rows_a_block=None, gram=1.0):
    totals, step = Totals(), rows_a_block or X.shape[0]
    for start in range(0, X.shape[0], step):
        part = slice(start, start + step)
        block = Block(X[part], y[part], None if w is None else w[part], start)
        totals.add(Collect(gram, draw=Draw(share, 0))(block))
    return finish(totals.result(), None)


def test_chances_average_to_the_share_and_favour_rare_rows(rng):
    X, y, w = rng.normal(size=(400, 3)), np.repeat([0, 1], [390, 10]), np.ones(400)
    X[7] = 100.0
    chances = Draw(0.1, 0).chances(X, y, w, gram_of(X, w))
    assert_allclose(np.minimum(chances, 1).mean(), 0.1, rtol=1e-12)
    assert chances[390:].mean() > 2 * np.delete(chances[:390], 7).mean()
    assert chances[7] == chances.max()
    w[3] = 0
    assert Draw(0.1, 0).chances(X, y, w, gram_of(X, w))[3] == 0


def test_the_same_rows_are_drawn_in_any_order_and_by_any_engine(rng, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.memory.CHUNK_BYTES", 4000)
    X = rng.normal(size=(3000, 5))
    source = opened(X, rng.integers(0, 3, 3000))
    assert len(source.chunk_rows) == 16
    one, two = (
        collected(engine, source, None, "estimate", Draw(0.2, 0)).sample
        for engine in (SerialEngine(), ThreadsEngine(3))
    )
    for field in dataclasses.fields(one):
        assert_array_equal(getattr(one, field.name), getattr(two, field.name))
    assert 400 < one.n_rows < 800
    assert_array_equal(one.numbers, np.unique(one.numbers))
    assert_array_equal(one.X, X[one.numbers])  # the rows are those that their numbers say


@pytest.mark.parametrize("kind", [np.asarray, scipy.sparse.csr_array])
def test_in_each_class_the_weights_add_up_to_the_class(rng, kind):
    X, y, w = (
        rng.normal(size=(5000, 3)),
        rng.choice(4, 5000, p=[0.6, 0.3, 0.098, 0.002]),
        rng.uniform(0.5, 2, 5000),
    )
    found = statistics_of(kind(X), y, w, rows_a_block=1000)
    drawn = found.sample
    assert_allclose(np.bincount(drawn.codes, drawn.weights, 4), np.bincount(y, w, 4), rtol=1e-12)
    assert drawn.n_rows < 2000
    assert np.bincount(drawn.codes, minlength=4).min() >= 1


def test_sums_over_the_sample_estimate_those_over_the_data(rng):
    """The mean of the estimates over many data sets is the truth, to a few standard errors."""
    errors = []
    for _ in range(60):
        X, y = rng.normal(size=(1500, 2)) + 1, rng.integers(0, 2, 1500)
        drawn = statistics_of(X, y, share=0.2).sample
        errors.append((drawn.weights @ drawn.X - X.sum(axis=0)) / 1500)
    errors = np.array(errors)
    assert np.all(np.abs(errors.mean(axis=0)) < 4 * errors.std(axis=0) / np.sqrt(60))
    assert errors.std() < 0.06  # a plain sample of 300 rows has 1/√300 = 0.058 of its own


def test_the_mean_represents_a_class_without_a_row(rng):
    X, y = rng.normal(size=(4000, 3)), np.zeros(4000, int)
    y[2000:] = 1
    y[:2] = 2
    found = statistics_of(X, y, share=0.001)
    drawn = found.sample
    missing = np.flatnonzero(drawn.numbers < 0)
    assert missing.size >= 1
    for i in missing:
        k = drawn.codes[i]
        assert_allclose(drawn.X[i], X[y == k].mean(axis=0), rtol=1e-9)
        assert drawn.weights[i] == np.sum(y == k)


def test_small_data_are_drawn_whole_unless_they_exceed_the_rows_needed(rng):
    X, y, w = rng.normal(size=(300, 4)), rng.integers(0, 3, 300), rng.uniform(0.5, 2, 300)
    w[5] = 0
    whole = statistics_of(X, y, w, share=1.0).sample
    assert whole.whole
    assert_array_equal(whole.numbers, np.delete(np.arange(300), 5))
    assert_allclose(whole.weights, np.delete(w, 5), rtol=1e-12)
    X, y = rng.normal(size=(9000, 4)), rng.integers(0, 3, 9000)
    some = statistics_of(X[:7900], y[:7900], share=1.0).sample
    assert some.whole
    assert some.n_rows == 7900
    thinned = statistics_of(X, y, share=1.0).sample
    assert not thinned.whole
    assert 1500 < thinned.n_rows < 2600


def test_held_out_rows_leave_the_sample(rng):
    X, y = rng.normal(size=(3000, 3)), rng.integers(0, 3, 3000)
    held, totals = HeldOut(0.0, 0.3), Totals()
    totals.add(Collect(1.0, draw=Draw(0.3, 0), held_out=(held,))(Block(X, y)))
    found = finish(totals.result(), None)
    left = found.without(0, held)
    out = held.mask(places(Block(X, y)))
    assert not np.any(out[left.sample.numbers])
    assert np.any(out[found.sample.numbers])
    assert_allclose(
        np.bincount(left.sample.codes, left.sample.weights), np.bincount(y[~out]), rtol=1e-12
    )
    assert_allclose(
        left.class_sums[:, :-1], [X[~out & (y == k)].sum(axis=0) for k in range(3)], atol=1e-9
    )


def test_the_draw_fits_the_memory_that_is_left(rng):
    small = opened(rng.normal(size=(1000, 5)), rng.integers(0, 2, 1000))
    assert plan_draw(small, None) == Draw(1.0, 1000 * (5 * 8 + 16), 1000 * (5 * 8 + 16))
    assert plan_draw(small, 1000) is None
    large = opened(np.zeros((200_000, 50), np.int16), np.zeros(200_000, int))
    free, tight = plan_draw(large, None), plan_draw(large, 24 * 2**20)
    assert free.share == sample.MOST_SHARE
    assert tight.n_bytes <= 2**20
    assert tight.share < free.share


def test_the_draw_follows_from_the_limit_and_not_from_resident_memory(monkeypatch):
    limit = 600 * 2**20
    expected = memory_budget(limit)
    resident = np.ones(30 * 2**17)  # 30 MiB
    monkeypatch.setattr(memory, "_before", None)
    assert memory.process_bytes() > 0
    assert memory_budget(limit) == expected == limit - memory.PROCESS_BYTES - memory.MARGIN
    assert resident.size
    assert memory_budget(None) is None
    assert memory_budget(1) == 0
