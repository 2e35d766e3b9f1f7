"""The plan of a pass: how many threads, blocks and sums fit in the memory allowed. A pure function of integers.

Three words answer whose bytes they are: *allowed* is what the user gave, *projected* what the plan adds up to, *measured* what
the system counted afterwards (`dsoftmax.system.process`).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.leaves import MOST_LEAF_ROWS, leaf_rows
from dsoftmax.data.source import Source
from dsoftmax.engines.visit import Footprint
from dsoftmax.errors import MemoryLimitError
from dsoftmax.sums.exact import ENTRY_BYTES
from dsoftmax.system.allocator import giving_back
from dsoftmax.system.process import free_bytes, resident_bytes

PROCESS_BYTES = 160 * 2**20
"""What a process with NumPy, SciPy, Zarr and dask imported takes before it holds any data, where it cannot be asked (bytes)."""
MARGIN = 64 * 2**20
"""What a process comes to take beside what is planned: modules imported late, thread stacks, what the allocator keeps (bytes)."""
LOADING = 2
"""Beside the block itself, what is being loaded takes its stored bytes and, in Zarr's and dask's own readers, a copy."""
LEAF_ENTRY_BYTES = 32
"""What an entry of the sums takes in a thread that works on a leaf: the point in the products' dtype, the leaf's sum, and the
copies that lay them out for the product (bytes)."""
UNLIMITED_CACHE = 4
"""Where no memory is allowed or forbidden, blocks are kept in one part of so many of what the system has to give."""
TERMINATE = 0.95
"""Part of its limit at which a worker is killed by its nanny, dask's default."""
BELOW = 0.95
"""Part of the bytes at which dask begins to spill, pause or kill that is planned with."""


@dataclass(frozen=True)
class Needs:
    """What decides the plan of one process, in integers.

    Attributes
    ----------
    allowed : int or None
        Bytes; None for no limit.
    cores : int
        Threads that may compute.
    n_chunks : int
        Chunks that this process visits.
    block : int
        Bytes of the largest block, with its labels, weights and groups.
    loading : int
        Bytes that loading it takes beside the block; 0 where blocks are in memory anyway.
    units : int
        Bytes of decoded chunks of labels, weights and groups beside the blocks, and of decoding them.
    sums, scratch : int
        See `Footprint`; the scratch with what the labels of a leaf take.
    reserve : int
        Bytes that others hold in this process, such as the solver.
    total : int
        Bytes of all blocks that this process visits and that are worth keeping.
    spare : int
        Bytes that may keep blocks where there is no limit.
    process : int
        Bytes of the process before it holds any data.
    code : int
        Bytes that compiled code will take in it.
    """

    allowed: int | None
    cores: int
    n_chunks: int
    block: int
    loading: int
    units: int = 0
    sums: int = 0
    scratch: int = 0
    reserve: int = 0
    total: int = 0
    spare: int = 0
    process: int = PROCESS_BYTES
    code: int = 0


@dataclass(frozen=True)
class Plan:
    """How a process makes its passes.

    Attributes
    ----------
    needs : Needs
    threads : int
        That compute, and as many that read.
    blocks : int
        Blocks in flight: being loaded, waiting, or worked on.
    totals : int
        Sums that grow side by side; threads share them where memory is tight.
    cache : int
        Bytes of blocks that are kept from pass to pass.
    """

    needs: Needs
    threads: int
    blocks: int
    totals: int
    cache: int = 0

    @property
    def read_ahead(self) -> int:
        """Blocks that are loaded or wait while all threads compute."""
        return self.blocks - self.threads

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by what takes them."""
        needs = self.needs
        return {
            "the process": needs.process,
            "compiled code": needs.code,
            "the solver": needs.reserve,
            "sums": self.totals * needs.sums * ENTRY_BYTES,
            "threads": self.threads * (needs.scratch + needs.sums * LEAF_ENTRY_BYTES),
            "blocks": self.blocks * needs.block + min(self.blocks, self.threads) * needs.loading,
            "chunks of labels": needs.units,
            "kept blocks": self.cache,
        }

    @property
    def projected(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the process may take what it would take."""
        return self.needs.allowed is None or self.projected <= self.needs.allowed


def plan_pass(needs: Needs) -> Plan:
    """Return the plan: as many threads as fit, each with a block read ahead if that fits too, and the rest for kept blocks.

    The least plan, one thread and one block, is returned also where it does not fit: see `Plan.fits`.
    """
    threads = max(min(needs.cores, needs.n_chunks), 1)
    if needs.allowed is None:
        return Plan(needs, threads, 2 * threads, threads, min(needs.spare, needs.total))
    ladder = (
        Plan(needs, min(threads, blocks), blocks, totals)
        for blocks in range(2 * threads, 0, -1)
        for totals in dict.fromkeys((min(threads, blocks), 1))
    )
    plan = next((plan for plan in ladder if plan.fits), Plan(needs, 1, 1, 1))
    return replace(plan, cache=min(max(needs.allowed - plan.projected, 0), needs.total))


def largest_block(source: Source) -> tuple[int, int]:
    """Return the bytes and the rows of the chunk that takes most, its labels, weights and groups included."""
    sizes = (0 if source.resident else source.chunk_bytes) + source.columns.row * source.chunk_rows
    if len(sizes) == 0:
        return 0, 0
    chunk = int(np.argmax(sizes))
    return int(sizes[chunk]), int(source.chunk_rows[chunk])


def keepable_bytes(source: Source, chunks: NDArray[np.int64]) -> int:
    """Return the bytes of the blocks of these chunks that are worth keeping: of all, unless they are in memory anyway."""
    if source.resident:
        return 0
    return int(source.chunk_bytes[chunks].sum()) + source.columns.row * int(
        source.chunk_rows[chunks].sum()
    )


def units_bytes(columns: ColumnBytes, shares: int = 1) -> int:
    """Return the bytes of decoded chunks of labels, weights and groups that so many shares keep, one of which is being loaded."""
    return (shares + LOADING) * columns.units


def needs_of(
    source: Source, work: Footprint, cores: int, allowed: int | None, **others: Any
) -> Needs:
    """Return what a pass over a source needs of a process that visits all its chunks; ``others`` are fields of `Needs`."""
    (block, _), columns = largest_block(source), source.columns
    rows = int(source.chunk_rows.max(initial=0))
    decoded = columns.stored * rows + (
        0 if source.resident else int(source.chunk_bytes.max(initial=0))
    )
    leaf = min(MOST_LEAF_ROWS if source.sparse else leaf_rows(source.n_features), rows)
    scratch = work.scratch + columns.leaf * leaf
    total = keepable_bytes(source, np.arange(len(source.chunk_rows)))
    needs = {
        "n_chunks": len(source.chunk_rows),
        "total": total,
        "units": units_bytes(columns),
        **others,
    }
    needs["reserve"] = needs.get("reserve", 0) + 2 * work.rows  # as they are found, and joined
    return Needs(
        allowed,
        cores,
        block=block,
        loading=LOADING * decoded,
        sums=work.sums,
        scratch=scratch,
        code=work.code,
        **needs,
    )


def require_fit(plan: Plan, source: Source, n_workers: int = 0) -> Plan:
    """Return the plan if it fits.

    Parameters
    ----------
    plan : Plan
    source : Source
    n_workers : int
        Where the plan is of a worker that shares an allowance with others and the process that drives them: how many workers.

    Raises
    ------
    MemoryLimitError
        Naming what the parts take, what limit would do, and how to store X, or what goes with it, in smaller chunks.
    """
    if plan.fits:
        return plan
    needs, parts = plan.needs, plan.parts
    assert needs.allowed is not None
    taken = ", ".join(f"{_mib(size)} {name}" for name, size in parts.items() if size >= 2**19)
    message = (
        f"The memory allowed is {_mib(needs.allowed)}; the least that this takes is {_mib(plan.projected)}: {taken}. "
        f"Allow at least {_mib(plan.projected)}"
    )
    if n_workers:
        enough = (int(plan.projected / (BELOW * TERMINATE)) + 1) * (n_workers + 1)
        message = (
            f"Of the memory allowed, which {n_workers} workers share with the process that drives them, one may plan with "
            f"{_mib(needs.allowed)}; the least that it takes is {_mib(plan.projected)}: {taken}. Allow at least {_mib(enough)} for all "
            "of them, or start fewer workers"
        )
    _, rows = largest_block(source)
    left = needs.allowed - (plan.projected - parts["blocks"] - parts["chunks of labels"])
    fit = left * rows // max(parts["blocks"], 1)
    if source.resident or needs.allowed <= needs.process:
        raise MemoryLimitError(message + ".")
    if fit >= rows:
        cure = f"store labels, weights and groups in chunks that each hold the rows of one block of X, {rows:,}"
        fewer = rows
    elif (row := source.columns.row) * rows > int(source.chunk_bytes.max()):
        raise MemoryLimitError(
            f"{message}, or store labels and groups as whole numbers: with the weights they take {row:,} bytes a row, in blocks of "
            f"up to {rows:,} rows."
        )
    elif fit < 1:
        raise MemoryLimitError(message + ".")
    else:
        fewer = 1 << (int(fit).bit_length() - 1)
        cure = f"store X in chunks of {fewer:,} rows or fewer (the largest now has {rows:,})"
    command = source.smaller_chunks(fewer)
    raise MemoryLimitError(f"{message}, or {cure}" + (f":\n  {command}" if command else "."))


def equal_parts(n_workers: int, memory_limit: int | None) -> int | None:
    """Return the bytes of each process where ``n_workers`` workers and the one that drives them share an allowance."""
    return None if memory_limit is None else memory_limit // (n_workers + 1)


def planned_part(limit: int, *remedies: float | bool | None) -> int:
    """Return what of a dask worker's limit is planned with: a little less than where dask takes its first remedy.

    Parameters
    ----------
    limit : int
        Bytes.
    remedies : float, or False or None where it is off
        Parts of the limit at which dask spills and pauses.
    """
    return int(BELOW * limit * min(float(part) for part in (*remedies, TERMINATE) if part))


def _mib(n_bytes: int) -> str:
    return f"{-(-n_bytes // 2**20):,} MiB"


_before: int | None = None


def process_bytes() -> int:
    """Return what this process took when it was first asked, with `MARGIN`: what it takes beside anything that is planned.

    Asked later, it would also count blocks that were given back and that the allocator keeps to use again.
    """
    global _before
    if _before is None:
        with giving_back():
            pass
        resident = resident_bytes()
        _before = resident + MARGIN if resident else PROCESS_BYTES
    return _before


def spare_bytes() -> int:
    """Return how much of this machine's memory may keep blocks where the user allowed no number: a part of what is free."""
    return free_bytes() // UNLIMITED_CACHE
