"""The rows that a pass skipped."""

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.missing import REASONS, report_skipped
from dsoftmax.sums.totals import Totals


def skipped_counts(totals: Totals, name: str) -> NDArray[np.int64]:
    """Return the rows that a pass skipped by reason, (4,), and log the line that reports them.

    Parameters
    ----------
    totals : Totals
    name : str
        Name of X in messages.

    Raises
    ------
    DataError
        The pass skipped all rows.
    """
    counts = np.zeros(len(REASONS), np.int64) + totals.skipped
    if not totals.reported:
        report_skipped(counts, totals.n_rows, name)
    return counts
