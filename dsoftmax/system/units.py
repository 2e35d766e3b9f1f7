"""Sizes in bytes, as people write and read them."""

import math
import re

from dsoftmax.errors import OptionError

_PREFIXES = ("", "k", "m", "g", "t")
_SIZE = re.compile(r"(\d+(?:\.\d*)?|\.\d+)\s*(?:([kmgt]?)(i?)b)?", re.IGNORECASE)


def parse_bytes(size: str | float, name: str = "memory_limit") -> int:
    """Return a size in bytes.

    Parameters
    ----------
    size : str, int or whole float
        Number of bytes, or a number and a unit: B, kB, MB, GB, TB (powers of 1000), KiB, MiB, GiB,
        TiB (powers of 1024). Upper and lower case and a space before the unit make no difference.
        Fractions are rounded down to whole bytes.
    name : str
        The option, as its user spells it.

    Raises
    ------
    OptionError
        ``size`` is no size, or less than one byte.

    Examples
    --------
    >>> parse_bytes("2GiB"), parse_bytes("1.5 kB"), parse_bytes(4096)
    (2147483648, 1500, 4096)
    """
    found = math.nan
    if isinstance(size, str):
        match = _SIZE.fullmatch(size.strip())
        if match and (match[2] or not match[3]):  # "iB" alone is no unit
            power = _PREFIXES.index((match[2] or "").lower())
            found = float(match[1]) * (1024 if match[3] else 1000) ** power
    elif not isinstance(size, bool) and (
        hasattr(size, "__index__") or (isinstance(size, float) and size.is_integer())
    ):
        found = float(size)
    if not 1 <= found < math.inf:
        raise OptionError(
            f"{name}={size!r} is no size; expected a positive number of bytes. Pass a size such as "
            "4096, '500 MB' or '2GiB'. Units are B, kB, MB, GB, TB, KiB, MiB, GiB and TiB."
        )
    return int(found)


def size(n_bytes: float) -> str:
    """Return a number of bytes as text, with the largest binary prefix that fits."""
    for prefix, unit in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if n_bytes >= unit:
            return f"{n_bytes / unit:,.1f} {prefix}"
    return f"{n_bytes:,.0f} B"
