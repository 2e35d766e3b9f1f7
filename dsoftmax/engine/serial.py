"""The reference meaning of a pass: one chunk after the other, in this thread."""

from dsoftmax.blocks import Block, Source
from dsoftmax.engine.blas import one_blas_thread
from dsoftmax.engine.memory import require_blocks
from dsoftmax.engine.sums import Totals
from dsoftmax.engine.visit import Visit


def add_block(visit: Visit, block: Block, totals: Totals) -> None:
    """Visit the leaves of a block and add them to ``totals``."""
    for leaf in block.leaves():
        totals.add(visit(leaf), leaf.n_rows, leaf.nbytes)


class SerialEngine:
    """Visit one chunk after the other, in this thread."""

    n_threads = 1

    def __init__(self, memory_limit: int | None = None) -> None:
        self.memory_limit = memory_limit

    def total(self, visit: Visit, source: Source) -> Totals:
        require_blocks(1, source.chunk_bytes, self.memory_limit)
        totals = Totals()
        with one_blas_thread():
            for chunk in range(len(source.chunk_rows)):
                add_block(visit, source.load(chunk), totals)
        return totals

    def describe(self) -> str:
        return "serial: this thread"

    def close(self) -> None:
        pass
