"""Names and colours of classes in the attributes of their labels, by the CF conventions.

``flag_values`` lists the labels, ``flag_meanings`` their names, separated by blanks.
``flag_colors`` lists colours as ``#rrggbb``, also separated by blanks, as ESA's products do.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np

from dsoftmax.data.cubes.cube import CubeColumn
from dsoftmax.data.cubes.rows import CubeRows


def class_flags(y: Any) -> dict[str, dict[str, str]]:
    """Return names and colours of classes, by label as text, for the record of a model.

    Parameters
    ----------
    y : CubeColumn, CubeRows, or other labels
        Only those of a cube have attributes.
    """
    if isinstance(y, CubeColumn):
        attributes = y.variable.attributes
    elif isinstance(y, CubeRows):
        attributes = y.parts[0].variable.attributes
    else:
        return {}
    found = {
        "class_names": _by_label(attributes, "flag_meanings"),
        "class_colors": _by_label(attributes, "flag_colors"),
    }
    return {name: values for name, values in found.items() if values}


def _by_label(attributes: Mapping[str, Any], name: str) -> dict[str, str]:
    values, words = attributes.get("flag_values"), attributes.get(name)
    if values is None or not isinstance(words, (str, list, tuple)):
        return {}
    parts = words.split() if isinstance(words, str) else [str(one) for one in words]
    labels = np.asarray(values.split(",") if isinstance(values, str) else values).reshape(-1)
    if len(parts) != len(labels):
        return {}
    return {_text(label): part for label, part in zip(labels.tolist(), parts, strict=True)}


def _text(label: Any) -> str:
    """Return a label as a model's record names it; whole floats are integers."""
    return (
        str(int(label)) if isinstance(label, float) and label.is_integer() else str(label).strip()
    )
