"""Messages that the package logs, printed for the user of a command."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class _Handler(logging.Handler):
    """Print each message on a console."""

    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.print(record.getMessage(), markup=False, highlight=False, soft_wrap=True)


@contextmanager
def noted(console: Console) -> Iterator[None]:
    """Print what the package logs in the block, such as the message that a kernel is compiled."""
    log, handler = logging.getLogger("dsoftmax"), _Handler(console)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
