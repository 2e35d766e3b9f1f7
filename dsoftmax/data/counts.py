"""Counts of cells, normalised by rows while they are read."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.buffer import Buffer
from dsoftmax.data.features import Features, dense_or_csr
from dsoftmax.data.missing import missing_rows
from dsoftmax.data.rows import Rows, Stored


@dataclass(frozen=True)
class Normalisation:
    r"""Normalisation of counts, by rows: :math:`\log(1 + t\,x_j / \sum_j x_j)`.

    The sum is over all stored columns, also those that a model does not use. A row whose sum is 0
    stays as it is. The formulas are those of scanpy's ``normalize_total`` and ``log1p``.

    Attributes
    ----------
    total : float or None
        Sum t of every row; None leaves the sums.
    log1p : bool
        Whether the logarithm is taken.
    """

    total: float | None = None
    log1p: bool = False

    @classmethod
    def of(cls, about: Mapping[str, Any]) -> "Normalisation":
        """Return what the record of a model says."""
        total = about.get("normalize")
        return cls(None if total is None else float(total), bool(about.get("log1p")))

    def __bool__(self) -> bool:
        return self.total is not None or self.log1p

    def about(self) -> dict[str, Any]:
        """Return the record for a model, in JSON types; empty if nothing is done."""
        return {"normalize": self.total, "log1p": self.log1p} if self else {}

    def dtype(self, stored: np.dtype) -> np.dtype:
        """Return the dtype of normalised rows: float64 for float64, else float32."""
        return np.dtype(np.float64 if stored.itemsize == 8 and stored.kind == "f" else np.float32)

    def apply(self, X: Features, missing: Iterable[Any] = ()) -> Features:
        """Return normalised rows, (rows, p) ndarray or CSR. ``X`` keeps its values.

        Dense rows with a masked value, or one among ``missing``, are masked.
        """
        hits = missing_rows(X, missing)
        X = dense_or_csr(X)
        sparse = scipy.sparse.issparse(X)
        values = X.data if sparse else X
        found = values.astype(self.dtype(values.dtype))
        with np.errstate(invalid="ignore", divide="ignore"):  # NaN is named when it is checked
            if self.total is not None:
                sums = np.asarray(X.sum(axis=1, dtype=np.float64)).reshape(-1)
                factors = (self.total / np.where(sums == 0, self.total, sums)).astype(found.dtype)
                found *= np.repeat(factors, np.diff(X.indptr)) if sparse else factors[:, None]
            if self.log1p:
                np.log1p(found, out=found)
        if hits is not None and not sparse:
            return np.ma.MaskedArray(found, np.broadcast_to(hits[:, None], found.shape))
        if not sparse:
            return found
        made = scipy.sparse.csr_array(X.shape, dtype=found.dtype)
        # The constructor would copy these arrays.
        made.data, made.indices, made.indptr = found, X.indices, X.indptr
        return made


@dataclass(frozen=True)
class Normalised(Stored):
    """A stored matrix whose rows are normalised when they are read.

    Attributes
    ----------
    whole : Stored
    how : Normalisation
    """

    whole: Stored
    how: Normalisation

    @property
    def shape(self) -> tuple[int, ...]:
        return self.whole.shape

    @property
    def dtype(self) -> np.dtype:
        return self.how.dtype(self.whole.dtype)

    @property
    def sparse(self) -> bool:
        return self.whole.sparse

    @property
    def place(self) -> str:
        return self.whole.place

    def rows(self, name: str, missing_chunks: str) -> Rows:
        return NormalisedRows(self.whole.rows(name, missing_chunks), self.how)


@dataclass(frozen=True)
class NormalisedRows(Rows):
    """A reader of normalised rows. Rows with a value that is declared as missing are masked.

    Attributes
    ----------
    whole : Rows
    how : Normalisation
    """

    whole: Rows
    how: Normalisation

    @property
    def shape(self) -> tuple[int, ...]:
        return self.whole.shape

    @property
    def dtype(self) -> np.dtype:
        return self.how.dtype(self.whole.dtype)

    def read(self, start: int, stop: int, buffer: Buffer | None = None) -> Features:
        return self.how.apply(self.whole.read(start, stop), self.whole.declared)

    @property
    def in_flight(self) -> int:
        return self.whole.in_flight

    @property
    def masked(self) -> bool:
        return bool(self.whole.declared)

    def only(self, starts: NDArray[np.int64], stops: NDArray[np.int64]) -> Rows:
        return NormalisedRows(self.whole.only(starts, stops), self.how)

    def cached_bytes(self, starts: NDArray[np.int64]) -> int:
        return self.whole.cached_bytes(starts)

    def smaller_chunks(self, rows: int) -> str:
        return self.whole.smaller_chunks(rows)

    def describe(self) -> dict[str, Any]:
        return {**self.whole.describe(), **self.how.about()}
