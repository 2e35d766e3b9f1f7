"""The summary that `train` and `demo` print when a run has ended."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.cli.progress import clock, rate
from dsoftmax.cli.show import memory_line, output, show_facts, skipped_facts

if TYPE_CHECKING:
    from dsoftmax.cli.training_run import Outcome
    from dsoftmax.runs.directory import RunDirectory
    from dsoftmax.training.record import Record
    from dsoftmax.training.result import Result


def summary(directory: "RunDirectory", outcome: "Outcome", choice: EngineChoice) -> None:
    """Print how a run ended, its model, its cost, and its files."""
    result, console = outcome.result, output()
    run, model = result.run, result.model
    if not result.history:
        console.print("This run had already ended. No pass was needed.")
    style = "green" if result.ending.converged else "yellow"
    console.print(result.status, style=style, soft_wrap=True)
    passes = str(result.n_passes)
    if result.history and len(result.history) < result.n_passes:
        passes += f", {len(result.history)} of them by this command"
    if result.grid.n_folds:
        grid_table(result, console)
    n_rows = model.about["n_rows"]
    facts = [
        ("data", f"{n_rows:,} rows × {model.n_features} features, {len(model.classes)} classes"),
        *skipped_facts(run.statistics.skipped.tolist(), n_rows),
        ("solver", f"{run.solver}: {run.why}"),
        ("F", f"{run.state.value:.10g}"),
        ("max|∇F|", f"{run.gradient_max:.3e}"),
        ("passes", passes),
        ("iterations", str(run.state.n_iter)),
    ]
    if model.scaling is not None:
        said = "on coefficients of features with mean 0 and standard deviation 1"
        facts.insert(-4, ("penalty", said))
    facts += _speed(outcome)
    facts += [
        ("peak memory", memory_line(choice, _worker_peaks(result.history))),
        ("model file", str(directory.file("model.zarr"))),
        ("history file", str(directory.file("history.jsonl"))),
    ]
    show_facts(console, facts)


def _speed(outcome: "Outcome") -> list[tuple[str, str]]:
    """Return the duration and the throughput of the passes of this command; nothing without any."""
    history = outcome.result.history
    if not history:
        return []
    rows, n_bytes = sum(one.rows for one in history), sum(one.bytes for one in history)
    busy = max(sum(one.seconds for one in history), 1e-9)
    speed = f"{rate(rows / busy, 'rows/s')}, {rate(n_bytes / busy, 'B/s')}"
    return [
        ("time", f"{clock(outcome.seconds)}, {busy / len(history):.3g} s per pass"),
        ("throughput", f"{speed} ({outcome.engine})"),
    ]


def grid_table(result: "Result", console: Console) -> None:
    """Print one line for each C: mean ± spread of its scores over the folds, and its passes.

    The passes are those of the slowest model with this C.
    """
    grid, n_Cs = result.grid, len(result.grid.Cs)
    unfinished = sum(not one.ending.converged for one in result.models)
    console.print(
        f"{len(result.models)} models in {result.n_passes} passes: {n_Cs} values of C × "
        f"({grid.n_folds} folds + all rows)"
        + (f"; {unfinished} models did not converge" if unfinished else "")
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
    """Return the peak memory of each worker process, in bytes; none without worker processes."""
    peaks: dict[str, int] = {}
    for record in history:
        for name, done in record.work.items():
            peaks[name] = max(peaks.get(name, 0), done.peak)
    return [peak for name, peak in peaks.items() if name]
