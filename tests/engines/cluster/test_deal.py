"""Which worker gets which chunks, and where its share is cut."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dsoftmax.engines.cluster.deal import (
    CUT_BYTES,
    CUT_SECONDS,
    Hand,
    bounds,
    cut,
    deal,
    owners_of,
)

MIB = 2**20


def hand(name, sizes, rows=10):
    sizes = np.array(sizes, np.int64)
    chunks = np.arange(len(sizes))
    return Hand(name, f"tcp://{name}", "host", f"/{name}", chunks, np.full(len(sizes), rows), sizes)


def test_chunks_of_storage_are_dealt_to_all_workers():
    dealt = deal({"b": 1, "a": 1}, np.full(1000, 10))
    assert list(dealt) == ["a", "b"]
    assert sorted(np.concatenate(list(dealt.values())).tolist()) == list(range(1000))
    assert abs(len(dealt["a"]) - 500) <= 5


def test_chunks_on_the_cluster_go_to_the_workers_that_store_them():
    names = {"tcp://1": "b", "tcp://2": "c"}
    holders = [("tcp://2",), ("tcp://9", "tcp://1"), (), ("tcp://1", "tcp://2")]
    owners = owners_of(holders, names)
    assert owners.tolist() == [
        "c",
        "b",
        "b",
        "b",
    ]  # nobody stores the third chunk
    dealt = deal({"a": 1, "b": 1, "c": 1}, np.full(4, 10), owners)
    assert {name: part.tolist() for name, part in dealt.items()} == {
        "a": [], "b": [1, 2, 3], "c": [0]
    }  # fmt: skip


def test_a_share_is_cut_into_a_half_a_quarter_and_two_eighths_of_its_bytes():
    assert bounds(np.full(16, CUT_BYTES), None, None) == [0, 8, 12, 14, 16]
    assert bounds(np.array([8, 4, 2, 2]) * CUT_BYTES, None, None) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("n_bytes", "throughput", "pieces"),
    [
        (CUT_BYTES, None, 1),
        (CUT_BYTES + 16, None, 4),
        (16 * MIB, 16 * MIB / CUT_SECONDS, 1),
        (16 * MIB, 15 * MIB / CUT_SECONDS, 4),
    ],
)
def test_a_short_share_is_one_piece(n_bytes, throughput, pieces):
    assert len(bounds(np.full(16, n_bytes // 16), throughput, None)) - 1 == pieces


def test_the_first_piece_of_a_slow_worker_is_shorter():
    sizes = np.full(80, MIB)
    assert bounds(sizes, 1.0 * MIB, fair=80.0)[1] == 40
    assert bounds(sizes, 1.0 * MIB, fair=40.0)[1] == 20
    assert bounds(sizes, 1.0 * MIB, fair=40.0) == [
        0,
        20,
        50,
        65,
        80,
    ]  # 60 are cut as before
    assert bounds(sizes, 1.0 * MIB, fair=160.0)[1] == 40  # a fast worker begins with half


def test_all_throughputs_must_be_known_before_a_first_piece_is_shortened():
    hands = [hand("slow", [MIB] * 80), hand("fast", [MIB] * 80)]
    known = {"slow": 1.0 * MIB, "fast": 7.0 * MIB}
    slow, fast = cut(hands, known, whole=False)
    # Both together visit 160 MiB in 20 s. The slow one visits 20 MiB, half of them in one piece.
    assert (slow[0].stop, fast[0].stop) == (10, 40)
    slow, fast = cut(hands, {"slow": 1.0 * MIB}, whole=False)
    assert slow[0].stop == 40
    assert [one.seconds for one in fast] == [None]


def test_pieces_know_their_owner_rows_bytes_and_seconds():
    (pieces,) = cut([hand("a", [MIB] * 16)], {"a": 4.0 * MIB}, whole=False)
    assert [one.owner for one in pieces] == ["tcp://a"] * 4
    assert [one.n_rows for one in pieces] == [80, 40, 20, 20]
    assert [one.n_bytes for one in pieces] == [8 * MIB, 4 * MIB, 2 * MIB, 2 * MIB]
    assert [one.seconds for one in pieces] == [2.0, 1.0, 0.5, 0.5]
    assert [one.expected for one in pieces] == [2.0, 1.0, 0.5, 0.5]
    (pieces,) = cut([hand("a", [MIB] * 16)], {"a": 4.0 * MIB}, whole=True)
    assert [(one.start, one.stop) for one in pieces] == [(0, 16)]


def test_a_piece_of_unknown_seconds_is_compared_by_its_bytes():
    (pieces,) = cut([hand("a", [CUT_BYTES] * 16)], {}, whole=False)
    assert [one.expected for one in pieces] == [8.0, 4.0, 2.0, 2.0]


@given(
    st.lists(st.integers(0, 10**9), min_size=1, max_size=40),
    st.none() | st.floats(1.0, 1e9),
    st.none() | st.floats(1e-3, 1e3),
)
def test_pieces_follow_each_other_and_are_never_empty(sizes, throughput, fair):
    ends = bounds(np.array(sizes), throughput, fair)
    assert (ends[0], ends[-1]) == (0, len(sizes))
    assert ends == sorted(set(ends))
    assert len(ends) <= 5
