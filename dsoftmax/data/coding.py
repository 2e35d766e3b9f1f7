"""The coding of a frame: its columns by name, and the features that each becomes.

A column of numbers is one feature. A column of categories is one feature for each category, 1 in
its rows and 0 in the others.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import unknown_option

UNKNOWN = ("error", "ignore")
"""Meanings of a category that the training did not have: an error, or 0 in all its features."""


@dataclass(frozen=True)
class Column:
    """A column of a frame.

    Attributes
    ----------
    name : str
    categories : tuple or None
        Distinct strings, integers, floats or booleans, ascending; None for a column of numbers.
    """

    name: str
    categories: tuple[Any, ...] | None = None

    @property
    def n_features(self) -> int:
        """Number of features."""
        return 1 if self.categories is None else len(self.categories)

    @property
    def features(self) -> list[str]:
        """Names of the features, as scikit-learn's ``OneHotEncoder`` names them."""
        if self.categories is None:
            return [self.name]
        return [f"{self.name}_{category}" for category in self.categories]


@dataclass(frozen=True)
class Coding:
    """The columns of a frame that are features, in their order.

    Attributes
    ----------
    columns : tuple of Column
    unknown : {"error", "ignore"}
        Meaning of a category that is not among those of its column.

    Raises
    ------
    OptionError
        ``unknown`` is no such meaning.
    """

    columns: tuple[Column, ...]
    unknown: str = "error"

    def __post_init__(self) -> None:
        if self.unknown not in UNKNOWN:
            raise unknown_option("handle_unknown", self.unknown, UNKNOWN)

    @property
    def names(self) -> list[str]:
        """Names of the columns."""
        return [column.name for column in self.columns]

    @property
    def features(self) -> list[str]:
        """Names of the features, (p,)."""
        return [name for column in self.columns for name in column.features]

    @cached_property
    def offsets(self) -> NDArray[np.int64]:
        """Number of the first feature of each column."""
        sizes = [column.n_features for column in self.columns]
        return np.cumsum([0, *sizes[:-1]]).astype(np.int64)

    @property
    def n_features(self) -> int:
        """Number of features p."""
        return sum(column.n_features for column in self.columns)

    @property
    def sparse(self) -> bool:
        """Whether a column has categories, so that rows are CSR."""
        return any(column.categories is not None for column in self.columns)

    def as_json(self) -> dict[str, Any]:
        """Return the coding in JSON types, for the record of a model."""
        return {
            "columns": [
                {"name": column.name}
                | ({} if column.categories is None else {"categories": list(column.categories)})
                for column in self.columns
            ],
            "handle_unknown": self.unknown,
        }

    @classmethod
    def from_json(cls, record: Mapping[str, Any] | None) -> "Coding | None":
        """Return the coding of a record; None if the model has none."""
        if not record:
            return None
        columns = [
            Column(one["name"], tuple(one["categories"]) if "categories" in one else None)
            for one in record["columns"]
        ]
        return cls(tuple(columns), record["handle_unknown"])

    @classmethod
    def of_numbers(cls, names: Iterable[str]) -> "Coding":
        """Return the coding of columns of numbers."""
        return cls(tuple(Column(str(name)) for name in names))
