"""What a pass cost."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

from dsoftmax.sums.totals import Totals
from dsoftmax.sums.work import Done


@dataclass(frozen=True)
class Cost:
    """Time and work of a pass.

    Attributes
    ----------
    seconds : float
        Wall time.
    rows, bytes : int
        Rows that were visited, and decoded bytes of X.
    work : dict from str to Done
        Work of each worker, by its name; this process has the name "".
    """

    seconds: float
    rows: int
    bytes: int
    work: Mapping[str, Done]

    def __add__(self, other: "Cost") -> "Cost":
        names = {*self.work, *other.work}
        work = {one: self.work.get(one, Done()) + other.work.get(one, Done()) for one in names}
        return Cost(
            self.seconds + other.seconds, self.rows + other.rows, self.bytes + other.bytes, work
        )

    @classmethod
    def since(cls, started: float, totals: Totals) -> "Cost":
        """Return the cost of a pass that gave these totals.

        It started at ``started``, as `time.perf_counter` says.
        """
        return cls(time.perf_counter() - started, totals.n_rows, totals.n_bytes, totals.work)
