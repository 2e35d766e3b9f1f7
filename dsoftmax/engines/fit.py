"""The refusal of a plan that does not fit in the memory allowed, with its cure."""

from dsoftmax.data.source import Source
from dsoftmax.engines.limits import BELOW, TERMINATE
from dsoftmax.engines.plan import Plan, largest_block
from dsoftmax.errors import MemoryLimitError


def require_fit(plan: Plan, source: Source, n_workers: int = 0, enough: int = 0) -> Plan:
    """Return the plan if it fits.

    Parameters
    ----------
    plan : Plan
    source : Source
    n_workers : int
        Number of workers that share the memory limit with their driver; 0 if the plan is not that
        of a worker.
    enough : int
        Limit that is enough also for what comes after this pass, in bytes; 0 if it is unknown.

    Raises
    ------
    MemoryLimitError
        The plan does not fit. The message names the bytes of all parts, the limit that would do,
        and how to store the arrays in smaller chunks.
    """
    if plan.fits:
        return plan
    cure, command = _cure(plan, source)
    raise MemoryLimitError(
        _found(plan, n_workers, enough)
        + (f", or {cure}" if cure else "")
        + (f":\n  {command}" if command else ".")
    )


def _found(plan: Plan, n_workers: int, enough: int) -> str:
    """Return what was found, and the limit that would do."""
    assert plan.needs.allowed is not None
    allowed, least = _mib(plan.needs.allowed), _mib(plan.projected)
    parts = ", ".join(f"{_mib(size)} {name}" for name, size in plan.parts.items() if size >= 2**19)
    if not n_workers:
        return (
            f"The memory allowed is {allowed}; the least that this takes is {least}: {parts}. "
            f"Allow at least {_mib(max(enough, plan.projected))}"
        )
    enough = (int(plan.projected / (BELOW * TERMINATE)) + 1) * (n_workers + 1)
    return (
        f"{n_workers} workers share the memory allowed with the process that drives them, and each "
        f"may use {allowed}; the least that a worker takes is {least}: {parts}. "
        f"Allow at least {_mib(enough)} for all of them, or start fewer workers"
    )


def _cure(plan: Plan, source: Source) -> tuple[str, str]:
    """Return how to store the arrays so that a block fits, and the command; empty without cure."""
    needs, parts = plan.needs, plan.parts
    assert needs.allowed is not None
    _, rows = largest_block(source)
    left = needs.allowed - (plan.projected - parts["blocks"] - parts["chunks of labels"])
    fit = left * rows // max(parts["blocks"], 1)
    if source.resident or needs.allowed <= needs.process:
        return "", ""
    if fit >= rows:
        cure = (
            "store labels, weights and groups in chunks that each hold the rows of one block of X"
        )
        return f"{cure}, {rows:,}", source.smaller_chunks(rows)
    if (row := source.columns.row) * rows > int(source.chunk_bytes.max()):
        cure = "store labels and groups as whole numbers: with the weights they take"
        return f"{cure} {row:,} bytes a row, in blocks of up to {rows:,} rows", ""
    if fit < 1:
        return "", ""
    fewer = 1 << (int(fit).bit_length() - 1)
    cure = f"store X in chunks of {fewer:,} rows or fewer (the largest now has {rows:,})"
    return cure, source.smaller_chunks(fewer)


def _mib(n_bytes: int) -> str:
    return f"{-(-n_bytes // 2**20):,} MiB"
