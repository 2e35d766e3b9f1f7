"""Softmax regression with scikit-learn's names, shapes and behaviours."""

import os
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Names
from dsoftmax.data.source import Source
from dsoftmax.errors import DataError, OptionError
from dsoftmax.estimators.base import SoftmaxEstimator
from dsoftmax.estimators.inputs import _column, _given_start
from dsoftmax.estimators.sklearn import ConvergenceWarning
from dsoftmax.results.standard_errors import Uncertainty, uncertainty
from dsoftmax.training.loop import train
from dsoftmax.training.record import Record
from dsoftmax.training.run import Run

Float = NDArray[np.float64]
VALIDATION_NAMES = Names("X_val", "y_val", "sample_weight_val")
FAR = 0.1
"""From so many standard errors to the optimum on, `SoftmaxRegression.uncertainty` warns."""


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
        "auto" chooses by the sizes of the problem (`dsoftmax.solvers.table.choose`); or a name in `dsoftmax.solvers.table.SOLVERS`.
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
            result = train(
                source, engine, settings, validation=validation, theta=start, watchers=watchers
            )
        self.n_features_in_ = source.n_features
        self._keep(result, np.dtype(y.dtype))
        if not result.converged:
            warnings.warn(result.status, ConvergenceWarning, stacklevel=2)
        return self

    def uncertainty(
        self,
        X: Any,
        y: Any,
        sample_weight: Any = None,
        *,
        reference: Any = None,
        level: float = 0.95,
    ) -> Uncertainty:
        """Return standard errors, z, p values and confidence intervals of the coefficients: see `dsoftmax.results.standard_errors`.

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


def _require_classes(classes: NDArray) -> Any:
    """Return a watcher that ends a warm start on other classes, once the first pass has found them."""

    def watch(record: Record, runs: Sequence[Run]) -> None:
        found = runs[0].statistics.classes
        if not np.array_equal(found, classes):
            raise DataError(
                f"The classes are [{' '.join(map(str, found[:12]))}], and the coefficients to start from belong to "
                f"[{' '.join(map(str, classes[:12]))}]; needed are the same. Fit with warm_start=False."
            )

    return watch
