"""The tables that `evaluate` prints."""

from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from dsoftmax.cli.show import show_facts, skipped_facts
from dsoftmax.errors import visible

if TYPE_CHECKING:
    from dsoftmax.results.metrics import Metrics

SHOWN_CLASSES = 30
"""Largest number of classes in a table, because a confusion matrix must fit on a screen."""


def metrics_tables(metrics: "Metrics", console: Console) -> None:
    """Print loss and accuracy, one line for each class, and the confusion matrix.

    If there are more than `SHOWN_CLASSES` classes, the tables show those with the most rows.
    """
    found: dict[str, Any] = metrics.as_dict()
    facts = [
        ("rows", f"{metrics.n_rows:,}"),
        *skipped_facts(metrics.skipped.tolist(), metrics.n_rows),
        ("log loss", f"{metrics.log_loss:.6f}"),
        ("accuracy", f"{100 * metrics.accuracy:.3f} %"),
    ]
    show_facts(console, facts)
    K = len(metrics.classes)
    shown = sorted(sorted(range(K), key=lambda k: -found["support"][k])[:SHOWN_CLASSES])
    if K > SHOWN_CLASSES:
        console.print(f"The {SHOWN_CLASSES} largest of {K} classes (--json prints all):")
    console.print(_class_table(found, shown))
    console.print(
        "Confusion matrix: rows are the true classes, columns the predicted classes, in percent "
        "of the weight of the true class."
    )
    console.print(_confusion_table(found, shown))


def _class_table(found: dict[str, Any], shown: list[int]) -> Table:
    table = Table(title=None, box=None, padding=(0, 2))
    table.add_column("class")
    for name in ("precision", "recall", "support"):
        table.add_column(name, justify="right")
    for k in shown:
        support = found["support"][k]
        table.add_row(
            _name(found["classes"][k]),
            _percent(found["precision"][k]),
            _percent(found["recall"][k]),
            f"{support:,.6g}" if support % 1 else f"{int(support):,}",
        )
    return table


def _confusion_table(found: dict[str, Any], shown: list[int]) -> Table:
    others = len(found["classes"]) > len(shown)
    table = Table(box=None, padding=(0, 1))
    table.add_column("")
    for k in shown:
        table.add_column(_name(found["classes"][k]), justify="right", no_wrap=True)
    if others:
        table.add_column("others", justify="right")
    for k in shown:
        whole = found["support"][k]
        parts = [found["confusion"][k][j] for j in shown]
        parts += [whole - sum(parts)] if others else []
        table.add_row(_name(found["classes"][k]), *(_percent_of(part, whole) for part in parts))
    return table


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.2f} %"


def _percent_of(part: float, whole: float) -> str:
    if not whole > 0:
        return "–"
    return "·" if part <= 0 else f"{100 * part / whole:.1f}"


def _name(label: object) -> str:
    """Return a label on one line, without what a terminal would obey."""
    return visible(str(label)).replace("\n", "\\n").replace("\t", "\\t")
