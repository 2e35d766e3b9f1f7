"""Which worker visits which chunks."""

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from dsoftmax.engines.cluster.shares import SLACK, assign


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
        # What fits nowhere goes where it ends first, and that is no later than the mean of the times it could end.
        assert sizes[part].sum() <= (1 + SLACK) * fair + weight / sum(threads) * (
            len(names) - 1
        ) * sizes.max(initial=0)


@given(clusters(), st.integers(0, 2**32 - 1), st.sampled_from([1.0, 0.3, 0.02]))
@example(
    (["1", "2", "3", "4", "00", "000", "0"], [1, 1, 1, 1, 1, 1, 25], np.empty(0, np.int64)), 0, 1.0
)
def test_bytes_are_balanced_within_a_tenth_where_chunks_are_many(cluster, seed, evenness):
    names, threads, _ = cluster
    rng = np.random.default_rng(seed)
    n_chunks = int(50 / evenness * sum(threads) / min(threads))
    sizes = rng.integers(int(evenness * 10_000), 10_001, n_chunks)
    fair = np.array(threads) / sum(threads) * sizes.sum()
    assert sizes.max() <= fair.min() / 40  # which is what "many" means
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
    assert moved.mean() < 0.12  # all of them, were chunks dealt by number
    assert not (after == gone).any()


def test_all_workers_work_in_proportion_to_their_threads():
    sizes = np.full(3000, 100)
    parts = assign(["a", "b", "c"], [1, 2, 3], sizes)
    assert np.allclose([len(part) / 3000 for part in parts], [1 / 6, 2 / 6, 3 / 6], atol=0.03)


def test_the_assignment_is_the_same_in_any_process():
    """Python's own hash of a string is not; this was computed by hand from blake2b and SplitMix64."""
    from hashlib import blake2b

    names, threads = ["a", "b"], [1, 1]
    mask = 2**64 - 1

    def mix(h):
        h = (h ^ (h >> 30)) * 0xBF58476D1CE4E5B9 & mask
        h = (h ^ (h >> 27)) * 0x94D049BB133111EB & mask
        return h ^ (h >> 31)

    seeds = [
        int.from_bytes(blake2b(name.encode(), digest_size=8).digest(), "little") for name in names
    ]
    room, owner = [(1 + SLACK) * 500.0] * 2, []
    for chunk in range(1, 11):
        scores = [mix((chunk * 0x9E3779B97F4A7C15 & mask) ^ seed) for seed in seeds]
        best = int(scores[1] > scores[0])
        best = best if room[best] >= 100 else 1 - best
        room[best] -= 100
        owner.append(names[best])
    assert owners(names, np.full(10, 100), threads).tolist() == owner
