"""A source of two: the rows that are learnt from, and after them others that judge when to stop.

A pass then reads both, and engines, caches and workers need not know. The blocks say which they are
(`dsoftmax.data.block.Block.validation`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block, Buffer, Names
from dsoftmax.data.source import Columns, Share, Source, fetcher
from dsoftmax.errors import DataError


@dataclass(frozen=True)
class WithValidation:
    """The chunks of ``training``, and then those of ``validation``; a `dsoftmax.data.source.Source`.

    Attributes
    ----------
    training, validation : Source
        Each with labels, and with names and row numbers of its own.
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
    def columns(self) -> Columns:
        one, two = self.training.columns, self.validation.columns
        larger = {
            name: max(getattr(one, name), getattr(two, name))
            for name in ("row", "stored", "label", "leaf")
        }
        return Columns(**larger, units=one.units + two.units)

    @property
    def names(self) -> Names:
        return self.training.names

    @property
    def _n_chunks(self) -> int:
        """Of the training rows."""
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
        return ShareWithValidation(
            training, self.validation.share([chunk - n for chunk in chunks if chunk >= n]), n
        )

    def needs(self, chunk: int) -> tuple[Any, ...]:
        n = self._n_chunks
        return self.training.needs(chunk) if chunk < n else self.validation.needs(chunk - n)

    def smaller_chunks(self, rows: int) -> str:
        return "\n  ".join(
            filter(None, (one.smaller_chunks(rows) for one in (self.training, self.validation)))
        )

    def describe(self) -> dict[str, Any]:
        return {"training": self.training.describe(), "validation": self.validation.describe()}


@dataclass(frozen=True)
class ShareWithValidation:
    """Some chunks of a `WithValidation`.

    Attributes
    ----------
    training, validation : Share
    n_chunks : int
        Of all the training rows: chunks from this number on are of validation.
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
            return fetcher(self.training)(chunk, buffer)
        return replace(fetcher(self.validation)(chunk - self.n_chunks, buffer), validation=True)

    def bind(self, held: Mapping[int, Sequence[Any]]) -> "ShareWithValidation":
        """Return the share with the values of its futures, as the shares of dask arrays take them; others need none."""
        n = self.n_chunks
        first = {chunk: values for chunk, values in held.items() if chunk < n}
        second = {chunk - n: values for chunk, values in held.items() if chunk >= n}
        return ShareWithValidation(_bound(self.training, first), _bound(self.validation, second), n)


def _bound(share: Share, held: Mapping[int, Sequence[Any]]) -> Share:
    bound: Share = share.bind(held) if hasattr(share, "bind") else share
    return bound


def with_validation(training: Source, validation: Source) -> WithValidation:
    """Return the source of both.

    Raises
    ------
    DataError
        They have not the same number of features, or one is sparse and the other is not.
    """
    one, two = training.names.X, validation.names.X
    if training.n_features != validation.n_features:
        raise DataError(
            f"{two} has {validation.n_features} features and {one} has {training.n_features}; needed are the same columns, in the "
            "same order."
        )
    if training.sparse != validation.sparse:
        kinds = {True: "sparse", False: "dense"}
        raise DataError(
            f"{two} is {kinds[validation.sparse]} and {one} is {kinds[training.sparse]}; needed is the same kind. Convert one of them."
        )
    return WithValidation(training, validation)
