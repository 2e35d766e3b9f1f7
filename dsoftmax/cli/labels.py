"""Labels that are typed as words of an option."""

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.soft import is_soft
from dsoftmax.errors import OptionError


def soft_classes(text: str) -> NDArray:
    """Return the classes of the columns of soft labels, (K,): integers if all of them are."""
    return typed_labels(text.split(","), _dtype(text.split(",")), "--classes")


def _dtype(texts: list[str]) -> np.dtype:
    whole = all(text.strip().lstrip("-").isdecimal() for text in texts)
    return np.dtype(np.int64 if whole else object)


def typed_labels(texts: list[str], dtype: np.dtype, option: str) -> NDArray:
    """Return typed labels in the dtype of the stored ones, (K,)."""
    texts = [text.strip() for text in texts]
    if is_soft(dtype):
        dtype = _dtype(texts)
    if "" in texts:
        raise OptionError(
            f"{option} has an empty label; expected labels separated by single commas; "
            "pass for example a,b,c."
        )
    if len(set(texts)) < len(texts):
        twice = next(text for text in texts if texts.count(text) > 1)
        raise OptionError(f"{option} names {twice} twice; expected every class once.")
    if dtype.kind in "OTUS":
        return np.array(texts)
    try:
        if dtype.kind == "b":
            return np.array([{"true": True, "false": False}[text.lower()] for text in texts])
        return np.array([int(text) if dtype.kind in "iu" else float(text) for text in texts], dtype)
    except (ValueError, KeyError, OverflowError):
        raise OptionError(
            f"{option} is {','.join(texts)}; expected {dtype}, the dtype of the stored labels; "
            "pass labels of that dtype."
        ) from None
