"""Runs of several label columns in shared passes, each in a directory of its own."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.cli.notes import noted
from dsoftmax.cli.open_engine import open_engine
from dsoftmax.cli.progress import Progress
from dsoftmax.cli.show import diagnostics
from dsoftmax.cli.training_run import (
    NOTHING,
    Outcome,
    asked_of,
    described_after,
    enter,
    naming_what_is_saved,
    save_result,
    saved,
    saver,
)
from dsoftmax.data.source import Source
from dsoftmax.errors import OptionError, OutputExistsError
from dsoftmax.runs.directory import RunDirectory
from dsoftmax.training.grid import Grid
from dsoftmax.training.loop import passes_of
from dsoftmax.training.settings import Settings
from dsoftmax.training.together import Sharing, driven_together


def label_paths(labels: str) -> list[str]:
    """Return the label columns that --labels names.

    Raises
    ------
    OptionError
        A name is empty, or there twice.
    """
    paths = [one.strip() for one in labels.split(",")]
    if "" in paths or len(set(paths)) < len(paths):
        raise OptionError(
            f"--labels is {labels!r}; expected distinct paths, separated by single commas. Pass "
            "for example species,family."
        )
    return paths


def require_one_meaning(
    n_columns: int, validation: str | None, classes: str | None, class_weight: str | None
) -> None:
    """Raise if an option means the labels of one column.

    Raises
    ------
    OptionError
    """
    dict_of_labels = None if class_weight == "balanced" else class_weight
    given = {"--validation": validation, "--classes": classes, "--class-weight": dict_of_labels}
    for option, value in given.items():
        if value is not None:
            raise OptionError(
                f"{option} {value} belongs to one label column, and --labels names {n_columns}. "
                f"Leave {option} out, or train on the column alone."
            )


def directories_of(out: Path, labels: Sequence[str]) -> dict[str, RunDirectory]:
    """Return the run directory of each label column, inside ``out``.

    Raises
    ------
    OutputExistsError
        ``out`` is the directory of one run, or holds something other than runs.
    """
    if RunDirectory(out).is_run():
        raise OutputExistsError(
            f"{out} is the directory of one run, and --labels names {len(labels)} columns. Pass "
            "another --out. Nothing there was changed."
        )
    found = {one: RunDirectory(out / one.strip("/").replace("/", "-")) for one in labels}
    if len({one.path for one in found.values()}) < len(found):
        raise OptionError(
            f"--labels {','.join(labels)}: two columns would have the same directory. Train on "
            "one of them alone."
        )
    for directory in found.values():
        directory.require_free()
    return found


@interrupts.unwrapped()
def train_columns_in(
    directories: Mapping[str, RunDirectory],
    together: Source,
    sources: Mapping[str, Source],
    settings: Settings,
    choice: EngineChoice,
    reading: dict[str, Any],
    command_line: list[str],
    overwrite: bool = False,
    grid: Grid | None = None,
    names: Sequence[str] | None = None,
    about: Mapping[str, Any] = NOTHING,
) -> dict[str, Outcome]:
    """Train on every label column in shared passes: begin the runs, or resume them.

    Parameters
    ----------
    directories : mapping from str to RunDirectory
        By label column.
    together : Source
        X with all label columns.
    sources : mapping from str to Source
        X with each label column.
    settings, choice, reading, command_line, overwrite, grid, names, about
        As `dsoftmax.cli.training_run.train_in`.

    Raises
    ------
    KeyboardInterrupt
        Ctrl-C or SIGTERM arrived. The checkpoints of the last pass are saved.
    DsoftmaxError
    """
    asked = {
        label: asked_of(
            directories[label], one, settings, choice, reading, command_line, overwrite, grid
        )
        for label, one in sources.items()
    }
    reserved: dict[int, int] = {}
    with ExitStack() as stack:
        engine = stack.enter_context(open_engine(choice))
        for directory in directories.values():
            stack.enter_context(naming_what_is_saved(directory))
        interrupts.require_none()
        entered = {
            label: enter(stack, directories[label], contents, overwrite)
            for label, (_, contents) in asked.items()
        }
        started, described, console = time.perf_counter(), engine.describe(), diagnostics()
        stack.enter_context(noted(console))
        progress = stack.enter_context(
            Progress(settings.tol, settings.max_iter, console, ongoing=lambda: engine.ongoing)
        )
        trainings, slowest = {}, _Slowest(progress)
        for number, (label, (own, _)) in enumerate(asked.items()):
            history, resume, _ = entered[label]
            save = saver(history, directories[label])
            trainings[label] = passes_of(
                sources[label],
                Sharing(engine, reserved, number),
                own,
                grid,
                resume=resume,
                watchers=[save, slowest.watcher(label)],
                names=names,
            )
        results = driven_together(trainings, together, engine)
        seconds = time.perf_counter() - started
        described = described_after(engine, described)
        with interrupts.shielded():
            for label, result in results.items():
                save_result(directories[label], result, reading, about)
    return {label: Outcome(result, seconds, described) for label, result in results.items()}


class _Slowest:
    """What shows the pass of the label column that is furthest from its end.

    Parameters
    ----------
    progress : Progress
    """

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._last: dict[str, Any] = {}
        self._shown: Any = None

    def watcher(self, label: str) -> Callable[[Any, Any], None]:
        """Return the watcher of the training on one column."""

        def watch(record: Any, runs: Any) -> None:
            self._last[label] = record
            # The others may have made one pass less, because they hear of this pass later.
            going = [one for one in self._last.values() if one.pass_ >= record.pass_ - 1]
            slowest = max(going, key=lambda one: one.gradient_max)
            if slowest is not self._shown:
                self._shown = slowest
                self.progress(slowest, runs)

        return watch


def say_columns_interrupted(
    directories: Mapping[str, RunDirectory], command_line: list[str]
) -> None:
    """Say what is saved, and print the command that continues the runs."""
    import shlex

    entered = all(one.entered for one in directories.values())
    again = [part for part in command_line if part != "--overwrite" or not entered]
    told = " ".join(saved(one) for one in directories.values())
    click.echo(f"Interrupted. {told} To continue:\n  {shlex.join(again)}", err=True)
