"""Groups of rows that belong together: from stored values to a number of 64 bits for each row.

Equal values have equal numbers in every process and in every dtype. An integer or a whole float is
its own number. The number of a string is the BLAKE2b digest, of 64 bits, of its UTF-8.
"""

from collections.abc import Sequence
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.missing import is_missing
from dsoftmax.errors import DataError

Keys = NDArray[np.uint64]
"""Numbers of groups, (rows,)."""


def group_keys(values: NDArray, name: str = "groups", first_row: int = 0) -> Keys:
    """Return the number of each row's group, (rows,) uint64.

    Parameters
    ----------
    values : (rows,) ndarray
        Integers, whole floats, booleans or strings.
    name : str
        Name of the groups in messages.
    first_row : int
        Number of the first row in messages.

    Raises
    ------
    DataError
        A group is missing or of another kind. The message names its row.

    Notes
    -----
    Strings of fixed width are digested once per run of equal ones. Other strings are
    digested once per block.
    """
    values = np.asarray(values)
    kind = values.dtype.kind
    if kind in "iub":
        return values.astype(np.uint64)
    if kind == "f":
        return _of_floats(values, name, first_row)
    if kind in "US":
        begins = np.ones(len(values), bool)
        begins[1:] = values[1:] != values[:-1]
        return _of_words(values[begins].tolist())[np.cumsum(begins) - 1]
    if kind in "OT":  # Python objects, variable-width strings
        return _of_objects(values.tolist(), name, first_row)
    raise _refused(name, f"has dtype {values.dtype}")


def _of_words(words: Sequence[str | bytes]) -> Keys:
    known = {word: _digest(word) for word in set(words)}
    return np.array([known[word] for word in words], np.uint64)


def _digest(word: str | bytes) -> int:
    content = word if isinstance(word, bytes) else word.encode("utf-8", "surrogatepass")
    return int.from_bytes(blake2b(content, digest_size=8).digest(), "little")


def _of_floats(values: NDArray, name: str, first_row: int) -> Keys:
    missing = np.isnan(values)
    if missing.any():
        raise _missing(name, first_row + int(np.argmax(missing)), np.nan)
    strange = (values != np.floor(values)) | (np.abs(values) >= 2.0**63)
    if strange.any():
        row = int(np.argmax(strange))
        raise _refused(name, f"row {first_row + row:,}: the group is {values[row]}")
    return values.astype(np.int64).astype(np.uint64)


def _of_objects(found: list[Any], name: str, first_row: int) -> Keys:
    for row, value in enumerate(found):
        if is_missing(value):
            raise _missing(name, first_row + row, value)
    if all(isinstance(value, (str, bytes)) for value in found):
        return _of_words(found)
    kinds = sorted({type(value).__name__ for value in found})
    if {"str", "str_", "bytes", "bytes_"} & set(kinds):  # NumPy would turn 1 into "1"
        raise _refused(name, f"mixes {', '.join(kinds)}")
    plain = np.array(found)
    if plain.dtype.kind not in "iubf" or plain.ndim != 1:
        raise _refused(name, f"holds {', '.join(kinds)}")
    return group_keys(plain, name, first_row)


def _missing(name: str, row: int, value: Any) -> DataError:
    return DataError(
        f"{name} row {row:,}: the group is {value}. {name} contains NaN or None; expected a group "
        "for every row. Leave out the rows without a group, or give each a group of its own."
    )


def _refused(name: str, found: str) -> DataError:
    return DataError(
        f"{name} {found}; expected integers, whole floats, booleans or strings of one kind. "
        "Convert the groups with astype(str)."
    )
