"""Lines that the package logs are shown to the user of a command, and to nobody afterwards."""

import io
import logging

import pytest
from rich.console import Console

from dsoftmax.cli.notes import noted


def test_a_line_is_shown_while_a_command_runs_and_not_later():
    log, file = logging.getLogger("dsoftmax"), io.StringIO()
    before = log.level, list(log.handlers)
    with noted(Console(file=file)):
        log.info("numba compiles [the loops]")
        log.debug("details")
    log.info("later")
    assert file.getvalue().splitlines() == ["numba compiles [the loops]"]
    assert (log.level, log.handlers) == before


def test_an_error_ends_the_notes_too():
    log = logging.getLogger("dsoftmax")
    before = log.level, list(log.handlers)
    with pytest.raises(KeyboardInterrupt), noted(Console(file=io.StringIO())):
        raise KeyboardInterrupt
    assert (log.level, log.handlers) == before
