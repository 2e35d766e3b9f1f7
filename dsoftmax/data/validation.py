"""A source of two: the training set, and after it the validation set.

One pass then reads both. Engines, caches and workers need not know: the blocks say which rows they
hold (`dsoftmax.data.block.Block.validation`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.buffer import Buffer
from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.source import Share, Source
from dsoftmax.data.table import Names, Table
from dsoftmax.errors import DataError


@dataclass(frozen=True)
class WithValidation(Share):
    """The chunks of ``training``, and then those of ``validation``.

    This is a `dsoftmax.data.source.Source`.

    Attributes
    ----------
    training, validation : Source
        Sources with labels, each with its own names and row numbers.
    """

    training: Source
    validation: Source

    @property
    def n_features(self) -> int:
        return self.training.n_features

    @property
    def dtype(self) -> np.dtype:
        return np.promote_types(self.training.dtype, self.validation.dtype)

    @property
    def dtypes(self) -> Table[np.dtype]:
        return replace(self.training.dtypes, X=self.dtype)

    @property
    def sparse(self) -> bool:
        return self.training.sparse

    @property
    def resident(self) -> bool:
        return self.training.resident and self.validation.resident

    @cached_property
    def chunk_rows(self) -> NDArray[np.int64]:
        return np.concatenate([self.training.chunk_rows, self.validation.chunk_rows])

    @cached_property
    def chunk_bytes(self) -> NDArray[np.int64]:
        return np.concatenate([self.training.chunk_bytes, self.validation.chunk_bytes])

    @property
    def columns(self) -> ColumnBytes:
        one, two = self.training.columns, self.validation.columns
        return ColumnBytes(
            row=max(one.row, two.row),
            stored=max(one.stored, two.stored),
            label=max(one.label, two.label),
            leaf=max(one.leaf, two.leaf),
            units=one.units + two.units,
            copied=max(one.copied, two.copied),
            decoded=max(one.decoded, two.decoded),
        )

    @property
    def names(self) -> Names:
        return self.training.names

    @property
    def _n_chunks(self) -> int:
        """Number of training chunks."""
        return len(self.training.chunk_rows)

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        return ShareWithValidation(self.training, self.validation, self._n_chunks).load(
            chunk, buffer
        )

    def fetch(self, chunk: int, buffer: Buffer) -> Block:
        return ShareWithValidation(self.training, self.validation, self._n_chunks).fetch(
            chunk, buffer
        )

    def share(self, chunks: Sequence[int]) -> "ShareWithValidation":
        n = self._n_chunks
        training = self.training.share([chunk for chunk in chunks if chunk < n])
        validation = self.validation.share([chunk - n for chunk in chunks if chunk >= n])
        return ShareWithValidation(training, validation, n)

    def needs(self, chunk: int) -> tuple[Any, ...]:
        n = self._n_chunks
        return self.training.needs(chunk) if chunk < n else self.validation.needs(chunk - n)

    def smaller_chunks(self, rows: int) -> str:
        lines = [one.smaller_chunks(rows) for one in (self.training, self.validation)]
        return "\n  ".join(filter(None, lines))

    def describe(self) -> dict[str, Any]:
        return {"training": self.training.describe(), "validation": self.validation.describe()}


@dataclass(frozen=True)
class ShareWithValidation(Share):
    """Some chunks of a `WithValidation`.

    Attributes
    ----------
    training, validation : Share
    n_chunks : int
        Number of training chunks in the whole source. Chunks from this number on belong to the
        validation set.
    """

    training: Share
    validation: Share
    n_chunks: int

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        if chunk < self.n_chunks:
            return self.training.load(chunk, buffer)
        return replace(self.validation.load(chunk - self.n_chunks, buffer), validation=True)

    def fetch(self, chunk: int, buffer: Buffer) -> Block:
        if chunk < self.n_chunks:
            return self.training.fetch(chunk, buffer)
        return replace(self.validation.fetch(chunk - self.n_chunks, buffer), validation=True)

    def bind(self, values: Mapping[int, Sequence[Any]]) -> "ShareWithValidation":
        n = self.n_chunks
        first = {chunk: found for chunk, found in values.items() if chunk < n}
        second = {chunk - n: found for chunk, found in values.items() if chunk >= n}
        return ShareWithValidation(self.training.bind(first), self.validation.bind(second), n)


def with_validation(training: Source, validation: Source) -> WithValidation:
    """Return the source of both.

    Raises
    ------
    DataError
        The numbers of features differ, or one source is sparse and the other is not.
    """
    one, two = training.names.X, validation.names.X
    if training.n_features != validation.n_features:
        raise DataError(
            f"{two} has {validation.n_features} features and {one} has {training.n_features}; "
            "expected the same columns, in the same order."
        )
    if training.sparse != validation.sparse:
        kinds = {True: "sparse", False: "dense"}
        raise DataError(
            f"{two} is {kinds[validation.sparse]} and {one} is {kinds[training.sparse]}; expected "
            "the same kind. Convert one of them."
        )
    return WithValidation(training, validation)
