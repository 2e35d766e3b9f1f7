"""The memory limit that is enough for a whole training, named before the first pass.

A larger limit allows a larger sample, and other solvers. So the least limit is searched for.
"""

from collections.abc import Callable

from dsoftmax.engines.fit import require_fit
from dsoftmax.engines.limits import process_bytes
from dsoftmax.engines.plan import Plan, needs_of
from dsoftmax.engines.visit import Footprint
from dsoftmax.first_pass.visit import USUAL_CLASSES
from dsoftmax.training.prepare import Prepared

STEP = 4 * 2**20
"""Bytes between two limits that are tried, and a margin of the one that is named. The process is
measured anew in each run, and takes a megabyte more or less."""
MOST_STEPS = 1000


def require_enough(prepared: Prepared, limit: int, again: Callable[[int], Prepared]) -> None:
    """Raise if the first pass does not fit in the memory allowed on this machine's threads.

    Parameters
    ----------
    prepared : Prepared
    limit : int
        Memory limit of this process, in bytes.
    again : callable
        Returns what another limit would prepare.

    Raises
    ------
    MemoryLimitError
        The limit that it names is enough for the passes to come, too, up to `USUAL_CLASSES`
        classes.
    """
    plan = _least(prepared, prepared.visit.footprint(*_shape(prepared)), limit)
    if not plan.fits:
        require_fit(plan, prepared.source, enough=enough(prepared, limit, again))


def enough(prepared: Prepared, limit: int, again: Callable[[int], Prepared]) -> int:
    """Return a limit, in bytes, at which all passes fit; ``limit`` is too small."""
    tried = limit
    for _ in range(MOST_STEPS):
        needed = _needed(prepared, tried) + STEP
        if needed <= tried:
            break
        tried = max(needed, tried + STEP)
        prepared = again(tried)
    return tried


def _needed(prepared: Prepared, limit: int) -> int:
    """Return the bytes of the largest pass that one thread makes with one block."""
    encoder = prepared.encoder
    K = USUAL_CLASSES if encoder is None else len(encoder.classes)
    first = _least(prepared, prepared.visit.footprint(*_shape(prepared)), limit)
    later = _least(prepared, prepared.later(K), limit, prepared.expect_bytes(K))
    return max(first.projected, later.projected)


def _least(prepared: Prepared, work: Footprint, limit: int, reserve: int = 0) -> Plan:
    process = process_bytes()
    needs = needs_of(prepared.source, work, 1, limit, reserve=reserve, process=process)
    return Plan(needs, 1, 1, 1)


def _shape(prepared: Prepared) -> tuple[int, bool]:
    return prepared.source.n_features, prepared.source.sparse
