"""Score a row with a model that `dsoftmax export RUN --to json` wrote, without any library.

python examples/score_json.py model.json 0.5 2.0 1.5
"""

import json
import math
import sys
from pathlib import Path
from typing import Any


def score(model: dict[str, Any], row: list[float]) -> tuple[Any, list[float]]:
    """Return the label of a row, and the probability of each class."""
    if model["format"] != "dsoftmax" or model["version"] != 1 or model["before"]:
        raise ValueError(f"these steps come first: {model['before']}")
    if len(row) != len(model["coef"][0]):
        raise ValueError(f"expected {len(model['coef'][0])} features")
    logits = [
        b + sum(w * x for w, x in zip(coef, row, strict=True))
        for coef, b in zip(model["coef"], model["intercept"], strict=True)
    ]
    exponentials = [math.exp(z - max(logits)) for z in logits]
    probabilities = [e / sum(exponentials) for e in exponentials]
    return model["classes"][logits.index(max(logits))], probabilities


if __name__ == "__main__":
    with Path(sys.argv[1]).open(encoding="utf-8") as file:
        print(json.dumps(score(json.load(file), [float(word) for word in sys.argv[2:]])))
