"""Cures in messages about shapes: expressions, or commands that store an array again.

An array of the command line is named by its path, which is no identifier.
"""

from math import prod
from pathlib import Path

from dsoftmax.data.reshape import reshape_command, transpose_command


def cure_of_features(
    name: str, found: str, shape: tuple[int, ...], n_rows: int | None, n_features: int | None
) -> str:
    """Return the cure for an X that does not have two dimensions.

    Features may be the last dimension, the first, or all but the first. If the number of rows or
    of features is known, only the ways that lead to it are named.

    Parameters
    ----------
    name : str
        X, as its user spells it.
    found : str
        Expression of an array with NumPy's methods.
    shape : tuple of int
    n_rows : int or None
        Number of labels.
    n_features : int or None
        Features of the model.
    """
    if len(shape) < 2:
        ways = {"one feature": (prod(shape), 1), "one row": (1, prod(shape))}
    else:
        ways = {
            "the last dimension holds the features": (prod(shape[:-1]), shape[-1]),
            "the first dimension holds the features": (prod(shape[1:]), shape[0]),
            "the first dimension holds the rows": (shape[0], prod(shape[1:])),
        }
    fit = {
        way: size
        for way, size in ways.items()
        if n_rows in (None, size[0]) and n_features in (None, size[1])
    } or ways
    if not name.isidentifier():
        return _stored_features(name, shape, next(iter(fit)))
    lines = {way: f"{found}.{_reshaped(way, shape, size)}" for way, size in fit.items()}
    if len(lines) == 1:
        return f"Reshape your data: pass {next(iter(lines.values()))}."
    parts = [f"{line} if {way}" for way, line in lines.items()]
    if len(shape) < 2:
        parts = [f"{line} for {way}" for way, line in lines.items()]
    return f"Reshape your data: pass {', or '.join(parts)}."


def _reshaped(way: str, shape: tuple[int, ...], size: tuple[int, int]) -> str:
    if "first dimension holds the features" in way:
        return f"reshape({size[1]}, -1).T"
    return "reshape(1, -1)" if way == "one row" else f"reshape(-1, {size[1]})"


def _stored_features(path: str, shape: tuple[int, ...], way: str) -> str:
    how = "with two dimensions"
    if not (_is_directory(path) and shape) or prod(shape) == 0:
        return f"Store it {how}."
    if "first dimension holds the features" in way:
        command = transpose_command(path, shape)
    elif "first dimension holds the rows" in way:
        command = reshape_command(path, shape, (prod(shape[1:]),))
    else:
        command = reshape_command(path, shape, shape[-1:] if len(shape) > 2 else (1,))
    return f"Store it {how}, for example beside it as {Path(path).name}-rows:\n  {command}"


def _is_directory(path: str) -> bool:
    """Return whether the path of an array is one of the file system, and not inside a file."""
    place = Path(path)
    return place.is_absolute() and not any(folder.is_file() for folder in place.parents)


def cure_of_column(name: str, found: str, shape: tuple[int, ...], n: int) -> str:
    """Return the cure for labels, weights or groups that do not have one dimension.

    Parameters
    ----------
    name : str
        The column, as its user spells it.
    found : str
        Expression of an array with NumPy's methods.
    shape : tuple of int
    n : int
        Rows of X.
    """
    if not name.isidentifier():
        if prod(shape) != n:
            soft = " Soft labels need --classes, one for each column." if len(shape) == 2 else ""
            return f"Store one of its columns by itself.{soft}"
        if not _is_directory(name):
            return "Store it as one column."
        command = reshape_command(name, shape, ())
        return (
            f"Store it as one column, for example beside it as {Path(name).name}-rows:\n  {command}"
        )
    if shape == (n, 1):
        return f"Pass {found}[:, 0]."
    if prod(shape) == n:
        return f"Pass {found}.ravel()."
    if len(shape) == 2 and shape[0] == n:
        return (
            f"Pass one column, for example {found}[:, 0]. Soft labels need classes, one for each "
            "column. If each row marks its class (one-hot), "
            f"pass {found}.argmax(axis=1)."
        )
    return "Check that it comes from the same data as X, and pass one value per row."


def sparse_column_line(name: str, shape: tuple[int, ...]) -> str:
    """Return the expression that makes one value per row of a sparse column."""
    if 1 in shape:
        return f"{name}.toarray().ravel()"
    return f"{name}.toarray().argmax(axis=1) if each row marks its class, or one of its columns"
