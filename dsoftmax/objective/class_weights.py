"""Class weights, from scikit-learn's ``class_weight``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import DataError, OptionError
from dsoftmax.first_pass.statistics import Statistics

Float = NDArray[np.float64]


def class_weight_vector(class_weight: Any, statistics: Statistics) -> Float | None:
    """Return c by class, from scikit-learn's ``class_weight``.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        "balanced" means Σw/(K·Σ_{y=k} w): inverse to the weighted counts.
    statistics : Statistics

    Raises
    ------
    OptionError
        Neither of these.
    DataError
        A label in the dict that is no class, or a negative weight.
    """
    if class_weight is None:
        return None
    classes, mass = statistics.classes.tolist(), statistics.class_weights
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise OptionError(
                f"class_weight={class_weight!r} is unknown; needed is 'balanced', a dict from label to weight, or None."
            )
        present = mass > 0
        weights = np.ones(len(classes))
        weights[present] = mass.sum() / (present.sum() * mass[present])
        return weights
    if not isinstance(class_weight, Mapping):
        raise OptionError(
            f"class_weight={class_weight!r}: needed is 'balanced', a dict from label to weight, or None."
        )
    unknown = [label for label in class_weight if label not in classes]
    if unknown and any(
        label not in class_weight for label in classes
    ):  # as scikit-learn: a fold may lack a class
        raise DataError(
            f"class_weight names {unknown[0]!r}, which is not among the {len(classes)} classes [{' '.join(map(str, classes[:12]))}]. "
            "Remove it, or correct its spelling."
        )
    weights = np.array([float(class_weight.get(label, 1.0)) for label in classes])
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights @ mass > 0):
        raise DataError(
            f"class_weight={dict(class_weight)!r}: needed are finite weights of at least 0, not all of them 0."
        )
    return weights
