"""A pass on this machine's cores: a thread per core, each reading one chunk ahead while it computes."""

import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from dsoftmax.blocks import Block, Share, Source
from dsoftmax.engine.blas import one_blas_thread
from dsoftmax.engine.memory import plan_threads
from dsoftmax.engine.serial import add_block
from dsoftmax.engine.sums import Totals
from dsoftmax.engine.visit import Visit

T = TypeVar("T")


def on_threads(
    work: Callable[[Iterator[Block]], T], share: Share, chunks: Iterable[int], n_threads: int, read_ahead: bool = True
) -> list[T]:
    """Hand the blocks of the chunks to ``work`` on ``n_threads`` threads and return what each thread's ``work`` returned.

    Each thread holds the block it computes on and, with ``read_ahead``, the next one, which a second thread reads. The
    first error stops all threads at their next chunk and is raised.
    """
    queue, lock, stop = iter(chunks), threading.Lock(), threading.Event()

    def next_chunk() -> int | None:
        with lock:
            return None if stop.is_set() else next(queue, None)

    def blocks(readers: ThreadPoolExecutor) -> Iterator[Block]:
        if not read_ahead:
            while (chunk := next_chunk()) is not None:
                yield share.load(chunk)
            return
        chunk = next_chunk()
        ahead: Future[Block] | None = None if chunk is None else readers.submit(share.load, chunk)
        while ahead is not None:
            block = ahead.result()
            chunk = next_chunk()
            ahead = None if chunk is None else readers.submit(share.load, chunk)
            yield block
            del block

    def run(readers: ThreadPoolExecutor) -> T:
        try:
            return work(blocks(readers))
        except BaseException:
            stop.set()
            raise

    with (
        one_blas_thread(),
        ThreadPoolExecutor(n_threads, "dsoftmax-read") as readers,
        ThreadPoolExecutor(n_threads, "dsoftmax-compute") as workers,
    ):
        working = [workers.submit(run, readers) for _ in range(n_threads)]
        try:
            return [done.result() for done in working]
        except BaseException:  # Ctrl-C too: let the threads end before the interpreter goes on
            stop.set()
            raise


def visit_chunks(visit: Visit, share: Share, chunks: Iterable[int], n_threads: int, read_ahead: bool = True) -> Totals:
    """Visit the chunks on ``n_threads`` threads and return their totals."""

    def work(blocks: Iterator[Block]) -> Totals:
        totals = Totals()
        for block in blocks:
            add_block(visit, block, totals)
            del block
        return totals

    first, *others = on_threads(work, share, chunks, n_threads, read_ahead)
    for other in others:
        first.merge(other)
    return first


def available_cores() -> int:
    """Return the cores this process may run on."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on Linux
        return os.cpu_count() or 1


class ThreadsEngine:
    """Visit chunks on the threads of this process.

    Parameters
    ----------
    n_threads : int, optional
        The cores this process may run on when None.
    memory_limit : int, optional
        Bytes that this process may use. Fewer threads run where not all their blocks fit.
    """

    def __init__(self, n_threads: int | None = None, memory_limit: int | None = None) -> None:
        self.n_threads = n_threads or available_cores()
        self.memory_limit = memory_limit

    def total(self, visit: Visit, source: Source) -> Totals:
        n_threads, read_ahead = self.plan(source)
        return visit_chunks(visit, source, range(len(source.chunk_rows)), n_threads, read_ahead)

    def plan(self, source: Source) -> tuple[int, bool]:
        """Return the threads and whether each reads ahead, so that their blocks fit in the memory allowed.

        Raises
        ------
        MemoryLimitError
            Not even one block fits.
        """
        return plan_threads(self.n_threads, len(source.chunk_rows), source.chunk_bytes, self.memory_limit)

    def describe(self) -> str:
        return f"threads: {self.n_threads} in this process"

    def close(self) -> None:
        pass
