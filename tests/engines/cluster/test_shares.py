"""Which worker visits which chunks."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from dsoftmax.engines.cluster.shares import SLACK, assign, splitmix64


@st.composite
def clusters(draw):
    n = draw(st.integers(1, 12))
    names = draw(st.lists(st.text(min_size=1, max_size=8), min_size=n, max_size=n, unique=True))
    threads = draw(st.lists(st.integers(1, 64), min_size=n, max_size=n))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    sizes = draw(st.sampled_from(["equal", "uneven", "empty"]))
    n_chunks = draw(st.integers(0, 300))
    top = {
        "equal": np.full(n_chunks, 1000),
        "uneven": rng.integers(1, 10_000, n_chunks),
        "empty": np.zeros(n_chunks),
    }[sizes]
    return names, threads, top.astype(np.int64)


@given(clusters())
def test_every_chunk_has_one_worker_and_no_worker_too_much(cluster):
    names, threads, sizes = cluster
    parts = assign(names, threads, sizes)
    assert len(parts) == len(names)
    assert sorted(np.concatenate(parts).tolist()) == list(range(len(sizes)))
    assert all((np.diff(part) > 0).all() for part in parts)
    for part, weight in zip(parts, threads, strict=True):
        fair = weight / sum(threads) * sizes.sum()
        # A chunk that fits nowhere goes where it ends first, no later than the mean of all ends.
        assert sizes[part].sum() <= (1 + SLACK) * fair + weight / sum(threads) * (
            len(names) - 1
        ) * sizes.max(initial=0)


@given(clusters(), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 0.3, 0.02]))
@example(
    (["1", "2", "3", "4", "00", "000", "0"], [1, 1, 1, 1, 1, 1, 25], np.empty(0, np.int64)), 0, 1.0
)
def test_bytes_of_many_chunks_are_balanced_within_a_tenth(cluster, seed, evenness):
    names, threads, _ = cluster
    rng = np.random.default_rng(seed)
    n_chunks = int(50 / evenness * sum(threads) / min(threads))
    sizes = rng.integers(int(evenness * 10_000), 10_001, n_chunks)
    fair = np.array(threads) / sum(threads) * sizes.sum()
    assert sizes.max() <= fair.min() / 40  # the meaning of "many"
    loads = [sizes[part].sum() for part in assign(names, threads, sizes)]
    assert np.abs(loads / fair - 1).max() <= 0.1


@given(clusters(), st.randoms(use_true_random=False))
def test_the_order_of_the_workers_does_not_matter(cluster, random):
    names, threads, sizes = cluster
    order = list(range(len(names)))
    random.shuffle(order)
    before = assign(names, threads, sizes)
    after = assign([names[i] for i in order], [threads[i] for i in order], sizes)
    for i, part in zip(order, after, strict=True):
        assert_array_equal(part, before[i])


def owners(names, sizes, threads=None):
    owner = np.empty(len(sizes), object)
    for name, part in zip(names, assign(names, threads or [2] * len(names), sizes), strict=True):
        owner[part] = name
    return owner


@pytest.mark.parametrize("n_workers", [2, 5, 20])
@pytest.mark.parametrize("lost", [0, -1])
def test_a_lost_worker_moves_little_else_than_its_own_chunks(n_workers, lost):
    names, sizes = [f"tcp://10.0.0.{i}:8786" for i in range(n_workers)], np.full(4000, 10)
    before = owners(names, sizes)
    gone = names[lost]
    after = owners([name for name in names if name != gone], sizes)
    moved = (before != after) & (before != gone)
    assert moved.mean() < 0.12  # if chunks were dealt by number, all would move
    assert not (after == gone).any()


def test_all_workers_work_in_proportion_to_their_threads():
    sizes = np.full(3000, 100)
    parts = assign(["a", "b", "c"], [1, 2, 3], sizes)
    assert np.allclose([len(part) / 3000 for part in parts], [1 / 6, 2 / 6, 3 / 6], atol=0.03)


def test_numbers_are_mixed_as_splitmix64_does():
    """The published outputs of the generator with the seed 1234567."""
    published = [
        6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431,
        16408922859458223821,
    ]  # fmt: skip
    steps = np.arange(1, 6, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    assert splitmix64(np.uint64(1234567) + steps).tolist() == published


ASSIGN = """
import numpy as np
from dsoftmax.engines.cluster.shares import assign
names = [f"tcp://10.0.0.{i}:8786" for i in range(5)]
print([part.tolist() for part in assign(names, [1, 2, 3, 4, 5], np.full(60, 100))])
"""


def test_the_assignment_is_the_same_in_any_process():
    """Python's own hash of a string differs from process to process."""
    found = {
        subprocess.run(
            [sys.executable, "-c", ASSIGN],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "77")
    }
    assert len(found) == 1
    assert found.pop().count(",") > 50
