"""The plan of a pass: the threads, blocks and sums that fit in the memory allowed.

The planner adds the bytes that sources, visits, solvers and the process say they allocate. It is a
pure function of integers. Three words say whose bytes are meant: *allowed* is the user's limit,
*projected* the sum of the plan, and *measured* the system's count afterwards
(`dsoftmax.system.process`).
"""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.leaves import MOST_LEAF_ROWS, leaf_rows
from dsoftmax.data.source import Source
from dsoftmax.engines.limits import PROCESS_BYTES
from dsoftmax.engines.visit import Footprint
from dsoftmax.sums.exact import ENTRY_BYTES

LOADING = 2
"""Factor on the stored bytes of a chunk that loading it allocates in addition to the block: the
stored bytes, and a copy in Zarr's and dask's own readers."""
ROW_COPIES = 3
"""Copies of rows of data in the totals, while they are joined and their labels are found."""
LEAF_ENTRY_BYTES = 32
"""Bytes of an entry of the sums in a thread that works on a leaf. They are θ in the dtype of the
products, the sum of the leaf, and copies of both in the memory order of the product."""

MOST_LOADS = 64
"""Most blocks that a process loads at once from remote storage, unless more threads compute. 64
requests of 8 MiB fill a link of 10 GB/s at 50 ms."""


@dataclass(frozen=True)
class Needs:
    """Integers that decide the plan of one process.

    Attributes
    ----------
    allowed : int or None
        Memory limit in bytes; None for no limit.
    cores : int
        Threads that may compute.
    n_chunks : int
        Number of chunks that this process visits.
    block : int
        Bytes of the largest block, with its labels, weights and groups.
    loading : int
        Bytes that loading a block allocates in addition to it; 0 if blocks are views of memory.
    units : int
        Bytes of decoded chunks of labels, weights and groups, and of decoding them.
    sums, scratch : int
        See `Footprint`. The scratch includes the labels of a leaf.
    reserve : int
        Bytes that others allocate in this process, such as the solver.
    total : int
        Bytes of all blocks that this process visits and that are worth caching.
    spare : int
        Bytes that may cache blocks if there is no limit.
    process : int
        Bytes of the process before it holds any data.
    code : int
        Bytes of compiled code.
    in_flight : int
        Number of blocks that are loaded at once for each computing thread.
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
    in_flight: int = 1


@dataclass(frozen=True)
class Plan:
    """The threads and memory of a pass in one process.

    Attributes
    ----------
    needs : Needs
    threads : int
        Number of threads that compute.
    blocks : int
        Number of blocks in flight: being loaded, waiting, or visited.
    totals : int
        Number of sums that grow side by side. Threads share them if memory is tight.
    cache : int
        Bytes of blocks that stay in memory between passes.
    """

    needs: Needs
    threads: int
    blocks: int
    totals: int
    cache: int = 0

    @property
    def readers(self) -> int:
        """Number of threads that load blocks. Storage that is not remote has one for each thread
        that computes."""
        return min(_loads(self.needs, self.threads), self.blocks)

    @property
    def read_ahead(self) -> int:
        """Number of blocks that are loaded or wait while all threads compute."""
        return self.blocks - self.threads

    @property
    def parts(self) -> dict[str, int]:
        """Bytes by their purpose."""
        needs = self.needs
        return {
            "the process": needs.process,
            "compiled code": needs.code,
            "the solver": needs.reserve,
            "sums": self.totals * needs.sums * ENTRY_BYTES,
            "threads": self.threads * (needs.scratch + needs.sums * LEAF_ENTRY_BYTES),
            "blocks": self.blocks * needs.block + self.readers * needs.loading,
            "chunks of labels": needs.units,
            "cached blocks": self.cache,
        }

    @property
    def projected(self) -> int:
        """Bytes of all parts."""
        return sum(self.parts.values())

    @property
    def fits(self) -> bool:
        """Whether the projected bytes are allowed."""
        return self.needs.allowed is None or self.projected <= self.needs.allowed


def plan_pass(needs: Needs) -> Plan:
    """Return the largest plan that fits.

    As many threads as fit come first, then the blocks that are read ahead for them, then cached
    blocks. Without a limit, half of the spare bytes may hold more than one such block a thread.
    The least plan has one thread and one block. It is returned even if it does not fit: see
    `Plan.fits`.
    """
    threads = max(min(needs.cores, needs.n_chunks), 1)
    most = threads + min(_loads(needs, threads), max(needs.n_chunks, threads))
    if needs.allowed is None:
        more = min(most - 2 * threads, needs.spare // 2 // max(needs.block + needs.loading, 1))
        plan = Plan(needs, threads, 2 * threads + more, threads)
        spare = needs.spare - more * (needs.block + needs.loading)
        return replace(plan, cache=min(spare, needs.total))
    ladder = (
        Plan(needs, min(threads, blocks), blocks, totals)
        for blocks in range(most, 0, -1)
        for totals in dict.fromkeys((min(threads, blocks), 1))
    )
    plan = next((plan for plan in ladder if plan.fits), Plan(needs, 1, 1, 1))
    return replace(plan, cache=min(max(needs.allowed - plan.projected, 0), needs.total))


def _loads(needs: Needs, threads: int) -> int:
    """Return the number of blocks that are loaded at once."""
    return max(threads, min(threads * needs.in_flight, MOST_LOADS))


def largest_block(source: Source) -> tuple[int, int]:
    """Return the bytes and the rows of the largest block, with its labels, weights and groups."""
    sizes = (0 if source.resident else source.chunk_bytes) + source.columns.row * source.chunk_rows
    if len(sizes) == 0:
        return 0, 0
    chunk = int(np.argmax(sizes))
    return int(sizes[chunk]), int(source.chunk_rows[chunk])


def cacheable_bytes(source: Source, chunks: NDArray[np.int64]) -> int:
    """Return the bytes of the blocks of these chunks; 0 if they are views of memory."""
    if source.resident:
        return 0
    return int(source.chunk_bytes[chunks].sum()) + source.columns.row * int(
        source.chunk_rows[chunks].sum()
    )


def units_bytes(columns: ColumnBytes, shares: int = 1) -> int:
    """Return the bytes of the decoded chunks of labels, weights and groups of several shares.

    One of the shares is being loaded.
    """
    return (shares + LOADING) * columns.units


def needs_of(
    source: Source, work: Footprint, cores: int, allowed: int | None, **others: Any
) -> Needs:
    """Return the needs of a process that visits all chunks of a source.

    Parameters
    ----------
    source : Source
    work : Footprint
        Memory that the visit allocates.
    cores : int
    allowed : int or None
    **others : int
        Other fields of `Needs`.
    """
    (block, _), columns = largest_block(source), source.columns
    rows = int(source.chunk_rows.max(initial=0))
    decoded = columns.stored * rows + (
        0 if source.resident else int(source.chunk_bytes.max(initial=0))
    )
    leaf = min(MOST_LEAF_ROWS if source.sparse else leaf_rows(source.n_features), rows)
    scratch = work.scratch + (columns.leaf + columns.copied + columns.decoded) * leaf
    total = cacheable_bytes(source, np.arange(len(source.chunk_rows)))
    needs = {
        "n_chunks": len(source.chunk_rows),
        "total": total,
        "units": units_bytes(columns),
        **others,
    }
    # Rows of data in the totals exist as the leaves return them, joined, and sorted by label.
    needs["reserve"] = needs.get("reserve", 0) + ROW_COPIES * work.rows
    return Needs(
        allowed,
        cores,
        block=block,
        loading=LOADING * decoded,
        sums=work.sums,
        scratch=scratch,
        code=work.code,
        in_flight=source.in_flight,
        **needs,
    )
