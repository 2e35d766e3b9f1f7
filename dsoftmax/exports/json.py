"""JSON: a model that 20 lines of any language apply. The page on exports has the schema."""

import json
from pathlib import Path
from typing import Any

from dsoftmax.data.coding import Coding
from dsoftmax.data.counts import Normalisation
from dsoftmax.exports.files import require_free, write_bytes
from dsoftmax.exports.model import Linear, plain_labels

VERSION = 1
"""Version of the schema. A reader refuses versions that it does not know."""
STEPS: dict[str, Any] = {"normalize": None, "log1p": False, "nodata": [], "frame": None}
"""Steps before the logits, and the value of each that means "nothing"."""


def to_json(model: Linear, path: Path | str, overwrite: bool = False) -> None:
    """Write a model as JSON.

    Raises
    ------
    DataError
        A label is no text in UTF-8.
    OutputExistsError, WriteError
    """
    require_free(path, overwrite)
    text = json.dumps(document(model), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode(), overwrite)


def document(model: Linear) -> dict[str, Any]:
    """Return the content of the file, in JSON types. Numbers keep all digits of float64."""
    names, about = model.feature_names, model.about
    how = Normalisation.of(about)
    coding = Coding.from_json(about.get("frame"))
    steps = {
        "normalize": how.total,
        "log1p": how.log1p,
        "nodata": [str(value) for value in about.get("nodata") or ()],
        "frame": coding.as_json() if coding is not None and coding.sparse else None,
    }
    return {
        "format": "dsoftmax",
        "version": VERSION,
        "classes": plain_labels(model.classes, "JSON").tolist(),
        "feature_names": None if names is None else [str(name) for name in names],
        "before": {name: value for name, value in steps.items() if value != STEPS[name]},
        "intercept": model.theta[:, -1].tolist(),
        "coef": model.theta[:, :-1].tolist(),
    }
