"""From options to a source, settings and an engine."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.cli import interrupts
from dsoftmax.cli.options import EngineChoice
from dsoftmax.data.open import open_source
from dsoftmax.data.source import Source
from dsoftmax.data.table import Names, Table
from dsoftmax.data.zarr.names import open_array
from dsoftmax.engines.base import Engine
from dsoftmax.engines.choose import make_engine
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.engines.plan import (
    Plan,
    equal_parts,
    needs_of,
    plan_pass,
    planned_part,
    require_fit,
    spare_bytes,
    units_bytes,
)
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.engines.visit import Footprint
from dsoftmax.errors import OptionError
from dsoftmax.system.process import available_cores
from dsoftmax.training.grid import Grid
from dsoftmax.training.settings import Settings


def open_data(
    data: str,
    features: str | None,
    labels: str | None = None,
    weights: str | None = None,
    missing_chunks: str = "error",
    groups: str | None = None,
) -> Source:
    """Open the arrays that the options name; reads metadata only.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    return open_source(_table(data, features, labels, weights, groups, missing_chunks))


def _table(
    data: str,
    features: str | None,
    labels: str | None,
    weights: str | None,
    groups: str | None,
    missing_chunks: str,
) -> Table[Any]:
    """Return the table of the named arrays, with their paths as names."""
    named = (("--labels", labels), ("--weights", weights), ("--groups", groups))
    X = open_array(data, features, "--features")
    y, s, g = (None if name is None else open_array(data, name, option) for option, name in named)
    names = Names(*(_path(array) if array is not None else "" for array in (X, y, s, g)))
    return Table(X, y, s, g, names, missing_chunks)


def open_validation(
    validation: str | None,
    training: Source,
    features: str | None,
    labels: str,
    weights: str | None = None,
    missing_chunks: str = "error",
) -> Source | None:
    """Open the arrays of a second store, which have the names of those that are trained on; None where there is none.

    Raises
    ------
    ReadError, DataError, OptionError
    """
    if validation is None:
        return None
    table = _table(validation, features, labels, weights, None, missing_chunks)
    names = table.names
    for option, path in (
        ("--features", names.X),
        ("--labels", names.y),
        ("--weights", names.weights),
    ):
        if path and path in vars(training.names).values():
            raise OptionError(
                f"--validation {validation}: {option} names {path}, which is trained on. Needed is a store that has arrays of the same "
                "names as DATA, with other rows."
            )
    return open_source(table)


def _path(array: Any) -> str:
    return str(array.store_path).removeprefix("file://")


@contextmanager
def open_engine(choice: EngineChoice) -> Iterator[Engine]:
    """Hold the engine that the options name.

    Raises
    ------
    ClusterError, OptionError
    """
    spool = (
        None
        if choice.spool is None
        else SpoolTo(str(Path(choice.spool).absolute()), choice.spool_limit)
    )
    if choice.engine == "cluster":
        with interrupts.shielded():
            from dsoftmax.engines.cluster import connect

        if choice.scheduler or choice.scheduler_file:
            with (
                connect.connected(choice.scheduler, choice.scheduler_file, spool=spool) as engine,
                closing(engine),
            ):
                yield engine
        else:
            stack = ExitStack()
            try:
                with interrupts.shielded(), _ctrl_c_is_ours():
                    engine = stack.enter_context(
                        connect.local_cluster(choice.workers, choice.memory, spool)
                    )
                yield engine
            finally:
                with interrupts.shielded():
                    stack.close()
        return
    with closing(make_engine(choice.engine, choice.memory, spool)) as local:
        yield local


def process_limit(choice: EngineChoice) -> int | None:
    """Return the bytes that each process may take; None for no limit, and for workers that are not ours."""
    if choice.engine != "cluster" or choice.memory is None:
        return choice.memory
    return equal_parts(choice.workers or available_cores(), choice.memory)


def plan_choice(source: Source, choice: EngineChoice, work: Footprint | None = None) -> Plan | None:
    """Return the plan of a pass, of each worker where there are several; None for a cluster whose workers are not ours.

    Raises
    ------
    MemoryLimitError
        Not even one thread with one block fits.
    """
    if choice.engine != "cluster":
        engine = make_engine(choice.engine, choice.memory)
        assert isinstance(engine, (SerialEngine, ThreadsEngine))
        return engine.plan(source, work)
    if choice.scheduler or choice.scheduler_file:
        return None
    cores = available_cores()
    n_workers = choice.workers or cores
    each = process_limit(choice)
    n_chunks = -(-len(source.chunk_rows) // n_workers)
    allowed = None if each is None else planned_part(each)
    spare = spare_bytes() // n_workers
    units = units_bytes(source.columns, shares=2)
    needs = needs_of(
        source,
        work or Footprint(),
        max(cores // n_workers, 1),
        allowed,
        n_chunks=n_chunks,
        spare=spare,
        units=units,
    )
    return require_fit(plan_pass(replace(needs, total=needs.total // n_workers)), source, n_workers)


@contextmanager
def _ctrl_c_is_ours() -> Iterator[None]:
    """Let the processes started meanwhile ignore Ctrl-C, which a terminal sends to all: this process ends them in order."""
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def make_settings(
    source_dtype: np.dtype,
    *,
    C: tuple[float, ...],
    l1_ratio: float,
    solver: str,
    tol: float,
    max_iter: int,
    no_intercept: bool,
    class_weight: str | None,
    classes: str | None,
    dtype: str | None,
    kernel: str,
    validation_fraction: float | None,
    n_iter_no_change: int,
    folds: int | None,
    scoring: str | None,
    grouped: bool = False,
    validated: bool = False,
) -> tuple[Settings, Grid | None]:
    """Return the settings that the options name, and the grid, where models for several C or folds are asked for.

    Parameters
    ----------
    source_dtype : numpy dtype
        Of the labels as stored: what is typed becomes of their kind.
    grouped : bool
        Whether the rows have groups.
    validated : bool
        Whether there are validation rows.

    Raises
    ------
    OptionError
    """
    if len(C) > 1 and folds is None:
        raise OptionError(
            f"--C names {len(C)} values, and nothing chooses among them. Pass --folds N too, or one value."
        )
    if scoring is not None and folds is None:
        raise OptionError("--scoring does nothing without --folds. Give both, or leave it out.")
    if grouped and folds is None and validation_fraction is None:
        raise OptionError(
            "--groups does nothing without --folds or --validation-fraction. Give both, or leave it out."
        )
    settings = Settings(
        C=C[0],
        l1_ratio=l1_ratio,
        solver=solver,
        tol=tol,
        max_iter=max_iter,
        fit_intercept=not no_intercept,
        class_weight=_class_weight(class_weight, source_dtype),
        classes=None if classes is None else _labels(classes.split(","), source_dtype, "--classes"),
        dtype=dtype,
        kernel=kernel,
        validation_fraction=validation_fraction,
        n_iter_no_change=n_iter_no_change,
    )
    grid = None if folds is None else Grid(np.sort(np.array(C)), folds, scoring or "accuracy")
    if grid is not None:
        grid.check("--C", "--folds")
    settings.check()
    if grid is not None and validation_fraction is not None:
        raise OptionError("--validation-fraction and --folds both hold out rows. Give one of them.")
    if validated and (folds is not None or validation_fraction is not None):
        other = "--folds" if validation_fraction is None else "--validation-fraction"
        raise OptionError(f"--validation and {other} both say which rows judge. Give one of them.")
    return settings, grid


def _labels(texts: list[str], dtype: np.dtype, option: str) -> NDArray:
    texts = [text.strip() for text in texts]
    if "" in texts:
        raise OptionError(
            f"{option} holds an empty label; needed are labels with one comma between them, such as a,b,c."
        )
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise OptionError(f"{option} names {twice} twice; needed is every class once.")
    if dtype.kind in "OTUS":
        return np.array(texts).astype("S" if dtype.kind == "S" else str)
    try:
        if dtype.kind == "b":
            return np.array([{"true": True, "false": False}[text.lower()] for text in texts])
        return np.array([int(text) if dtype.kind in "iu" else float(text) for text in texts], dtype)
    except (ValueError, KeyError, OverflowError):
        raise OptionError(
            f"{option} {','.join(texts)}: the labels are stored as {dtype}, and these are not all of that kind."
        ) from None


def _class_weight(text: str | None, dtype: np.dtype) -> Any:
    if text is None or text == "balanced":
        return text
    pairs = [pair.rpartition("=") for pair in text.split(",")]
    try:
        weights = [float(weight) for label, equals, weight in pairs if label and equals]
    except ValueError:
        weights = []
    if len(weights) < len(pairs):
        raise OptionError(
            f"--class-weight {text}: needed is balanced, or label=weight,label=weight."
        )
    labels = _labels([label for label, _, _ in pairs], dtype, "--class-weight")
    return dict(zip(labels.tolist(), weights, strict=True))


def label_dtype(source: Source) -> np.dtype:
    """Return the dtype of the labels as stored."""
    found = source.dtypes.y
    return np.dtype(object) if found is None else found
