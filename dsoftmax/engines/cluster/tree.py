"""The totals of a pass, added on the workers in a tree until the driver can add the rest."""

import itertools
from collections.abc import Sequence
from typing import Any

from distributed import Client, Future

from dsoftmax.compat.distributed import submit
from dsoftmax.engines.cluster.worker import merge
from dsoftmax.sums.exact import ENTRY_BYTES

FAN_IN = 8
"""Number of partial sums that one merge adds."""
DIRECT_BYTES = 64 * 2**20
"""Largest partial sums that the driver adds, in bytes, all of them together. Larger ones are
added on the workers."""


def is_direct(n_totals: int, sums: int) -> bool:
    """Return whether the driver adds totals with this many float64 entries each."""
    return n_totals <= FAN_IN and n_totals * sums * ENTRY_BYTES <= DIRECT_BYTES


def merge_bytes(n_totals: int, sums: int) -> int:
    """Return the bytes that a merge allocates: its parts, and its own sum, exact and rounded."""
    return (min(max(n_totals, 2), FAN_IN + 1) * ENTRY_BYTES + 8) * sums


def add_in_tree(
    client: Client, totals: Sequence[Future], sums: int, key: str, where: dict[str, Any]
) -> tuple[list[Future], list[Future]]:
    """Submit the merges of some totals.

    Parameters
    ----------
    client : distributed.Client
    totals : sequence of Future
    sums : int
        Number of float64 entries of each.
    key : str
        Part of the keys of all merges.
    where : dict
        Options of `Client.submit` that name the workers.

    Returns
    -------
    top, merges : list of Future
        The totals that are left for the driver, and all merges.
    """
    top = sorted(totals, key=lambda future: str(future.key))
    merges: list[Future] = []
    last = False
    for level in itertools.count():
        if last or is_direct(len(top), sums):
            break
        groups = [top[i : i + FAN_IN] for i in range(0, len(top), FAN_IN)]
        last = len(groups) == 1
        top = [
            submit(client, merge, group, last, key=f"dsoftmax-merge-{key}-{level}-{i}", **where)
            for i, group in enumerate(groups)
        ]
        merges += top
    return top, merges
