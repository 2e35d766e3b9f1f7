"""The parameters that all estimators share, and the settings, engines and sources made of them."""

import copy
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import scipy.sparse
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dsoftmax.data.coding import UNKNOWN, Coding
from dsoftmax.data.cubes.flags import class_flags
from dsoftmax.data.cubes.xarrays import as_cube, as_cube_column
from dsoftmax.data.kind import is_cube, is_dask, is_frame, is_lazy
from dsoftmax.data.missing import Missing, given_missing, is_masked
from dsoftmax.data.open import (
    admitted,
    admitted_column,
    coded,
    columns_by_name,
    feature_names,
    newly_coded,
    open_source,
    with_features,
)
from dsoftmax.data.soft import soft_labels
from dsoftmax.data.source import Source
from dsoftmax.data.table import Names, Table
from dsoftmax.engines.base import Engine
from dsoftmax.engines.choose import holds_client, make_engine
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.errors import DataError, OptionError, unknown_option
from dsoftmax.estimators.inputs import label_column, numbers_only
from dsoftmax.estimators.sklearn import Base, validate_data
from dsoftmax.system.units import parse_bytes
from dsoftmax.training.settings import Settings
from dsoftmax.typing import EngineLike

NAMES = Names()


class SoftmaxEstimator(Base):
    """Parameters of an estimator, and what a training run needs of them.

    With scikit-learn this is one of its estimators, so pipelines and searches accept it. Without
    scikit-learn, `dsoftmax.estimators.sklearn` has a small base in its place.
    """

    solver: str
    tol: float
    max_iter: int
    fit_intercept: bool
    class_weight: Mapping[Any, float] | str | None
    classes: ArrayLike | None
    engine: EngineLike
    dtype: DTypeLike | None
    kernel: str
    scale: str | None
    missing_chunks: str
    nodata: float | Sequence[float] | None
    unlabelled: Any
    categorical_features: Any
    handle_unknown: str
    feature_dim: str | Sequence[str] | None
    memory_limit: float | str | None
    spool: str | os.PathLike[str] | None
    spool_limit: float | str | None
    n_features_in_: int
    feature_names_in_: NDArray
    _single: bool
    _coding: Coding | None = None
    _flags: Mapping[str, Any] = MappingProxyType({})

    def __sklearn_tags__(self) -> Any:
        tags = super().__sklearn_tags__()
        tags.input_tags.sparse = True
        return tags

    def __sklearn_clone__(self) -> Any:
        bare = copy.copy(self)
        bare.engine = "auto"  # a connection to a cluster cannot be copied: clones share it
        clone = super(SoftmaxEstimator, bare).__sklearn_clone__()
        clone.engine = self.engine
        return clone

    def __copy__(self) -> Self:
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __getstate__(self) -> Any:
        if holds_client(self.engine):
            raise OptionError(
                f"engine={self.engine!r} is a connection to a cluster, which cannot be pickled. "
                "Call set_params(engine='auto') before, or keep the model alone with "
                "dsoftmax.save_model(estimator.model_, path)."
            )
        return super().__getstate__()

    def _settings(self, **own: Any) -> Settings:
        """Return the settings of a run, after a check of every parameter.

        Parameters
        ----------
        **own
            Fields of `Settings` that only some estimators set.

        Raises
        ------
        OptionError
        """
        settings = Settings(
            solver=self.solver,
            tol=self.tol,
            max_iter=self.max_iter,
            fit_intercept=self.fit_intercept,
            class_weight=self.class_weight,
            classes=None if self.classes is None else np.asarray(self.classes),
            dtype=self.dtype,
            kernel=self.kernel,
            scale=self.scale,
            **own,
        )
        settings.check()
        if self.handle_unknown not in UNKNOWN:
            raise unknown_option("handle_unknown", self.handle_unknown, UNKNOWN)
        self._memory_limit()
        self._spool_to()
        self._missing()
        return settings

    def _missing(self) -> Missing:
        """Return the missing values that the user names."""
        return given_missing(self.nodata, self.unlabelled)

    def _memory_limit(self) -> int | None:
        return None if self.memory_limit is None else parse_bytes(self.memory_limit)

    def _spool_to(self) -> SpoolTo | None:
        if self.spool is None:
            if self.spool_limit is not None:
                raise OptionError(
                    "spool_limit does nothing without spool=DIRECTORY. Give both, or leave it out."
                )
            return None
        if not isinstance(self.spool, (str, os.PathLike)):
            raise OptionError(
                f"spool={self.spool!r} is no path; expected a directory on a local disk. Pass its "
                "path, or None."
            )
        limit = None if self.spool_limit is None else parse_bytes(self.spool_limit, "spool_limit")
        return SpoolTo(str(Path(self.spool).absolute()), limit)

    @contextmanager
    def _open_engine(self) -> Iterator[Engine]:
        """Yield the engine; close it afterwards, unless the user made it."""
        engine = make_engine(self.engine, self._memory_limit(), self._spool_to())
        try:
            yield engine
        finally:
            if engine is not self.engine:
                engine.close()

    def _cube(self, X: Any, *columns: Any, name: str = NAMES.X) -> tuple[Any, ...]:
        """Return a cube of xarray, and labels and weights on its grid; others as they are."""
        if X is None:
            return (X, *columns)
        X = as_cube(X, self.feature_dim, name)
        return (
            (X, *(as_cube_column(one, "y", X) for one in columns)) if is_cube(X) else (X, *columns)
        )

    def _labels(self, y: Any) -> Any:
        if y is None:
            raise DataError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y "
                "is None. Pass the label of every row."
            )
        soft = self._soft_labels(y, NAMES.y)
        return label_column(y, NAMES.y) if soft is None else soft

    def _soft_labels(self, y: Any, name: str) -> Any:
        """Return labels of two dimensions as a column, if ``classes`` make them soft; else None."""
        if self.classes is None:
            return None
        shape = np.asarray(y).shape if getattr(y, "shape", None) is None else y.shape
        if len(shape) != 2 or shape[1] < 2:
            return None
        if self.unlabelled is not None:
            raise OptionError(
                f"unlabelled={self.unlabelled!r} names labels, and {name} has soft ones. Leave it "
                "out, and give rows without a class weight 0."
            )
        return soft_labels(y, np.asarray(self.classes), name)

    def _named(self, X: Any, *columns: Any) -> tuple[Any, ...]:
        """Return X and columns beside it: of a cube of xarray, or of a frame, by their names."""
        X, *others = self._cube(X, *columns)
        X, found = columns_by_name(X, others, NAMES.X)
        return X, *found

    def _learner(self) -> Self:
        """Return a copy for a fit, on which the number and the names of the features are noted.

        They are copied to the estimator after training, so a fit that fails changes nothing.
        """
        return copy.copy(self)

    def _source(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        groups: Any = None,
        names: Names = NAMES,
        reset: bool = False,
    ) -> Source:
        """Return the source of rows and columns.

        Parameters
        ----------
        reset : bool
            Whether to note the number and the names of the features, instead of comparing the
            names with those noted before.
        """
        X = self._features(X, reset, names.X)
        table = Table(X, y, sample_weight, groups, names, self.missing_chunks, self._missing())
        table = table.map_columns(admitted_column, X)
        if scipy.sparse.issparse(X):
            # No dask array can be made of sparse rows. The columns need less memory than X.
            table = table.map_columns(
                lambda values, _: np.asanyarray(values.compute()) if is_dask(values) else values,
                X,
            )
        source = open_source(table)
        if reset:
            coding = self._coding
            self.n_features_in_ = source.n_features if coding is None else len(coding.columns)
            self._single = source.dtype == np.float32
            self._flags = class_flags(y)
        return source

    def _features(self, X: Any, reset: bool, name: str = NAMES.X) -> Any:
        """Return X as array, CSR, or stored or dask array, after a check of the names."""
        if is_frame(X := self._coded(X, reset, name)):
            return X
        X = admitted(X, name)
        if is_masked(X):  # scikit-learn's checks would drop the mask
            return np.ma.MaskedArray(self._features(X.data, reset, name), X.mask, copy=False)
        if is_lazy(X):
            return self._lazy_features(X, reset, name)
        if validate_data is None:
            return X if scipy.sparse.issparse(X) else np.asarray(X)
        # Dimensions, the number of features and finite values are checked when the rows are read:
        # one look at X, and one wording for all kinds of X.
        free = {"ensure_2d": False, "allow_nd": True, "ensure_all_finite": False}
        with numbers_only(X, name):
            return validate_data(self, X, reset=reset, accept_sparse="csr", dtype="numeric", **free)

    def _coded(self, X: Any, reset: bool, name: str) -> Any:
        """Return the features of a frame that is coded here; other arrays as they are.

        The coding is noted, or it is that which was noted before.
        """
        if not reset:
            coding = self._coding
            if coding is not None:
                coding = replace(coding, unknown=self.handle_unknown)
            return coded(X, coding, getattr(self, "feature_names_in_", None), name)
        X, self._coding = newly_coded(X, self.categorical_features, self.handle_unknown, name)
        if self._coding is not None:
            self.feature_names_in_ = np.array(self._coding.names, object)
        return X

    @property
    def _feature_names(self) -> Any:
        """Names of the features of the coefficients, (p,); None if they have none."""
        names = getattr(self, "feature_names_in_", None)
        return names if self._coding is None else np.array(self._coding.features, object)

    def _lazy_features(self, X: Any, reset: bool, name: str) -> Any:
        """Note the names of the features, or return the features whose names were noted before."""
        if not reset:
            return with_features(X, getattr(self, "feature_names_in_", None), name)
        vars(self).pop("feature_names_in_", None)
        names = feature_names(X)
        if names is not None:
            self.feature_names_in_ = names
        return X
