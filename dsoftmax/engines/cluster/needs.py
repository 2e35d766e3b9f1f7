"""The memory of each worker: refused before anything is read, and planned by the worker itself."""

from collections.abc import Collection, Sequence
from dataclasses import replace

from dsoftmax.compat.distributed import WorkerInfo
from dsoftmax.data.source import Source
from dsoftmax.engines.cluster.deal import Hand
from dsoftmax.engines.cluster.worker import VisitTask
from dsoftmax.engines.fit import require_fit
from dsoftmax.engines.limits import planned_part
from dsoftmax.engines.plan import (
    Needs,
    cacheable_bytes,
    needs_of,
    plan_pass,
    units_bytes,
)
from dsoftmax.engines.visit import Footprint
from dsoftmax.sums.exact import ENTRY_BYTES


def worker_needs(source: Source, work: Footprint, allowed: int | None, reserve: int) -> Needs:
    """Return the needs of a worker.

    The worker may load a piece of another share while the labels of its own are in memory.
    """
    units = units_bytes(source.columns, shares=2)
    return needs_of(source, work, 1, allowed, reserve=reserve, units=units)


def require_memory(
    source: Source, work: Footprint, workers: Collection[WorkerInfo], shared: bool
) -> None:
    """Raise if the smallest worker cannot visit one block.

    Parameters
    ----------
    source : Source
    work : Footprint
    workers : collection of WorkerInfo
    shared : bool
        Whether the workers share the memory limit with the driver.

    Raises
    ------
    MemoryLimitError
    """
    limits = [planned_part(one.memory_limit) for one in workers if one.memory_limit]
    if limits:
        needs = worker_needs(source, work, min(limits), 2 * work.sums * ENTRY_BYTES)
        require_fit(plan_pass(needs), source, len(limits) if shared else 0)


def visit_tasks(
    source: Source, hands: Sequence[Hand], work: Footprint, reserve: int, run: str, number: int
) -> dict[str, VisitTask]:
    """Return the task that visits each whole share, by the address of its owner.

    Parameters
    ----------
    source : Source
    hands : sequence of Hand
    work : Footprint
    reserve : int
        Bytes that merges allocate on a worker.
    run : str
    number : int
        Number of the pass in the run.
    """
    common = worker_needs(source, work, None, reserve)
    hosts = [one.host for one in hands]
    tasks = {}
    for one in hands:
        total = cacheable_bytes(source, one.chunks)
        needs = replace(common, n_chunks=len(one.chunks), total=total)
        neighbours = hosts.count(one.host)
        tasks[one.address] = VisitTask(
            0, len(one.chunks), needs, source.resident, neighbours, run, number
        )
    return tasks
