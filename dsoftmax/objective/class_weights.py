"""Class weights from scikit-learn's ``class_weight``."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import DataError, OptionError
from dsoftmax.first_pass.labels import label_as
from dsoftmax.first_pass.statistics import Statistics

Float = NDArray[np.float64]


def class_weight_vector(class_weight: Any, statistics: Statistics) -> Float | None:
    """Return the weight c of each class, (K,); None for ones.

    Parameters
    ----------
    class_weight : dict, "balanced" or None
        "balanced" is Σw/(K·Σ_{y=k} w), inverse to the weighted count of the class.
    statistics : Statistics

    Raises
    ------
    OptionError
        ``class_weight`` is none of these.
    DataError
        A label in the dict is no class, or a weight is negative.
    """
    if class_weight is None:
        return None
    classes, mass = statistics.classes.tolist(), statistics.class_weights
    if isinstance(class_weight, str):
        if class_weight != "balanced":
            raise OptionError(
                f"class_weight={class_weight!r} is unknown; expected 'balanced', a dict from label "
                "to weight, or None. Pass one of these."
            )
        present = mass > 0
        weights = np.ones(len(classes))
        weights[present] = mass.sum() / (present.sum() * mass[present])
        return weights
    if not isinstance(class_weight, Mapping):
        raise OptionError(
            f"class_weight={class_weight!r} is unknown; expected 'balanced', a dict from label to "
            "weight, or None. Pass one of these."
        )
    class_weight = {
        label_as(label, statistics.classes): weight for label, weight in class_weight.items()
    }
    unknown = [label for label in class_weight if label not in classes]
    # As in scikit-learn, a dict that names every class may name more: a fold may lack a class.
    if unknown and any(label not in class_weight for label in classes):
        raise DataError(
            f"class_weight names {unknown[0]!r}, which is not among the {len(classes)} classes "
            f"[{' '.join(map(str, classes[:12]))}]. Remove it, or correct its spelling."
        )
    weights = np.array([float(class_weight.get(label, 1.0)) for label in classes])
    if not (np.isfinite(weights).all() and (weights >= 0).all() and weights @ mass > 0):
        raise DataError(
            f"class_weight={dict(class_weight)!r} has weights that cannot be used; expected finite "
            "weights of at least 0, not all of them 0. Pass such weights."
        )
    return weights
