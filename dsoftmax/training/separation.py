"""Separation of the classes: whether it is searched for, and what a sentence says about it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from dsoftmax.objective.margins import POSITIVE, margin_bytes
from dsoftmax.solvers.auto import SURROGATE_ENTRIES
from dsoftmax.solvers.protocol import SAMPLE_SLICES, Sizes

Float = NDArray[np.float64]

MATRICES = 8
"""Matrices of the Hessian's size that a search has at a time."""
SEARCH_PART = 4
"""Divisor of the memory that is left, for the budget of a search."""
ABOVE_ROUNDING = 1e-8
"""Least margin of all rows of a class that is called positive."""
NAMED_CLASSES, NAMED_FEATURES = 4, 3
"""Most classes and features that a sentence names."""
WEAK = 0.01
"""Strength of a feature, beside the strongest one, below which no sentence names it."""


def searched_entries(n_features: int, n_classes: int) -> bool:
    """Return whether θ is small enough for Hessians of a sample."""
    return (n_features + 1) * n_classes <= SURROGATE_ENTRIES


def search_bytes(sizes: Sizes) -> int:
    """Return the bytes that `dsoftmax.objective.separation.find_direction` allocates."""
    rows = sizes.sample_bytes + SAMPLE_SLICES * sizes.scratch_bytes
    return MATRICES * sizes.matrix + rows + margin_bytes(sizes.n_features, sizes.n_classes)


def may_search(sizes: Sizes, budget: int | None) -> bool:
    """Return whether a run without a penalty is searched for a separation, by sizes alone.

    Parameters
    ----------
    sizes : Sizes
    budget : int or None
        Bytes that each process may use for data and solvers; None without a limit.
    """
    small = searched_entries(sizes.n_features, sizes.n_classes)
    fits = budget is None or search_bytes(sizes) <= budget // SEARCH_PART
    return bool(small and fits and sizes.sample_rows)


def say_complete(strengths: Float, names: Sequence[str] | None) -> str:
    """Say that a linear function separates all classes, and by which features.

    Parameters
    ----------
    strengths : (p,) float64
        Effect of each feature on the function.
    names : sequence of p str, optional
        Names of the features; their numbers, from 0, when None.
    """
    return _sentence("a linear function separates the classes", strengths, names, "0")


def say_separated(
    margins: Float, classes: NDArray, strengths: Float, names: Sequence[str] | None
) -> str:
    """Say which classes a direction separates, and by which features.

    Parameters
    ----------
    margins : (K, K+1) float64
        Largest margins along the direction, which separates.
    classes : (K,) ndarray
        Labels.
    strengths, names
        As in `say_complete`.
    """
    K = len(classes)
    seen = np.isfinite(margins[:, K])
    positive = (margins[:, :K] >= POSITIVE) & seen
    all_rows = margins[:, K] <= -ABOVE_ROUNDING
    if not positive.any():
        empty = f"no row has {_classes(classes[~seen])}, whose intercept falls without end"
        return _sentence(empty, np.zeros(0), names, "its infimum")
    if all_rows[seen].all():
        return say_complete(strengths, names)
    parts, said = [], np.zeros((K, K), bool)
    for one in sorted(np.flatnonzero(positive.any(axis=1)), key=lambda k: not all_rows[k]):
        others = np.flatnonzero(positive[one] & ~said[:, one])
        if len(others):
            said[one, others] = True
            rows = "all rows" if all_rows[one] else "some rows"
            parts.append(f"{rows} of {_classes(classes[[one]])} from {_classes(classes[others])}")
    which = f"a linear function separates {_listed(parts, NAMED_CLASSES)} (quasi-separation)"
    return _sentence(which, strengths, names, "its infimum")


def _sentence(which: str, strengths: Float, names: Sequence[str] | None, least: str) -> str:
    return (
        f"{which}{_features(strengths, names)}. Without a penalty there is no finite optimum: F "
        f"falls towards {least} as θ grows. Pass a finite C."
    )


def _features(strengths: Float, names: Sequence[str] | None) -> str:
    """Return a clause that names the features with the strongest effect; empty if there is none."""
    if not strengths.any():
        return ""
    order = np.argsort(-strengths, kind="stable")[: NAMED_FEATURES + 1]
    strong = [j for j in order if strengths[j] > WEAK * strengths.max()]
    labels = [str(j) if names is None else repr(str(names[j])) for j in strong[:NAMED_FEATURES]]
    which = "by" if len(strong) <= NAMED_FEATURES else "mainly by"
    return f", {which} feature{'s' * (len(labels) > 1)} {_listed(labels, NAMED_FEATURES)}"


def _classes(labels: NDArray) -> str:
    """Name some classes."""
    names = [repr(label) for label in labels.tolist()]
    return f"class{'es' * (len(names) > 1)} {_listed(names, NAMED_CLASSES)}"


def _listed(names: Sequence[str], most: int) -> str:
    """Return names in a row; those beyond ``most`` are counted."""
    if len(names) > most:
        names = [*names[:most], f"{len(names) - most} more"]
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
