"""The memory of L-BFGS of a minimisation in which most entries of θ rest at zero."""

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]

LEAST_BEND = 1e-8
"""Least sᵀy of a pair on the moving entries, as a fraction of ‖s‖·‖y‖."""


@dataclass
class FacePairs:
    """Pairs s and y of L-BFGS, on the entries that any step of the minimisation could move.

    The other entries of s are zero, and those of y are not kept.

    Attributes
    ----------
    entries : (n,) int64
        Numbers of the entries, ascending.
    steps, changes : lists of (n,) float64
        s and y, oldest first.
    """

    entries: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    steps: list[Float] = field(default_factory=list)
    changes: list[Float] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.steps)

    def clear(self) -> None:
        """Forget all pairs."""
        self.steps.clear()
        self.changes.clear()

    def cover(self, inside: NDArray[np.bool_]) -> None:
        """Add the entries ``inside`` to those that are kept."""
        wanted = inside.copy().ravel()
        wanted[self.entries] = True
        entries = np.flatnonzero(wanted)
        if len(entries) == len(self.entries):
            return
        places = np.searchsorted(entries, self.entries)
        for vectors in (self.steps, self.changes):
            for i, vector in enumerate(vectors):
                vectors[i] = np.zeros(len(entries))
                vectors[i][places] = vector
        self.entries = entries

    def add(self, step: Float, change: Float, most: int) -> None:
        """Add a pair, and drop the oldest beyond ``most``."""
        for vectors, one in ((self.steps, step), (self.changes, change)):
            vectors.append(one.ravel()[self.entries])
            del vectors[:-most]

    def inverse_product(
        self,
        right: Float,
        inside: NDArray[np.bool_],
        solve: Callable[[Float, NDArray[np.bool_]], Float],
    ) -> Float:
        """Return H·right on the entries ``inside``, by the two-loop recursion.

        Nocedal and Wright 2006, algorithm 7.4, with the pairs' entries inside alone and H⁰ =
        γ·solve. All entries inside must be kept. Work 10·m·n flops for m pairs, and two solves.
        """
        mask = inside.ravel()[self.entries]
        bends, kept = [], []
        for i, (s, y) in enumerate(zip(self.steps, self.changes, strict=True)):
            part = np.where(mask, s, 0.0)
            bend = float(part @ y)
            scale = float(part @ part) * float(np.where(mask, y, 0.0) @ y)
            if bend > LEAST_BEND * np.sqrt(scale):
                kept.append(i)
                bends.append(bend)
        if not kept:
            return solve(right, inside)

        def first(r: Float) -> Float:
            found = np.zeros(right.size)
            found[self.entries] = r
            found = solve(found.reshape(right.shape), inside).ravel()[self.entries]
            return np.where(mask, found, 0.0)

        q, alphas = np.where(mask, right.ravel()[self.entries], 0.0), np.zeros(len(kept))
        for j in reversed(range(len(kept))):
            alphas[j] = float(self.steps[kept[j]] @ q) / bends[j]
            q -= np.where(mask, alphas[j] * self.changes[kept[j]], 0.0)
        newest = np.where(mask, self.changes[kept[-1]], 0.0)
        q = first(q)
        q *= bends[-1] / float(newest @ first(newest))
        for j, i in enumerate(kept):
            factor = alphas[j] - float(self.changes[i] @ q) / bends[j]
            q += np.where(mask, factor * self.steps[i], 0.0)
        found = np.zeros(right.size)
        found[self.entries] = q
        return found.reshape(right.shape)
