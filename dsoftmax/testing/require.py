"""How a broken contract is said."""

from typing import Any


def _require(condition: Any, found: str) -> None:
    if not condition:
        raise AssertionError(found)
