"""What commands show: to stdout what was asked for, to stderr what happens on the way."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dsoftmax.cli.options import EngineChoice
from dsoftmax.cli.progress import clock, rate
from dsoftmax.system.process import peak_bytes
from dsoftmax.system.units import size

if TYPE_CHECKING:
    from dsoftmax.results.metrics import Metrics
    from dsoftmax.runs.directory import RunDirectory
    from dsoftmax.training.record import Record
    from dsoftmax.training.result import Result


SHOWN_CLASSES = 30
PLAIN_WIDTH = 132
"""Columns where there is no terminal: lines that a file can hold and nothing wraps."""


@dataclass(frozen=True)
class Outcome:
    """A run that has ended, and what this process did for it.

    Attributes
    ----------
    result : Result
    seconds : float
        Of this call, from the first pass to the last.
    engine : str
        One line.
    """

    result: "Result"
    seconds: float
    engine: str


def output() -> Console:
    """Return the console of results."""
    return _console(stderr=False)


def diagnostics() -> Console:
    """Return the console of progress and notes."""
    return _console(stderr=True)


def _console(stderr: bool) -> Console:
    terminal = (sys.stderr if stderr else sys.stdout).isatty()
    # Paths and labels may hold brackets and colons, which are not markup.
    return Console(
        stderr=stderr,
        highlight=False,
        markup=False,
        emoji=False,
        width=None if terminal else PLAIN_WIDTH,
    )


def show_facts(console: Console, facts: Sequence[tuple[str, str]]) -> None:
    """Print names and values, a line each."""
    width = max(len(name) for name, _ in facts)
    for name, value in facts:
        console.print(f"  {name:<{width}}  {value}", soft_wrap=True)


def memory_line(choice: EngineChoice, workers: Sequence[int] = ()) -> str:
    """Say what this process and its workers took, beside what they were allowed."""
    text = f"{size(peak_bytes())} in this process"
    if workers:
        text += f", {size(max(workers))} in the largest of {len(workers)} workers"
    allowed = "no limit given" if choice.memory is None else f"{size(choice.memory)} allowed"
    return f"{text}, {allowed}{' for all of them' if workers and choice.memory is not None else ''}"


def summary(directory: "RunDirectory", outcome: Outcome, choice: EngineChoice) -> None:
    """Print how a run ended."""
    result, console = outcome.result, output()
    run, model = result.run, result.model
    if not result.history:
        console.print("This run has ended before; nothing was left to do.")
    console.print(
        result.status, style="green" if result.ending.converged else "yellow", soft_wrap=True
    )
    n_passes = result.n_passes
    passes = str(n_passes)
    if result.history and len(result.history) < n_passes:
        passes += f", {len(result.history)} of them now"
    if result.grid.n_folds:
        grid_table(result, console)
    facts = [
        (
            "model",
            f"{len(model.classes)} classes × {model.n_features} features, {model.about['n_rows']:,} rows",
        ),
        ("solver", f"{run.solver}: {run.why}"),
        ("F", f"{run.state.value:.10g}"),
        ("max|∇F|", f"{run.gradient_max:.3e}"),
        ("passes", passes),
        ("iterations", str(run.state.n_iter)),
    ]
    if result.history:
        rows, n_bytes = (
            sum(one.rows for one in result.history),
            sum(one.bytes for one in result.history),
        )
        busy = max(sum(one.seconds for one in result.history), 1e-9)
        facts.append(
            ("time", f"{clock(outcome.seconds)}; {busy / len(result.history):.3g} s a pass")
        )
        facts.append(
            (
                "speed",
                f"{rate(rows / busy, 'rows/s')}, {rate(n_bytes / busy, 'B/s')} ({outcome.engine})",
            )
        )
    facts += [
        ("peak memory", memory_line(choice, _worker_peaks(result.history))),
        ("model in", str(directory.file("model.zarr"))),
        ("passes in", str(directory.file("history.jsonl"))),
    ]
    show_facts(console, facts)


def grid_table(result: "Result", console: Console) -> None:
    """Print, a line a C, the mean and spread of the scores over the folds, and the passes of the slowest model."""
    grid, n_Cs = result.grid, len(result.grid.Cs)
    unfinished = sum(not one.ending.converged for one in result.models)
    console.print(
        f"{len(result.models)} models: {n_Cs} values of C × {grid.n_folds} folds, and all rows; {result.n_passes} passes"
        + (f"; {unfinished} of them did not converge" if unfinished else "")
    )
    table = Table(title=None, box=None, padding=(0, 2))
    for name in ("C", "accuracy", "log loss", "passes", ""):
        table.add_column(name, justify="left" if not name else "right")
    for i, C in enumerate(grid.Cs):
        models = result.models[i::n_Cs]
        spread = [
            f"{part[:, i].mean():.5f} ± {part[:, i].std():.5f}"
            for part in (result.accuracy, result.log_loss)
        ]
        table.add_row(
            f"{C:g}",
            *spread,
            str(max(one.run.n_passes for one in models)),
            "best" if C == result.best.C else "",
        )
    console.print(table)


def _worker_peaks(history: "Sequence[Record]") -> list[int]:
    """The most memory that each worker process held (bytes); none where the passes ran in this process."""
    peaks: dict[str, int] = {}
    for record in history:
        for name, done in record.work.items():
            peaks[name] = max(peaks.get(name, 0), done.peak)
    return [peak for name, peak in peaks.items() if name]


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def metrics_tables(metrics: "Metrics", console: Console) -> None:
    """Print loss and accuracy, a line a class, and the confusion matrix; of many classes those with the most rows."""
    found: dict[str, Any] = metrics.as_dict()
    facts = [
        ("rows", f"{metrics.n_rows:,}"),
        ("log loss", f"{metrics.log_loss:.6f}"),
        ("accuracy", f"{100 * metrics.accuracy:.3f} %"),
    ]
    show_facts(console, facts)
    K = len(metrics.classes)
    shown = sorted(range(K), key=lambda k: -found["support"][k])[:SHOWN_CLASSES]
    shown.sort()
    if K > SHOWN_CLASSES:
        console.print(f"The {SHOWN_CLASSES} largest of {K} classes; --json prints all.")
    table = Table(title=None, box=None, padding=(0, 2))
    table.add_column("class")
    for name in ("precision", "recall", "support"):
        table.add_column(name, justify="right")
    for k in shown:
        support = (
            f"{found['support'][k]:,.6g}"
            if found["support"][k] % 1
            else f"{int(found['support'][k]):,}"
        )
        table.add_row(
            str(found["classes"][k]),
            _percent(found["precision"][k]),
            _percent(found["recall"][k]),
            support,
        )
    console.print(table)
    console.print(
        "Confusion: rows are the labels, columns what was predicted; in percent of the label's weight."
    )
    matrix = Table(box=None, padding=(0, 1))
    matrix.add_column("")
    for k in shown:
        matrix.add_column(str(found["classes"][k]), justify="right", no_wrap=True)
    if K > len(shown):
        matrix.add_column("others", justify="right")
    for k in shown:
        whole = found["support"][k]
        cells = [_share(found["confusion"][k][j], whole) for j in shown]
        if K > len(shown):
            cells.append(_share(whole - sum(found["confusion"][k][j] for j in shown), whole))
        matrix.add_row(str(found["classes"][k]), *cells)
    console.print(matrix)


def _share(part: float, whole: float) -> str:
    if not whole > 0:
        return "–"
    return "·" if part <= 0 else f"{100 * part / whole:.1f}"
