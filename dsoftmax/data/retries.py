"""Requests that are repeated while a chunk is loaded, counted by whoever loads it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_count: ContextVar[Callable[[], None] | None] = ContextVar("count", default=None)


@contextmanager
def counting_retries(count: Callable[[], None]) -> Iterator[None]:
    """Call ``count`` for every request that is repeated in the block.

    The context of a thread goes with its requests to the event loop that makes them.
    """
    token = _count.set(count)
    try:
        yield
    finally:
        _count.reset(token)


def count_retry() -> None:
    """Count a request that is repeated."""
    count = _count.get()
    if count is not None:
        count()
