"""The consoles of all commands: results go to stdout, progress and notes to stderr."""

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.data.missing import skipped_line
from dsoftmax.errors import visible
from dsoftmax.system.process import peak_bytes
from dsoftmax.system.units import size

PLAIN_WIDTH = 132
"""Line width in columns if the output is not a terminal, because files need no narrow lines."""


class _VisibleConsole(Console):
    """A console that escapes control characters in texts. Tables escape their own."""

    def print(self, *objects: Any, **options: Any) -> None:
        super().print(
            *(visible(one) if isinstance(one, str) else one for one in objects), **options
        )


def output() -> Console:
    """Return the console of results."""
    return _console(stderr=False)


def diagnostics() -> Console:
    """Return the console of progress and notes."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # Paths and labels may contain brackets and colons, which rich would take for markup and emoji.
    return _VisibleConsole(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if terminal else PLAIN_WIDTH,
    )


def show_facts(console: Console, facts: Sequence[tuple[str, str]]) -> None:
    """Print names and values, one pair a line."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        console.print(f"  {name:<{width}}  {value}", soft_wrap=True)


def skipped_facts(counts: Sequence[int], n_counted: int) -> list[tuple[str, str]]:
    """Return the line of the rows that were skipped; nothing if all rows count.

    Parameters
    ----------
    counts : sequence of int
        Skipped rows by reason, in the order of `dsoftmax.data.missing.REASONS`.
    n_counted : int
        Rows that count.
    """
    line = skipped_line(counts, n_counted + sum(counts))
    return [("skipped", line)] if line else []


def memory_line(choice: EngineChoice, workers: Sequence[int] = ()) -> str:
    """Return the peak memory of this process and of its workers, and the limit.

    Parameters
    ----------
    choice : EngineChoice
    workers : sequence of int
        Peak memory of each worker process, in bytes.
    """
    text = f"{size(peak_bytes())} in this process"
    if workers:
        text += f", {size(max(workers))} in the largest of {len(workers)} workers"
    return f"{text}; {limit_line(choice.memory)}{' for all' if workers and choice.memory else ''}"


def limit_line(memory: int | None) -> str:
    """Return the memory limit in words."""
    return "no limit" if memory is None else f"limit {size(memory)}"


@contextmanager
def progress_bar(what: str, total: int, unit: str) -> Iterator[Callable[[int], None]]:
    """Show a bar while the block runs, if stderr is a terminal.

    Parameters
    ----------
    what : str
        The work, such as "predicting".
    total : int
        Amount of work, in units.
    unit : str
        Plural noun, such as "rows".

    Yields
    ------
    callable
        Advances the bar by a number of units.
    """
    console = diagnostics()
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn(f"{{task.completed:,.0f}} of {{task.total:,.0f}} {unit}", markup=False),
        TimeRemainingColumn(),
    )
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=total)
        yield lambda done: progress.advance(task, done)
