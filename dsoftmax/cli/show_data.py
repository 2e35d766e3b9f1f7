"""The stored arrays of a source, one line each, as `inspect` prints them."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dsoftmax.data.source import Source
from dsoftmax.system.units import size


def stored_facts(source: Source) -> list[tuple[str, str]]:
    """Return the path of each array, and its shape, dtype, size, chunks, format and compressors."""
    facts = []
    names, dtypes = vars(source.names), dict(source.dtypes.items())
    for part, about in source.describe()["arrays"].items():
        if part == "skipped":  # named with X
            continue
        parts = [f"{_product(about['shape'])} {about['dtype']}"]
        n_bytes = dtypes[part].itemsize * math.prod(about["shape"])
        if "values" in about:  # CSR
            parts.append(f"CSR of {about['values']:,} values")
            n_bytes = about["values"] * (dtypes[part].itemsize + 4)
        if len(each := about.get("variables", ())) > 1:
            parts[0] = f"{len(each)} variables, the first {parts[0]}"
            n_bytes = sum(np.dtype(one["dtype"]).itemsize * math.prod(one["shape"]) for one in each)
        if "categories" in about:
            parts.append(f"codes of {about['categories']:,} categories")
        if about.get("soft"):  # a value of the column has all classes
            parts.append("soft labels")
            n_bytes //= about["shape"][1]
        if n_bytes:
            parts.append(f"{size(n_bytes)} decoded")
        if "one_hot" in about:
            parts.append(f"{about['one_hot']:,} of them categories")
        parts.append(f"chunks of {_product(about['chunks'])}")
        if about["shards"]:
            parts.append(f"shards of {_product(about['shards'])}")
        version = about["format"]
        parts.append(version if isinstance(version, str) else f"Zarr v{version}")
        parts += about["compressors"] or ["not compressed"]
        if "missing" in about:
            parts.append(f"declares {' and '.join(about['missing'])} as missing: rows are skipped")
        parts += _absent(about)
        facts.append((names[part], ", ".join(parts)))
    return facts


def absent_notes(source: Source) -> list[str]:
    """Return a sentence on each array some of whose chunks are not stored, and mean something."""
    arrays, names = source.describe()["arrays"].items(), vars(source.names)
    return [f"{names[part]}: {words}." for part, about in arrays for words in _absent(about)]


def _absent(about: Mapping[str, Any]) -> list[str]:
    """Return how many chunks of an array are not stored, and the value that they hold."""
    if "variables" in about:
        each = [one for one in about["variables"] if one.get("absent")]
        return [
            f"{one['absent']:,} of {one['objects']:,} chunks of {one['name']} are not stored: they "
            f"hold {one['fill']}"
            for one in each
        ]
    return [
        f"{one['absent']:,} of {one['objects']:,} chunks{of} are not stored: they hold "
        f"{one['fill']}"
        for one, of in ((about, ""), (about.get("mask", {}), " of the mask"))
        if one.get("absent")
    ]


def _product(shape: Sequence[int]) -> str:
    return " × ".join(f"{n:,}" for n in shape)
