"""The estimator: softmax regression with scikit-learn's names, shapes and behaviours, on data of any size.

Works with or without scikit-learn. With it, the estimator is one of scikit-learn's own kind (pipelines, grid search, its
warnings); without it, a few lines stand in.
"""

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse

from dsoftmax.data.block import Names
from dsoftmax.data.checks import MISSING_CHUNKS, check_shapes
from dsoftmax.data.open import is_dask, is_lazy, open_source, require_array, require_column
from dsoftmax.data.source import Source
from dsoftmax.engines.base import Engine
from dsoftmax.engines.choose import holds_client, make_engine
from dsoftmax.engines.kept.spool import SpoolTo
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import DataError, OptionError, unknown_option
from dsoftmax.estimators.inputs import NAMES, _column, coefficients
from dsoftmax.estimators.sklearn import Base, NotFittedError, validate_data
from dsoftmax.results import predict as inference
from dsoftmax.results.evaluate import evaluate
from dsoftmax.results.model import Model
from dsoftmax.system.units import parse_bytes
from dsoftmax.training.result import Result
from dsoftmax.training.settings import Settings, product_dtype


class SoftmaxEstimator(Base):
    """What the estimators share: how data, engines and settings are made of their parameters, and what a model predicts."""

    solver: str
    tol: float
    max_iter: int
    fit_intercept: bool
    class_weight: Any
    classes: Any
    engine: Any
    dtype: Any
    kernel: str
    missing_chunks: str
    memory_limit: float | str | None
    spool: str | os.PathLike[str] | None
    spool_limit: float | str | None

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

    def __copy__(self) -> "SoftmaxEstimator":
        copied = object.__new__(type(self))
        copied.__dict__.update(self.__dict__)
        return copied

    def __getstate__(self) -> Any:
        if holds_client(self.engine):
            raise OptionError(
                f"engine={self.engine!r} is a connection to a cluster, which cannot be pickled. Call set_params(engine='auto') before, "
                "or keep the model alone with dsoftmax.save_model(estimator.model_, path)."
            )
        return super().__getstate__()

    def predict(self, X: Any) -> Any:
        """Return the most probable class of every row.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array

        Returns
        -------
        (n,) array in the dtype of ``classes_``
            A lazy dask array with the row chunks of X if X is one, else an ndarray. A Zarr array is read chunk by chunk, on
            the threads of this process.

        Raises
        ------
        NotFittedError
        DataError
            Another number of features, or NaN; for a dask array when it is computed.

        Examples
        --------
        >>> SoftmaxRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]).predict([[0.5], [2.5]])
        array([0, 1])
        """
        return self._apply(inference.labels, X).astype(self.classes_.dtype, copy=False)

    def predict_proba(self, X: Any) -> Any:
        """Return the probabilities of the classes, P = softmax(z).

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array

        Returns
        -------
        (n, K) float32 or float64 array
            Columns in the order of ``classes_``, in the dtype of the products; lazy for a dask array.

        Raises
        ------
        NotFittedError, DataError
            As `predict`.

        Examples
        --------
        >>> SoftmaxRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]).predict_proba([[1.5]]).round(3)
        array([[0.5, 0.5]])
        """
        return self._apply(inference.probabilities, X)

    def predict_log_proba(self, X: Any) -> Any:
        """Return log P, from the logits: where P would be 0 in floating point, log P is still finite.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array

        Returns
        -------
        (n, K) float32 or float64 array
            As `predict_proba`.

        Raises
        ------
        NotFittedError, DataError
            As `predict`.

        Examples
        --------
        >>> SoftmaxRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]).predict_log_proba([[1.5]]).round(3)
        array([[-0.693, -0.693]])
        """
        return self._apply(inference.log_probabilities, X)

    def decision_function(self, X: Any) -> Any:
        """Return the logits z = θᵀx + b; for two classes z₁ − z₀, positive where the second class is more probable.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array

        Returns
        -------
        (n,) for two classes, else (n, K); float32 or float64 array
            As `predict_proba`.

        Raises
        ------
        NotFittedError, DataError
            As `predict`.

        Examples
        --------
        >>> abs(SoftmaxRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]).decision_function([[1.5]])).round(3)
        array([0.])
        """
        logits = self._apply(inference.decision_function, X)
        return logits[:, 1] - logits[:, 0] if len(self.classes_) == 2 else logits

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the accuracy: the share of rows, or of their weight, that are classified rightly.

        Where X or y is lazy this is one pass through the engine, and a label that the model does not know is an error; in
        memory such a label counts as wrong, as scikit-learn has it.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
        y : (n,) array-like, zarr.Array or dask array
        sample_weight : (n,) array-like, zarr.Array or dask array, optional

        Returns
        -------
        float

        Raises
        ------
        NotFittedError, DataError
            As `predict`.

        Examples
        --------
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
        >>> SoftmaxRegression().fit(X, y).score(X, y)
        1.0
        """
        self._require_fit()
        require_column(y, NAMES.y)
        if not any(is_lazy(values) for values in (X, y, sample_weight) if values is not None):
            return float(super().score(X, y, sample_weight))
        source = self._source(X, _column(y, NAMES.y), sample_weight, reset=False)
        with self._open_engine() as engine:
            return evaluate(self._model(), source, engine).accuracy

    def _labels(self, y: Any) -> Any:
        if y is None:
            raise DataError(
                f"This {type(self).__name__} estimator requires y to be passed, but the target y is None. Pass the label of every row."
            )
        return _column(y, NAMES.y)

    def _settings(self, **own: Any) -> Settings:
        """Return the settings of a run, once every parameter makes sense; ``own`` are those that only some estimators have."""
        settings = Settings(
            solver=self.solver,
            tol=self.tol,
            max_iter=self.max_iter,
            fit_intercept=self.fit_intercept,
            class_weight=self.class_weight,
            classes=None if self.classes is None else np.asarray(self.classes),
            dtype=self.dtype,
            kernel=self.kernel,
            **own,
        )
        settings.check()
        if self.missing_chunks not in MISSING_CHUNKS:
            raise unknown_option("missing_chunks", self.missing_chunks, MISSING_CHUNKS)
        self._memory_limit()
        self._spool_to()
        return settings

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
                f"spool={self.spool!r}; needed is the path of a directory on a local disk, or None."
            )
        limit = None if self.spool_limit is None else parse_bytes(self.spool_limit, "spool_limit")
        return SpoolTo(str(Path(self.spool).absolute()), limit)

    @contextmanager
    def _open_engine(self) -> Iterator[Engine]:
        engine = make_engine(self.engine, self._memory_limit(), self._spool_to())
        try:
            yield engine
        finally:
            if engine is not self.engine:  # an engine that was given belongs to its owner
                engine.close()

    def _features(self, X: Any, reset: bool, name: str = NAMES.X) -> Any:
        """Return X as array, CSR, Zarr or dask array, after scikit-learn's checks of what they can see without reading."""
        require_array(X, name)
        if validate_data is None:
            return X if is_lazy(X) or scipy.sparse.issparse(X) else np.asarray(X)
        if is_lazy(X):
            if reset and hasattr(self, "feature_names_in_"):
                del self.feature_names_in_
            return X
        # Dimensions, features and finite values are checked where the rows are read: one look at X, one wording for all kinds.
        free = {"ensure_2d": False, "allow_nd": True, "ensure_all_finite": False}
        return validate_data(self, X, reset=reset, accept_sparse="csr", dtype="numeric", **free)

    def _source(
        self,
        X: Any,
        y: Any,
        sample_weight: Any,
        reset: bool,
        groups: Any = None,
        names: Names = NAMES,
    ) -> Source:
        X = self._features(X, reset, names.X)
        if scipy.sparse.issparse(
            X
        ):  # no dask array can be made of it; the columns take less memory than X does
            y, sample_weight, groups = (
                np.asarray(values) if is_dask(values) else values
                for values in (y, sample_weight, groups)
            )
        return open_source(X, y, sample_weight, names, self.missing_chunks, groups)

    def _keep(self, result: Result, label_dtype: np.dtype) -> None:
        self.model_ = result.model
        self.coef_, self.intercept_ = coefficients(result.model)
        classes = result.model.classes
        keeps_kind = label_dtype.kind in "biuf" or classes.dtype.kind in "US"
        self.classes_ = (
            classes.astype(label_dtype) if keeps_kind and label_dtype.kind in "biufUSO" else classes
        )
        self.n_iter_ = np.array([result.run.state.n_iter], np.int32)
        self.n_passes_ = result.n_passes
        self.solver_ = result.run.solver
        self.objective_ = float(result.run.state.value)
        self.status_ = result.status
        self.history_ = [record.as_dict() for record in result.history]

    def _require_fit(self) -> None:
        if not hasattr(self, "model_"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with appropriate arguments before using "
                "this estimator."
            )

    def _model(self) -> Model:
        """Return the model that ``coef_`` and ``intercept_`` say, also after their owner has changed them."""
        coef, intercept = coefficients(self.model_)
        if np.array_equal(coef, self.coef_) and np.array_equal(intercept, self.intercept_):
            return self.model_
        theta = np.column_stack([self.coef_, self.intercept_]).astype(np.float64)
        return replace(
            self.model_, theta=theta if len(theta) > 1 else np.vstack([-theta / 2, theta / 2])
        )

    def _apply(self, output: inference.Output, X: Any) -> Any:
        self._require_fit()
        X, model = self._features(X, reset=False), self._model()
        if len(X.shape) != 2:
            check_shapes(NAMES, X.shape, None, None)
        if X.shape[1] != model.n_features:
            raise DataError(
                f"X has {X.shape[1]} features, but {type(self).__name__} is expecting {model.n_features} features as input. Pass "
                "the columns it was trained on, in the same order."
            )
        engine = self.engine
        if not isinstance(engine, ThreadsEngine):
            engine = ThreadsEngine(1 if engine == "serial" else None, self._memory_limit())
        return inference.apply(
            output,
            model,
            X,
            None if self.dtype is None else product_dtype(self.dtype),
            engine,
            self.missing_chunks,
        )
