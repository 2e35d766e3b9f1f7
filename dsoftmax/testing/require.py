"""The error of a broken contract."""

from typing import Any


def require(condition: Any, found: str) -> None:
    """Raise AssertionError with what was ``found``, unless the condition is true."""
    if not condition:
        raise AssertionError(found)
