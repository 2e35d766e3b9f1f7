"""The memory of the process that drives a run: its budget, and the bytes of its solvers."""

from dataclasses import dataclass

import numpy as np

from dsoftmax.engines.limits import MARGIN, PROCESS_BYTES
from dsoftmax.errors import MemoryLimitError
from dsoftmax.first_pass.sample import Sample
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.kernels.footprint import gradient_bytes
from dsoftmax.solvers.protocol import Sizes
from dsoftmax.solvers.table import AUTO, solver_entry
from dsoftmax.system.process import free_bytes
from dsoftmax.system.units import size


def memory_budget(limit: int | None) -> int | None:
    """Return the bytes that a process may use for data and solvers; None without a limit.

    The budget follows from the memory limit alone, not from the memory that the process uses at
    the moment. Decisions made by it shape the run, and must be the same when the run is resumed.

    Parameters
    ----------
    limit : int or None
        Memory limit of the process, in bytes.
    """
    return None if limit is None else max(limit - PROCESS_BYTES - MARGIN, 0)


@dataclass(frozen=True)
class Drawn:
    """The size of a sample that was drawn, or that is expected.

    Attributes
    ----------
    n_rows : int
    whole : bool
        Whether it has all rows.
    double_bytes, n_bytes : int
        Bytes in float64, and as stored.
    """

    n_rows: int = 0
    whole: bool = False
    double_bytes: int = 0
    n_bytes: int = 0

    @classmethod
    def of(cls, sample: Sample) -> "Drawn":
        """Return the size of a sample."""
        return cls(sample.n_rows, sample.whole, sample.n_bytes, sample.stored_bytes)


def problem_sizes(n_rows: int, n_classes: int, n_features: int, gram: bool, sample: Drawn) -> Sizes:
    """Return the sizes of a problem, with the scratch bytes of the kernel on its sample."""
    scratch = gradient_bytes(n_features, n_classes, np.dtype(np.float64), False)
    return Sizes(
        n_rows,
        n_classes,
        n_features,
        gram,
        sample.double_bytes,
        scratch,
        sample.n_rows,
        sample.n_bytes,
    )


def sizes_of(statistics: Statistics) -> Sizes:
    """Return the sizes of the problem that these statistics describe."""
    K, d = statistics.class_sums.shape
    n, gram = int(statistics.class_rows.sum()), bool(statistics.gram.size)
    return problem_sizes(n, K, d - 1, gram, Drawn.of(statistics.sample))


def solver_bytes(solver: str, statistics: Statistics, n_models: int = 1) -> int:
    """Return the bytes that the solvers of `n_models` models and their statistics allocate."""
    return solver_entry(solver).n_bytes(sizes_of(statistics), n_models)


def require_memory(solver: str, n_bytes: int) -> None:
    """Raise if a solver allocates more than this machine has free.

    Raises
    ------
    MemoryLimitError
    """
    free = free_bytes()
    if 0 < free < n_bytes:
        raise MemoryLimitError(
            f"solver={solver!r} would allocate {size(n_bytes)} between passes; {size(free)} are "
            f"free. Pass solver={AUTO!r}, which chooses a smaller one, or fewer classes "
            "or features."
        )
