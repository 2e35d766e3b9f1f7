"""Pieces that several threads need at the same time."""

import itertools
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from dsoftmax.data.frames.decoded import Decoded


def test_threads_that_read_in_order_decode_each_piece_once():
    """Sixteen threads wait for parts of four pieces, and two pieces fit."""
    pieces, decoded, alive = Decoded(2), [], []
    everyone = threading.Event()

    def decode(piece):
        while not everyone.is_set() and sum(pieces._wanted.values()) < 16:
            pass
        everyone.set()
        decoded.append(piece)
        alive.append(sum(one is not None for one in pieces._tables.values()))
        return f"piece {piece}"

    def read(thread):
        return pieces.table(thread // 4, decode)

    with ThreadPoolExecutor(16) as threads:
        found = list(threads.map(read, range(16)))
    assert found == [f"piece {thread // 4}" for thread in range(16)]
    assert sorted(decoded) == [0, 1, 2, 3]
    assert max(alive) <= 1
    assert pieces.table(decoded[-1], decode) == f"piece {decoded[-1]}"


def test_a_piece_is_kept_for_those_who_wait():
    pieces, decoded = Decoded(1), itertools.count()
    begun, may_end = threading.Event(), threading.Event()

    def slowly(piece):
        next(decoded)
        begun.set()
        may_end.wait(10)
        return piece

    with ThreadPoolExecutor(3) as threads:
        first = threads.submit(pieces.table, 0, slowly)
        begun.wait(10)
        second, other = (
            threads.submit(pieces.table, 0, slowly),
            threads.submit(pieces.table, 1, slowly),
        )
        while pieces._wanted[0] + pieces._wanted[1] < 3:
            pass
        may_end.set()
        assert [first.result(10), second.result(10), other.result(10)] == [0, 0, 1]
    assert next(decoded) == 2


def test_a_piece_that_cannot_be_decoded_is_tried_again():
    pieces = Decoded(1)

    def fails(piece):
        raise OSError("torn")

    for _ in range(2):
        with pytest.raises(OSError, match="torn"):
            pieces.table(0, fails)
    assert pieces.table(1, lambda piece: piece) == 1
