"""The contract of a source finds sources that break it."""

from dataclasses import dataclass, field, replace

import numpy as np
import pytest
import stored
from opening import opened

from dsoftmax.data.block import Block
from dsoftmax.data.rows import RowSource
from dsoftmax.testing.sources import check_source


@dataclass(frozen=True)
class Broken(RowSource):
    """A source that is right but for one rule about buffers."""

    rule: str = ""
    blocks: dict = field(default_factory=dict)

    def load(self, chunk, buffer=None):
        if self.rule == "keeps":  # a block whose memory is the caller's
            if buffer is not None:
                return self.blocks.setdefault(chunk, super().load(chunk, buffer))
            return self.blocks.get(chunk) or super().load(chunk)
        block = super().load(chunk, buffer)
        if buffer is None:
            return block
        X = np.asfortranarray(block.X) if self.rule == "turns" else block.X + 1
        return Block(X, block.y, block.weights, block.first_row, block.names)


@dataclass(frozen=True)
class Regrouped(RowSource):
    """A source whose groups are those of the rows, but numbered in its own way."""

    def load(self, chunk, buffer=None):
        block = super().load(chunk, buffer)
        return replace(block, groups=block.groups + np.uint64(1))

    def fetch(self, chunk, buffer):
        return self.load(chunk, buffer)


def test_the_contract_finds_groups_with_wrong_numbers():
    X, groups = np.ones((20, 3)), np.arange(20) // 4
    source = opened(X, groups=groups)
    check_source(source, X, groups=groups)
    with pytest.raises(
        AssertionError,
        match="the groups of the blocks, one after the other, differs from the original",
    ):
        check_source(source, X, groups=groups[::-1])
    with pytest.raises(AssertionError, match="pickled share"):
        check_source(Regrouped(source.table, source.chunk_rows, source.chunk_bytes))
    with pytest.raises(AssertionError, match="groups is missing from the blocks"):
        check_source(opened(X), X, groups=groups)


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        ("keeps", "loaded without the buffer"),
        ("turns", "another memory order"),
        ("changes", "loaded into a buffer: X differs"),
    ],
)
def test_the_contract_finds_wrong_uses_of_buffers(rule, message, tmp_path):
    source = opened(
        stored.array(tmp_path, "X", np.random.default_rng(0).normal(size=(20, 3)), (8, 3))
    )
    check_source(source)
    with pytest.raises(AssertionError, match=message):
        check_source(Broken(source.table, source.chunk_rows, source.chunk_bytes, rule=rule))
