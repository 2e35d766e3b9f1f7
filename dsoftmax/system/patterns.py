"""Paths of files by patterns, as a shell expands them."""

import glob
from pathlib import Path


def paths_of(pattern: str) -> list[str]:
    """Return the paths that a pattern such as ``part-*.parquet`` finds, in order.

    A path that exists, or has no wildcard, is returned as it is.
    """
    path = str(Path(pattern).expanduser())
    if not glob.has_magic(path) or Path(path).exists():
        return [path]
    return sorted(glob.glob(path, recursive=True))  # noqa: PTH207 (a pattern may be absolute)
