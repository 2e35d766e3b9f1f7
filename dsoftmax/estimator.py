"""The estimator: softmax regression with scikit-learn's names, shapes and behaviours, on data of any size.

Works with or without scikit-learn. With it, the estimator is one of scikit-learn's own kind (pipelines, grid search, its
warnings); without it, a few lines stand in.
"""

import copy
import inspect
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax import inference
from dsoftmax.blocks import Names, Source
from dsoftmax.engine import Engine, holds_client, make_engine
from dsoftmax.engine.spool import SpoolTo
from dsoftmax.engine.threads import ThreadsEngine
from dsoftmax.errors import DataError, OptionError, unknown_option
from dsoftmax.model import Model
from dsoftmax.settings import Settings, product_dtype
from dsoftmax.sources import is_dask, is_lazy, open_source, require_array, require_column
from dsoftmax.sources.rows import MISSING_CHUNKS, check_shapes
from dsoftmax.training import Record, Result, Run, train
from dsoftmax.uncertainty import Uncertainty, uncertainty
from dsoftmax.units import parse_bytes

Float = NDArray[np.float64]

NAMES = Names()
VALIDATION_NAMES = Names("X_val", "y_val", "sample_weight_val")
FAR = 0.1
"""From so many standard errors to the optimum on, `SoftmaxRegression.uncertainty` warns."""

if TYPE_CHECKING:
    from dsoftmax.errors import ConvergenceWarning, NotFittedError

    class _Base:
        """What both bases below offer."""

        def __sklearn_tags__(self) -> Any: ...
        def __sklearn_clone__(self) -> Any: ...
        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...

    DataConversionWarning = UserWarning
    validate_data: Any
else:
    try:
        from sklearn.base import BaseEstimator, ClassifierMixin
        from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
        from sklearn.utils.validation import validate_data

        class _Base(ClassifierMixin, BaseEstimator):
            """scikit-learn's own base."""

    except ImportError:
        from dsoftmax.errors import ConvergenceWarning, NotFittedError

        DataConversionWarning, validate_data = UserWarning, None

        class _Base:
            """What pipelines of scikit-learn would ask for, where it is not installed."""

            def get_params(self, deep: bool = True) -> dict[str, Any]:
                """Return the parameters by name."""
                return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters}

            def set_params(self, **params: Any) -> "_Base":
                """Change parameters by name."""
                known = self.get_params()
                for name in params:
                    if name not in known:
                        raise unknown_option("parameter", name, known)
                for name, value in params.items():
                    setattr(self, name, value)
                return self

            def __repr__(self) -> str:
                defaults = inspect.signature(type(self)).parameters
                given = [
                    (name, value) for name, value in self.get_params().items() if repr(value) != repr(defaults[name].default)
                ]
                return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given)})"

            def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
                return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))


__all__ = ["ConvergenceWarning", "NotFittedError", "SoftmaxEstimator", "SoftmaxRegression"]


class SoftmaxEstimator(_Base):
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
            return inference.evaluate(self._model(), source, engine).accuracy

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
                raise OptionError("spool_limit does nothing without spool=DIRECTORY. Give both, or leave it out.")
            return None
        if not isinstance(self.spool, (str, os.PathLike)):
            raise OptionError(f"spool={self.spool!r}; needed is the path of a directory on a local disk, or None.")
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

    def _source(self, X: Any, y: Any, sample_weight: Any, reset: bool, groups: Any = None, names: Names = NAMES) -> Source:
        X = self._features(X, reset, names.X)
        if scipy.sparse.issparse(X):  # no dask array can be made of it; the columns take less memory than X does
            y, sample_weight, groups = (
                np.asarray(values) if is_dask(values) else values for values in (y, sample_weight, groups)
            )
        return open_source(X, y, sample_weight, names, self.missing_chunks, groups)

    def _keep(self, result: Result, label_dtype: np.dtype) -> None:
        self.model_ = result.model
        self.coef_, self.intercept_ = coefficients(result.model)
        classes = result.model.classes
        keeps_kind = label_dtype.kind in "biuf" or classes.dtype.kind in "US"
        self.classes_ = classes.astype(label_dtype) if keeps_kind and label_dtype.kind in "biufUSO" else classes
        self.n_iter_ = np.array([result.run.state.n_iter], np.int32)
        self.n_passes_ = result.run.n_passes
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
        return replace(self.model_, theta=theta if len(theta) > 1 else np.vstack([-theta / 2, theta / 2]))

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
            output, model, X, None if self.dtype is None else product_dtype(self.dtype), engine, self.missing_chunks
        )


class SoftmaxRegression(SoftmaxEstimator):
    r"""Softmax regression (multinomial logistic regression), exact, for data that need not fit in memory.

    Minimises the objective of scikit-learn's ``LogisticRegression``, divided by C·S so that ``tol`` does not depend on the
    number of rows:

    .. math::  F(\theta) = \frac1S \sum_i s_i \, (-\log P_{i y_i})
               + \frac{1}{CS} \sum_k \Bigl(\frac{1-\rho}{2} \|\theta^{(k)}\|^2 + \rho \|\theta^{(k)}\|_1\Bigr)

    with :math:`s_i` = sample weight · class weight of the label, :math:`S = \sum_i s_i`, :math:`\rho` = ``l1_ratio``, and free
    intercepts. Two classes have one row of coefficients :math:`w = \theta^{(1)} - \theta^{(0)}` and the penalty of w, as
    there. The optimum is the same, so that ``coef_`` and ``intercept_`` agree to the tolerance asked for.

    Parameters
    ----------
    C : float, default 1.0
        Inverse strength of the penalty; ``inf`` for none.
    l1_ratio : float, default 0.0
        The L1 part of the penalty: 0 is L2, 1 is L1, between them is the elastic net. Above 0 coefficients can be exactly zero.
    solver : str, default "auto"
        "auto" chooses by the sizes of the problem (`dsoftmax.solvers.choose`); or a name in `dsoftmax.solvers.SOLVERS`.
    tol : float, default 1e-4
        Converged when max|∇F| ≤ tol; with an L1 part, ∇F is the subgradient of least norm.
    max_iter : int, default 100
        Iterations (accepted steps) at most. Each costs a pass over the data, sometimes two.
    fit_intercept : bool, default True
    class_weight : dict, "balanced" or None
        Label to weight; "balanced" weighs inversely to the (weighted) counts.
    classes : (K,) array-like, optional
        Every label there may be; another one in y is an error. Found in the first pass when None.
    warm_start : bool, default False
        Whether ``fit`` starts from the last coefficients.
    engine : {"auto", "serial", "threads", "cluster"}, dask Client, or Engine, default "auto"
        Who visits the chunks. "auto" takes the active dask client if there is one, else this machine's threads.
    dtype : {"float32", "float64"} or None
        Of the products; when None, float32 where it holds the stored values exactly, else float64. Sums are exact either way.
        Where rounding in float32 lets no step decrease F further, training goes on in float64.
    kernel : {"auto", "numpy", "fused"}, default "auto"
        What computes value and gradient: "fused" is compiled with numba (``pip install 'dsoftmax[fast]'``) and is faster; the
        coefficients of the two differ in their last bits. "auto" takes it where numba can be imported.
    validation_fraction : float, optional
        Part of the rows that is held out, by a hash of their numbers; training stops where the loss on them no longer falls, with
        the coefficients that had the least.
    n_iter_no_change : int, default 5
        Iterations without a smaller loss on the held-out rows, or on the validation rows that `fit` was given, after which
        training stops.
    missing_chunks : {"error", "fill"}, default "error"
        For Zarr: what a chunk that is not in the store means.
    memory_limit : int or str, optional
        Bytes this process may use, or such as "2GiB". What it leaves keeps decoded blocks from pass to pass; without it, a
        quarter of the memory that is free does. The workers of a cluster have limits of their own.
    spool : path, optional
        A directory on a local disk, of every worker if there are workers, for decoded blocks that memory does not hold: worth it
        where the data are remote, or compressed hard. It is emptied again.
    spool_limit : int or str, optional
        Bytes that each process may put there, or such as "20GiB"; half of what is free when None.

    Attributes
    ----------
    coef_ : (1, p) or (K, p) float64
        A row for two classes, else a row per class, centred over the classes where the penalty is L2. Predictions follow it
        when it is changed.
    intercept_ : (1,) or (K,) float64
        Zeros without ``fit_intercept``.
    classes_ : (K,) ndarray
        Ascending.
    n_iter_ : (1,) int32
    n_features_in_ : int
    feature_names_in_ : (p,) ndarray of str
        Where X was a DataFrame whose columns have names, and scikit-learn is installed.
    n_passes_ : int
        Visits to all chunks, the first one for statistics included.
    objective_ : float
        F at the end.
    status_ : str
        How training ended, as a sentence.
    history_ : list of dict
        A line a pass: pass, iteration, objective, gradient_max, gap (an estimate of F − F*), held_loss, seconds, rows, bytes.
    solver_ : str
        What "auto" became.
    model_ : dsoftmax.Model
        What `dsoftmax.save_model` writes.

    Notes
    -----
    X may be an array-like, a pandas DataFrame, SciPy sparse, a ``zarr.Array`` or a dask array; y and weights any of these
    that have one dimension. Integers and float16 stay as they are stored; nothing lazy is read as a whole.

    Examples
    --------
    >>> import numpy as np
    >>> from dsoftmax import SoftmaxRegression
    >>> X = np.array([[0.0, 1.0], [1.0, 0.0], [2.0, 2.0], [0.0, 2.0], [2.0, 0.0], [3.0, 3.0]])
    >>> y = np.array(["a", "b", "c", "a", "b", "c"])
    >>> estimator = SoftmaxRegression(C=10.0).fit(X, y)
    >>> estimator.predict([[0.0, 3.0], [4.0, 4.0]]).tolist()
    ['a', 'c']
    >>> estimator.coef_.shape
    (3, 2)
    """

    def __init__(
        self,
        *,
        C: float = 1.0,
        l1_ratio: float = 0.0,
        solver: str = "auto",
        tol: float = 1e-4,
        max_iter: int = 100,
        fit_intercept: bool = True,
        class_weight: Any = None,
        classes: Any = None,
        warm_start: bool = False,
        engine: Any = "auto",
        dtype: Any = None,
        kernel: str = "auto",
        validation_fraction: float | None = None,
        n_iter_no_change: int = 5,
        missing_chunks: str = "error",
        memory_limit: float | str | None = None,
        spool: str | os.PathLike[str] | None = None,
        spool_limit: float | str | None = None,
    ) -> None:
        self.C = C
        self.l1_ratio = l1_ratio
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.classes = classes
        self.warm_start = warm_start
        self.engine = engine
        self.dtype = dtype
        self.kernel = kernel
        self.validation_fraction = validation_fraction
        self.n_iter_no_change = n_iter_no_change
        self.missing_chunks = missing_chunks
        self.memory_limit = memory_limit
        self.spool = spool
        self.spool_limit = spool_limit

    def fit(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        X_val: Any = None,
        y_val: Any = None,
        sample_weight_val: Any = None,
        coef_init: Any = None,
        intercept_init: Any = None,
    ) -> "SoftmaxRegression":
        """Train to the tolerance, or for ``max_iter`` iterations.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
            Real numbers of any dtype.
        y : (n,) array-like, zarr.Array or dask array
            Integers, whole floats, booleans or strings.
        sample_weight : (n,) array-like, zarr.Array or dask array, or number, optional
            Finite, at least 0; a number is the weight of every row, 1 when None.
        X_val, y_val, sample_weight_val
            Rows that are not learnt from: training stops where the loss on them no longer falls, as with ``validation_fraction``.
            Every pass reads them too.
        coef_init : (1, p) or (K, p) array-like, optional
            Where to start, in the shape of ``coef_`` and the order of the ascending classes; log priors when None.
        intercept_init : (1,) or (K,) array-like, optional
            Beside ``coef_init``; zeros when None.

        Returns
        -------
        SoftmaxRegression
            Itself.

        Raises
        ------
        OptionError
            A parameter that makes no sense; before anything is read.
        DataError
            NaN, one class only, negative weights, shapes that do not fit; also with ``warm_start`` where classes or features
            are not those of the last fit.
        ReadError, MemoryLimitError, ClusterError

        Warns
        -----
        ConvergenceWarning
            Stopped before the tolerance was met.

        Examples
        --------
        >>> estimator = SoftmaxRegression(tol=1e-8, engine="serial").fit([[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1])
        >>> estimator.coef_.round(3), estimator.classes_
        (array([[0.453]]), array([0, 1]))
        """
        settings = self._settings(
            C=self.C,
            l1_ratio=self.l1_ratio,
            validation_fraction=self.validation_fraction,
            n_iter_no_change=self.n_iter_no_change,
        )
        y = self._labels(y)
        source = self._source(X, y, sample_weight, reset=True)
        validation = self._validation(source, X_val, y_val, sample_weight_val)
        start, watchers = _given_start(coef_init, intercept_init, source), []
        if start is None and (start := self._warm_start(source)) is not None:
            watchers = [_require_classes(self.model_.classes)]
        with self._open_engine() as engine:
            result = train(source, engine, settings, validation=validation, theta=start, watchers=watchers)
        self.n_features_in_ = source.n_features
        self._keep(result, np.dtype(y.dtype))
        if not result.converged:
            warnings.warn(result.status, ConvergenceWarning, stacklevel=2)
        return self

    def uncertainty(
        self, X: Any, y: Any, sample_weight: Any = None, *, reference: Any = None, level: float = 0.95
    ) -> Uncertainty:
        """Return standard errors, z, p values and confidence intervals of the coefficients: see `dsoftmax.uncertainty`.

        One pass over the rows that it was trained on, for the Hessian at the optimum.

        Parameters
        ----------
        X, y, sample_weight
            As they were given to `fit`. Weights count as repetitions of rows.
        reference : label, optional
            The class that the others are compared with. When None, the estimates have the shapes of ``coef_`` and ``intercept_``:
            rows less their mean, and for two classes the second less the first.
        level : float, default 0.95
            Of the confidence intervals.

        Returns
        -------
        Uncertainty
            Its ``summary()`` is a table.

        Raises
        ------
        NotFittedError
        OptionError
            With ``class_weight``, which makes the information another one than the likelihood's; or a reference that is no class.
        DataError
            Features depend on each other, or without a penalty the classes can be told apart without error.
        MemoryLimitError
            The Hessian, (K·(p+1))² entries, does not fit.

        Warns
        -----
        ConvergenceWarning
            The coefficients are more than a tenth of a standard error from the optimum of these rows.

        Examples
        --------
        >>> X, y = [[0.0], [1.0], [2.0], [3.0], [1.5]], [0, 1, 0, 1, 1]
        >>> estimator = SoftmaxRegression(C=np.inf, tol=1e-10, engine="serial").fit(X, y)
        >>> estimator.uncertainty(X, y).coef.standard_error.round(2)
        array([[1.13]])
        """
        self._require_fit()
        if self.class_weight is not None:
            raise OptionError(
                "Standard errors need the likelihood's own information, and class_weight changes it. Fit with class_weight=None."
            )
        source = self._source(X, self._labels(y), sample_weight, reset=False)
        with self._open_engine() as engine:
            found = uncertainty(
                self._model(),
                source,
                engine,
                C=self.C,
                fit_intercept=bool(self.fit_intercept),
                reference=reference,
                level=level,
            )
        if found.distance > FAR:
            warnings.warn(
                f"The coefficients are {found.distance:.2g} standard errors from the optimum of these rows. Fit with a smaller tol, "
                "and pass the rows of the fit.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return found

    def _validation(self, source: Source, X: Any, y: Any, sample_weight: Any) -> Source | None:
        """Return the rows that say when to stop; None where none were given."""
        if X is None or y is None:
            if not (X is None and y is None and sample_weight is None):
                raise OptionError(
                    "X_val and y_val belong together, and sample_weight_val to them. Give both, or leave all out."
                )
            return None
        self.n_features_in_ = source.n_features
        y = _column(y, VALIDATION_NAMES.y)
        return self._source(X, y, sample_weight, reset=False, names=VALIDATION_NAMES)

    def _warm_start(self, source: Source) -> Float | None:
        """Return where to start: the last coefficients with ``warm_start``, None for the beginning."""
        if not self.warm_start or not hasattr(self, "model_"):
            return None
        theta = self._model().theta.copy()
        if source.n_features != theta.shape[1] - 1:
            raise DataError(
                f"X has {source.n_features} features, and the coefficients to start from have {theta.shape[1] - 1}; needed is the "
                "same number. Fit with warm_start=False, or on the columns of the last fit."
            )
        if not self.fit_intercept:
            theta[:, -1] = 0
        return theta


def _given_start(coef: Any, intercept: Any, source: Source) -> Float | None:
    """Return θ from coefficients in scikit-learn's shapes; None where none were given.

    Raises
    ------
    DataError
        Shapes that do not fit each other or the features, or values that are not finite.
    """
    if coef is None:
        if intercept is not None:
            raise OptionError("intercept_init does nothing without coef_init. Give both, or leave it out.")
        return None
    W = np.atleast_2d(np.asarray(coef, np.float64))
    b = np.zeros(len(W)) if intercept is None else np.asarray(intercept, np.float64).reshape(-1)
    if W.ndim != 2 or W.shape[1] != source.n_features or b.shape != (len(W),):
        raise DataError(
            f"coef_init has shape {W.shape} and intercept_init {b.shape}; needed are (K, {source.n_features}) and (K,), with "
            "one row for two classes."
        )
    if not (np.isfinite(W).all() and np.isfinite(b).all()):
        raise DataError("coef_init or intercept_init holds NaN or infinity; needed are finite numbers to start from.")
    theta = np.column_stack([W, b])
    return theta if len(theta) > 1 else np.vstack([-theta / 2, theta / 2])


def coefficients(model: Model) -> tuple[Float, Float]:
    """Return θ in scikit-learn's shapes: one row θ₁ − θ₀ for two classes, else a row per class."""
    theta = model.theta[1:] - model.theta[:1] if len(model.classes) == 2 else model.theta
    return theta[:, :-1].copy(), theta[:, -1].copy()


def _column(y: Any, name: str) -> Any:
    """Return labels as array; a column becomes one dimension, with scikit-learn's warning."""
    require_column(y, name)
    y = y if is_lazy(y) else np.asarray(y)
    if len(y.shape) != 2 or y.shape[1] != 1 or (is_lazy(y) and not is_dask(y)):
        return y
    warnings.warn(
        "A column-vector y was passed when a 1d array was expected. Please change the shape of y to (n_samples, ), for example "
        "using ravel().",
        DataConversionWarning,
        stacklevel=4,
    )
    return y[:, 0]


def _require_classes(classes: NDArray) -> Any:
    """Return a watcher that ends a warm start on other classes, once the first pass has found them."""

    def watch(record: Record, run: Run) -> None:
        found = run.statistics.classes
        if not np.array_equal(found, classes):
            raise DataError(
                f"The classes are [{' '.join(map(str, found[:12]))}], and the coefficients to start from belong to "
                f"[{' '.join(map(str, classes[:12]))}]; needed are the same. Fit with warm_start=False."
            )

    return watch
