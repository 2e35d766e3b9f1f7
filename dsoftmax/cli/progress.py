"""Progress of a run: one live line on a terminal, plain lines elsewhere.

Progress is the distance that log₁₀ max|∇F| has come towards log₁₀ tol.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import Any, Protocol

from rich.console import Console, ConsoleOptions, RenderResult
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from dsoftmax.sums.work import Ongoing

SLOW = 0.5
"""Age of a pass, in seconds, after which the live display shows its rows and workers."""
SHOWN_WORKERS = 8
"""Number of workers with a line of their own, the slowest first."""
WINDOW = 12
"""Number of last passes from which the remaining time is estimated."""


class Record(Protocol):
    """The record of a pass that a watcher gets: see `dsoftmax.training.record.Record`."""

    @property
    def pass_(self) -> int: ...
    @property
    def iteration(self) -> int: ...
    @property
    def objective(self) -> float: ...
    @property
    def gradient_max(self) -> float: ...
    @property
    def seconds(self) -> float: ...
    @property
    def rows(self) -> int: ...
    @property
    def bytes(self) -> int: ...
    @property
    def kept(self) -> float: ...


class Walk:
    """The path of log₁₀ max|∇F| towards log₁₀ tol, and an estimate of the remaining time.

    Parameters
    ----------
    tol : float
        Tolerance on max|∇F|.
    max_iter : int
        Largest number of iterations.
    began_at : float, optional
        max|∇F| after the first pass of a run that is resumed.
    """

    def __init__(self, tol: float, max_iter: int, began_at: float | None = None) -> None:
        self.tol, self.max_iter = tol, max_iter
        self.first = math.log10(began_at) if began_at else None
        self.last: Record | None = None
        self._recent: deque[tuple[int, int, float, float]] = deque(maxlen=WINDOW)

    def add(self, record: Record) -> None:
        """Add the record of one pass."""
        self.last = record
        if record.gradient_max > 0 and math.isfinite(record.objective):
            size = math.log10(record.gradient_max)
            self.first = size if self.first is None else self.first
            self._recent.append((record.pass_, record.iteration, size, record.seconds))

    @property
    def done(self) -> float:
        """The completed fraction of the path, 0 … 1."""
        if self.last is None or self.first is None or not self._recent:
            return 0.0
        size = self._recent[-1][2]
        if self.tol <= 0:
            return min(self.last.iteration / max(self.max_iter, 1), 1.0)
        way = self.first - math.log10(self.tol)
        return min(max((self.first - size) / way, 0.0), 1.0) if way > 0 else 1.0

    @property
    def seconds_left(self) -> float | None:
        """Estimated seconds to tol or to max_iter, whichever comes first.

        The estimate extends the last passes: a line through their log₁₀ max|∇F|, and their mean
        duration. None with fewer than three passes, or if neither end comes closer.
        """
        if len(self._recent) < 3:
            return None
        passes = [pass_ for pass_, *_ in self._recent]
        sizes = [size for _, _, size, _ in self._recent]
        pass_seconds = sum(seconds for *_, seconds in self._recent) / len(self._recent)
        n, mean_pass, mean_size = len(passes), sum(passes) / len(passes), sum(sizes) / len(sizes)
        slope = sum((a - mean_pass) * (b - mean_size) for a, b in zip(passes, sizes, strict=True))
        slope /= n * (n * n - 1) / 12  # Σ(x − x̄)² of n successive integers
        iterations = (self._recent[-1][1] - self._recent[0][1]) / (n - 1)
        left = math.inf if iterations <= 0 else (self.max_iter - self._recent[-1][1]) / iterations
        if slope < 0 and self.tol > 0:
            left = min(left, max(sizes[-1] - math.log10(self.tol), 0.0) / -slope)
        return left * pass_seconds if math.isfinite(left) else None


class Progress:
    """A watcher that prints the progress of a run.

    Parameters
    ----------
    tol : float
        Tolerance on max|∇F|.
    max_iter : int
        Largest number of iterations.
    console : rich Console
        Console of the output. The live line needs a terminal.
    every : float
        Minimum time between plain lines, in seconds. The first and the last pass always print.
    began_at : float, optional
        max|∇F| after the first pass of a run that is resumed.
    ongoing : callable, optional
        Function that returns the progress of the current pass, for the live line.
    """

    def __init__(
        self,
        tol: float,
        max_iter: int,
        console: Console,
        every: float = 1.0,
        began_at: float | None = None,
        ongoing: Callable[[], Ongoing] | None = None,
    ) -> None:
        self.ongoing = ongoing or Ongoing
        self.walk = Walk(tol, max_iter, began_at)
        self.console, self.every = console, every
        self._since = time.monotonic()
        self._shown_at = -math.inf
        self._shown: Record | None = None
        self._live: Live | None = None

    def __enter__(self) -> "Progress":
        self._since = time.monotonic()
        if self.console.is_terminal:
            self._live = Live(self, console=self.console, refresh_per_second=5, transient=True)
            self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._live is not None:
            self._live.__exit__(kind, error, trace)
        if self.walk.last is not None and self.walk.last is not self._shown:
            self._print(self.walk.last)

    def __call__(self, record: Record, runs: Any) -> None:
        self.walk.add(record)
        now = time.monotonic()
        self._since = now
        if self._live is None and now - self._shown_at >= self.every:
            self._shown_at = now
            self._print(record)

    def _print(self, record: Record) -> None:
        self._shown = record
        self.console.print("  ".join(self._words(record)), highlight=False, soft_wrap=True)

    def _words(self, record: Record) -> list[str]:
        words = [f"pass {record.pass_}"]  # a narrow terminal cuts off the last words
        if math.isfinite(record.objective):
            words += [
                f"log₁₀ max|∇F| {_log(record.gradient_max)} (target {_log(self.walk.tol)})",
                f"F {record.objective:.6f}",
            ]
        words.append(f"iteration {record.iteration}")
        seconds = max(record.seconds, 1e-9)
        words += [rate(record.rows / seconds, "rows/s"), rate(record.bytes / seconds, "B/s")]
        return [*words, f"{100 * record.kept:.0f} % cached"] if record.kept else words

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        grid = Table.grid(padding=(0, 1))
        waited = time.monotonic() - self._since
        record = self.walk.last
        if record is None:
            what = "pass 1: classes, ranges and sums" if self.walk.first is None else "resuming"
            yield Text(f"{what} … {waited:.0f} s")
            yield from self._pass()
            return
        cells: list[Any] = [Text("  ".join(self._words(record)), no_wrap=True, overflow="ellipsis")]
        cells.append(ProgressBar(total=1.0, completed=self.walk.done, width=16))
        left = self.walk.seconds_left
        text = "" if left is None else f"about {clock(max(left - waited, 0.0))} left"
        if waited >= max(3 * record.seconds, 2.0):  # a late pass makes the estimate worthless
            text = f"pass {record.pass_ + 1}: {clock(waited)}"
        cells.append(Text(text, no_wrap=True))
        grid.add_row(*cells)
        yield grid
        if waited >= SLOW:
            yield from self._pass()

    def _pass(self) -> Iterator[Text]:
        """Yield the rows of the current pass in percent, and the throughput of each worker."""
        ongoing = self.ongoing()
        done, rows = ongoing.done, max(ongoing.rows, 1)
        visited = sum(one.rows for one in done.values())
        if not visited:
            return
        yield Text(f"  {100 * min(visited / rows, 1.0):.0f} % of the rows", no_wrap=True)
        if set(done) == {""}:
            return
        slowest_first = sorted(done.items(), key=lambda item: item[1].throughput)
        for name, one in slowest_first[:SHOWN_WORKERS]:
            text = (
                f"    worker {name}: {100 * one.rows / rows:.0f} % of the rows, "
                f"{rate(one.throughput, 'rows/s')}, {100 * one.cached:.0f} % cached"
            )
            yield Text(text, no_wrap=True, overflow="ellipsis")
        if len(done) > SHOWN_WORKERS:
            fastest = rate(slowest_first[-1][1].throughput, "rows/s")
            yield Text(f"    and {len(done) - SHOWN_WORKERS} faster workers, up to {fastest}")


def _log(value: float) -> str:
    return f"{math.log10(value):.2f}" if value > 0 else "−∞"


def rate(value: float, unit: str) -> str:
    """Return a rate with its prefix, such as 3.1 Mrows/s."""
    for prefix, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= size:
            return f"{value / size:.3g} {prefix}{unit}"
    return f"{value:.3g} {unit}"


def clock(seconds: float) -> str:
    """Return a duration in words, such as 0.4 s, 40 s, 2:05 min or 1:02:03 h."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02} h" if hours else f"{minutes}:{rest:02} min"
