"""What an engine calls on every leaf."""

from collections.abc import Callable, Mapping
from typing import Any

from dsoftmax.blocks import Block

Visit = Callable[[Block], Mapping[str, Any]]
"""A picklable pure function of a leaf that returns its sums (see `dsoftmax.engine.sums`)."""
