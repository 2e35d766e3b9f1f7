"""Lines that the package logs, shown to the user of a command."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console


class _Handler(logging.Handler):
    def __init__(self, console: Console) -> None:
        super().__init__(logging.INFO)
        self.console = console

    def emit(self, record: logging.LogRecord) -> None:
        self.console.print(record.getMessage(), highlight=False, soft_wrap=True)


@contextmanager
def noted(console: Console) -> Iterator[None]:
    """Show on a console what the package logs, such as the line that a kernel is compiled."""
    log, handler = logging.getLogger("dsoftmax"), _Handler(console)
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
