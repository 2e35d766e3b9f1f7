"""The engine that the options name, its memory limit and its plan."""

import signal
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import replace
from pathlib import Path

from dsoftmax.cli import interrupts
from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.engines.choose import make_engine
from dsoftmax.engines.fit import require_fit
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.engines.limits import equal_parts, planned_part, spare_bytes
from dsoftmax.engines.plan import Plan, needs_of, plan_pass, units_bytes
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.engines.visit import Footprint
from dsoftmax.system.process import available_cores


@contextmanager
def open_engine(choice: EngineChoice) -> Iterator[Engine]:
    """Open the engine that the options name, and close it after the block.

    Raises
    ------
    ClusterError, OptionError
    """
    spool = (
        None
        if choice.spool is None
        else SpoolTo(str(Path(choice.spool).absolute()), choice.spool_limit)
    )
    if choice.engine != "cluster":
        with closing(make_engine(choice.engine, choice.memory, spool)) as local:
            yield local
        return
    with interrupts.shielded():
        from dsoftmax.engines.cluster import connect
        from dsoftmax.engines.cluster.address import Certificates

    if choice.is_remote:
        with (
            connect.connected(
                choice.scheduler,
                choice.scheduler_file,
                spool=spool,
                certificates=Certificates(*choice.tls),
            ) as engine,
            closing(engine),
        ):
            yield engine
        return
    stack = ExitStack()
    try:
        with interrupts.shielded(), _ignored_by_children():
            engine = stack.enter_context(
                connect.local_cluster(choice.workers, choice.memory, spool)
            )
        yield engine
    finally:
        with interrupts.shielded():
            stack.close()


@contextmanager
def _ignored_by_children() -> Iterator[None]:
    """Let processes that the block starts ignore Ctrl-C.

    A terminal sends Ctrl-C to all processes of a command. This process ends its workers in order.
    """
    try:
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    except ValueError:  # not the main thread
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def process_limit(choice: EngineChoice) -> int | None:
    """Return the memory limit of each process, in bytes.

    None means no limit, or a cluster that this command does not start.
    """
    if choice.engine != "cluster" or choice.memory is None:
        return choice.memory
    return equal_parts(choice.workers or available_cores(), choice.memory)


def plan_choice(source: Source, choice: EngineChoice, work: Footprint | None = None) -> Plan | None:
    """Return the plan of a pass: of this process, or of each worker of a cluster.

    None means a cluster that this command does not start.

    Raises
    ------
    MemoryLimitError
        One thread with one block exceeds the limit.
    """
    if choice.engine != "cluster":
        engine = make_engine(choice.engine, choice.memory)
        assert isinstance(engine, (SerialEngine, ThreadsEngine))
        return engine.plan(source, work)
    if choice.is_remote:
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
