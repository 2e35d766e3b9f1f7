"""From the totals of the first pass to its statistics."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.errors import DataError
from dsoftmax.first_pass.checks import check_count
from dsoftmax.first_pass.labels import Encoder, given_classes, ordered_classes
from dsoftmax.first_pass.sample import NO_GRAM, NOTHING, Sample, kept_rows, sample_from
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.first_pass.visit import HeldOutSums

Float = NDArray[np.float64]
NONE = np.zeros((0, 0))
"""Sums of soft labels where labels are hard."""


def finish(totals: dict[Any, Any], classes: NDArray | None) -> Statistics:
    """Return the statistics from the totals of a pass of `dsoftmax.first_pass.visit.Collect`.

    Parameters
    ----------
    totals : dict
    classes : (K,) ndarray, optional
        Given classes, those of the visit's encoder; they may name more than occur in the data.

    Raises
    ------
    DataError
        There is only one class, or the weights are all zero.
    """
    found, soft = totals["by_label"], totals.get("soft", NONE)
    check_count(len(found), None)
    if classes is None:
        ordered = ordered_classes(found)
    else:
        ordered = given_classes(classes)
        if len(found) < 2 and not soft.any():
            ordered_classes(found)  # raises because there is one class only
    p = len(totals["squares"])
    rows, sums = _by_class(found, ordered, p)
    weight = sums[:, -1].sum()
    if not weight > 0:
        raise DataError(
            "The sample weights are all zero; expected a positive sum. Leave out the weights, or "
            "check their units."
        )
    gram, share = totals.get("gram", NO_GRAM), 1.0
    if gram.size and totals["gram_weight"] > 0:
        share = float(totals["gram_weight"] / weight)
    held: list[tuple[NDArray[np.int64], Float]] = []
    while HeldOutSums(len(held)) in totals:
        held.append(_by_class(totals[HeldOutSums(len(held))], ordered, p))
    return Statistics(
        ordered,
        rows,
        sums,
        totals["squares"],
        -totals["low"],
        totals["high"],
        totals["absolute"],
        gram if share == 1 else gram / share,
        float(weight),
        float(-totals["least_weight"][0]),
        share,
        _sample(totals, ordered, sums, gram if share == 1 else NO_GRAM),
        np.array([one for one, _ in held], np.int64).reshape(-1, len(rows)),
        np.array([one for _, one in held]).reshape(-1, *sums.shape),
        soft=soft,
        held_soft=totals.get("soft_held", np.zeros((0, 0, 0))),
        scored_soft=totals.get("soft_validation", NONE),
    )


def _by_class(found: dict[Any, Any], classes: NDArray, p: int) -> tuple[NDArray[np.int64], Float]:
    """Return rows and sums by class, zeros for a class that does not occur."""
    nothing = {"rows": np.int64(0), "sums": np.zeros(p + 1)}
    per_class = [found.get(label, nothing) for label in classes.tolist()]
    rows = np.array([int(one["rows"]) for one in per_class], np.int64)
    assert rows.sum() == sum(int(one["rows"]) for one in found.values()), (
        "some label equals no class"
    )
    return rows, np.stack([one["sums"] for one in per_class])


def _sample(totals: dict[Any, Any], classes: NDArray, sums: Float, gram: Float) -> Sample:
    """Return the sample, with the classes of its rows."""
    rows = totals.get("sample")
    if rows is None:
        return NOTHING
    K, d = sums.shape
    codes = Encoder(classes).codes(Block(rows.columns["X"], rows.columns["y"]))
    mass = float(sums[:, -1].sum())  # rows without a weight are not drawn
    whole = bool(rows.columns["weights"].sum() >= mass * (1 - 1e-12))
    return sample_from(rows, codes, sums, kept_rows(len(codes), whole, d, K), whole, gram)
