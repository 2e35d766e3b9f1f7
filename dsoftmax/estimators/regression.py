"""Softmax regression with scikit-learn's names, shapes and behaviours."""

import os
import warnings
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dsoftmax.data.soft import is_soft
from dsoftmax.data.source import Source
from dsoftmax.data.table import Names
from dsoftmax.errors import DataError, OptionError
from dsoftmax.estimators.callbacks import telling_callbacks
from dsoftmax.estimators.inputs import given_start, label_column
from dsoftmax.estimators.many import label_columns, require_one_meaning, trained_together, unfitted
from dsoftmax.estimators.predictions import SoftmaxPredictor
from dsoftmax.estimators.sklearn import CallbackSupportMixin, ConvergenceWarning
from dsoftmax.results.standard_errors import uncertainty
from dsoftmax.results.uncertainty import Uncertainty
from dsoftmax.training.loop import Watcher, train
from dsoftmax.training.record import Record
from dsoftmax.training.run import Run
from dsoftmax.training.settings import Settings
from dsoftmax.typing import ColumnLike, EngineLike, FeaturesLike, Label

Float = NDArray[np.float64]
VALIDATION_NAMES = Names("X_val", "y_val", "sample_weight_val")
FAR = 0.1
"""Distance to the optimum above which `SoftmaxRegression.uncertainty` warns, in standard errors."""


class SoftmaxRegression(CallbackSupportMixin, SoftmaxPredictor):
    r"""Exact softmax regression (multinomial logistic regression) for data larger than memory.

    The objective is that of scikit-learn's ``LogisticRegression``, divided by C·S. Thus ``tol``
    does not depend on the number of rows:

    .. math::  F(\theta) = \frac1S \sum_i s_i \, (-\log P_{i y_i})
               + \frac{1}{CS} \sum_k \Bigl(\frac{1-\rho}{2} \|\theta^{(k)}\|^2
               + \rho \|\theta^{(k)}\|_1\Bigr)

    Here :math:`s_i` is sample weight · class weight of the label, :math:`S = \sum_i s_i`, and
    :math:`\rho` = ``l1_ratio``. Intercepts have no penalty. As in scikit-learn, two classes have
    one row of coefficients :math:`w = \theta^{(1)} - \theta^{(0)}`, and the penalty is that of w.
    The optimum is the same, so ``coef_`` and ``intercept_`` agree to the tolerance.

    Parameters
    ----------
    C : float, default 1.0
        Inverse strength of the penalty; ``inf`` for none.
    l1_ratio : float, default 0.0
        L1 part ρ of the penalty: 0 is L2, 1 is L1, values between are the elastic net. Above 0,
        coefficients can be exactly zero.
    solver : str, default "auto"
        A name in `dsoftmax.solvers.table.SOLVERS`. "auto" chooses by the sizes of the problem.
    tol : float, default 1e-4
        Training has converged when max|∇F| ≤ tol. With an L1 part, ∇F is the subgradient of least
        norm.
    max_iter : int, default 100
        Maximum number of iterations (accepted steps). An iteration needs one pass over the data,
        sometimes two.
    fit_intercept : bool, default True
        Whether the model has intercepts; they are 0 otherwise.
    class_weight : dict, "balanced" or None, default None
        Weight of each label. "balanced" weights classes inversely to their (weighted) counts.
    classes : (K,) array-like, optional
        All labels that may occur; any other label in y is an error. Found in the first pass when
        None. For soft labels, the class of each column of y.
    warm_start : bool, default False
        Whether ``fit`` starts from the coefficients of the last fit.
    engine : {"auto", "serial", "threads", "cluster"}, dask Client, or Engine, default "auto"
        Engine that visits the chunks in training and `score`. "auto" is the active dask client if
        there is one, else the threads of this process.
    dtype : {"float32", "float64"}, optional
        Dtype of the products. When None, it is float32 if float32 holds the stored values
        exactly, else float64. Sums are exact in both. If rounding in float32 stops the decrease of
        F, training continues in float64.
    kernel : {"auto", "numpy", "fused"}, default "auto"
        Implementation that computes value and gradient. "fused" is compiled by numba
        (``pip install 'dsoftmax[fast]'``) and is faster. The two differ in the last bits of the
        coefficients. "auto" is "fused" under three conditions: numba can be imported, X has at
        least 2²⁸ stored values, and no process has a memory limit below 512 MiB. Otherwise it is
        "numpy", because the first fit on a machine compiles for about 13 s.
    validation_fraction : float, optional
        Fraction of the rows in a validation set, chosen by a hash of the row numbers. Training
        stops when the loss on the validation set no longer falls, and returns the coefficients of
        least loss.
    n_iter_no_change : int, default 5
        Number of iterations without a smaller loss on the validation set after which training
        stops.
    scale : {"standard"} or None, default None
        Whether the features are standardised: "standard" subtracts the mean of each feature, and
        divides by its standard deviation, as scikit-learn's ``StandardScaler`` does. Means and
        deviations are weighted by ``sample_weight``. The penalty is then on the coefficients of
        standardised features. The result is one model of the features as they are. Sparse data
        stay sparse.
    missing_chunks : {"error", "fill"}, default "error"
        Meaning of a Zarr chunk that is not in the store: an error, or the fill value.
    nodata : number or sequence of numbers, optional
        Values of features that mean "no data", in stored units; ``nan`` may be one of them. Rows
        with such a value are skipped, here and in predictions. See Notes.
    unlabelled : label or sequence of labels, optional
        Labels that mean "no class". Rows with such a label are skipped. ``nan`` stands for every
        missing label: NaN, None and ``pandas.NA``.
    categorical_features : "from_dtype", list of str or dict, optional
        Columns of a frame that are coded one-hot. "from_dtype" takes those of strings and of
        categories. A dict from names gives the categories of each column, or None to find them.
        Categories that are not given are found before training. When None, every column is a
        number.
    handle_unknown : {"error", "ignore"}, default "error"
        Meaning of a category that the training did not have: an error, or 0 in all its features.
    feature_dim : str or sequence of str, optional
        Dimensions of an xarray.DataArray or Dataset whose entries are features, such as "band".
        All others are rows. A Dataset needs none if each of its variables is a feature. See the
        page on cubes.
    memory_limit : int or str, optional
        Bytes that this process may use, or a size such as "2GiB". Memory within the limit that
        training does not need caches decoded blocks between passes. Without a limit, a quarter of
        the free memory does. The workers of a cluster have their own limits.
    spool : path, optional
        Directory on a local disk, of every worker if there are workers. It holds decoded blocks
        that do not fit in memory, and is emptied at the end. It pays off if the data are remote
        or strongly compressed.
    spool_limit : int or str, optional
        Bytes that each process may write to ``spool``, or a size such as "20GiB". Half of the free
        disk space when None.

    Attributes
    ----------
    coef_ : (1, p) or (K, p) float32 or float64
        Coefficients: one row for two classes, else one per class. With an L2 penalty the K rows
        are centred over the classes. They are float32 if X is, as in scikit-learn; ``model_`` and
        predictions keep float64. Predictions follow ``coef_`` if you change it. `sparsify` and
        `densify` change its form.
    intercept_ : (1,) or (K,) float32 or float64
        Intercepts; zeros without ``fit_intercept``.
    classes_ : (K,) ndarray
        Labels, ascending.
    n_iter_ : (1,) int32
        Number of iterations.
    n_features_in_ : int
        Number of features p, or of columns if X was a coded frame. Like every attribute, it is set
        only after training has succeeded.
    feature_names_in_ : ndarray of str
        Names of the columns, if X was a coded frame, or a DataFrame with named columns and
        scikit-learn is installed. Names of the genes, if X was a matrix of AnnData. The features of
        a coded frame are named by ``model_.feature_names``.
    n_passes_ : int
        Number of passes over the data, including the first one for statistics.
    objective_ : float
        F at the end.
    status_ : str
        Sentence that says how training ended.
    history_ : list of dict
        One entry per pass: pass, iteration, objective, gradient_max, gap (an estimate of F − F*),
        held_loss, seconds, rows, bytes.
    solver_ : str
        Name of the solver that "auto" chose.
    skipped_ : dict
        Number of rows that did not count, by reason: "nodata" (a feature is missing),
        "unlabelled", "unweighted" and "ungrouped".
    model_ : dsoftmax.Model
        Model for `dsoftmax.save_model`.

    Notes
    -----
    X may be an array-like, a pandas DataFrame, SciPy sparse, a ``zarr.Array``, an
    ``h5py.Dataset`` or a dask array. It may be a group of Zarr or HDF5 in which AnnData stores a
    CSR matrix. Labels and weights may be any of these with one dimension, or groups in which
    AnnData stores a column. X may be a frame with columns by name: `dsoftmax.parquet`, a polars
    LazyFrame, a dask DataFrame, or a DataFrame or Arrow table in memory. The names of columns may
    then stand for labels and weights, as in ``fit(frame, "y")``. Integers and float16 are not
    converted as a whole, and no stored or lazy array is read as a whole.

    Rows whose data declare a missing value are skipped in `fit`, `score` and `uncertainty`: masked
    entries of NumPy and dask arrays, and the ``_FillValue`` of Zarr arrays. ``nodata`` and
    ``unlabelled`` name further values. One line is logged that counts the skipped rows. A NaN that
    nobody has declared is an error.

    Callbacks of scikit-learn 1.9 or later (``set_callbacks``) are told of every iteration. If one
    of them returns True, training ends there. `sklearn.callback.ScoringMonitor` reads X once more
    in every iteration.

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
        class_weight: Mapping[Any, float] | str | None = None,
        classes: ArrayLike | None = None,
        warm_start: bool = False,
        engine: EngineLike = "auto",
        dtype: DTypeLike | None = None,
        kernel: str = "auto",
        validation_fraction: float | None = None,
        n_iter_no_change: int = 5,
        scale: str | None = None,
        missing_chunks: str = "error",
        nodata: float | Sequence[float] | None = None,
        unlabelled: Any = None,
        categorical_features: Any = None,
        handle_unknown: str = "error",
        feature_dim: str | Sequence[str] | None = None,
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
        self.scale = scale
        self.missing_chunks = missing_chunks
        self.nodata = nodata
        self.unlabelled = unlabelled
        self.categorical_features = categorical_features
        self.handle_unknown = handle_unknown
        self.feature_dim = feature_dim
        self.memory_limit = memory_limit
        self.spool = spool
        self.spool_limit = spool_limit

    def fit(
        self,
        X: FeaturesLike,
        y: ColumnLike,
        sample_weight: ColumnLike | None = None,
        *,
        X_val: FeaturesLike | None = None,
        y_val: ColumnLike | None = None,
        sample_weight_val: ColumnLike | None = None,
        coef_init: ArrayLike | None = None,
        intercept_init: ArrayLike | None = None,
    ) -> Self:
        """Train until the tolerance is met, or for ``max_iter`` iterations.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
            Real numbers of any dtype.
        y : (n,) array-like, zarr.Array or dask array
            Integers, whole floats, booleans or strings. (n, K) with ``classes``: soft labels, the
            probability of each class, also SciPy sparse. Every row adds up to 1.
        sample_weight : (n,) array-like, zarr.Array or dask array, or number, optional
            Weights of the rows, finite and at least 0. A number is the weight of every row; 1 when
            None.
        X_val, y_val, sample_weight_val
            Rows of a validation set, of the same kinds as X, y and sample_weight. Training stops
            when the loss on them no longer falls, as with ``validation_fraction``. Every pass
            reads them too.
        coef_init : (1, p) or (K, p) array-like, optional
            Coefficients to start from, in the shape of ``coef_`` and the order of the ascending
            classes. Training starts from the log priors when None.
        intercept_init : (1,) or (K,) array-like, optional
            Intercepts to start from, together with ``coef_init``; zeros when None.

        Returns
        -------
        SoftmaxRegression
            The estimator itself.

        Raises
        ------
        OptionError
            A parameter makes no sense. This is found before anything is read.
        DataError
            NaN, a single class, negative weights, or shapes that do not fit each other. With
            ``warm_start``, also classes or features that differ from those of the last fit.
        ReadError, MemoryLimitError, ClusterError

        Warns
        -----
        ConvergenceWarning
            Training stopped before the tolerance was met.

        Examples
        --------
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1]
        >>> estimator = SoftmaxRegression(tol=1e-8, engine="serial").fit(X, y)
        >>> estimator.coef_.round(3), estimator.classes_
        (array([[0.453]]), array([0, 1]))
        """
        settings = self._training_settings()
        X, y, sample_weight = self._named(X, y, sample_weight)
        labels, learner = self._labels(y), self._learner()
        source = learner._source(X, labels, sample_weight, reset=True)
        validation = learner._validation(X_val, y_val, sample_weight_val)
        start: Float | None = given_start(coef_init, intercept_init, source)
        watchers: list[Watcher] = []
        if start is None and (start := self._warm_start(source)) is not None:
            watchers = [_require_classes(self.model_.classes)]
        shown = partial(self._shown, label_dtype=np.dtype(labels.dtype), learner=learner)
        with self._open_engine() as engine:
            training = partial(
                train,
                source,
                engine,
                settings,
                validation=validation,
                theta=start,
                names=learner._feature_names,
            )
            result = telling_callbacks(self, (X, y, sample_weight), shown, training, watchers)
        self._keep(result, np.dtype(labels.dtype), learner)
        if not result.converged:
            warnings.warn(result.status, ConvergenceWarning, stacklevel=2)
        return self

    def fit_many(
        self,
        X: FeaturesLike,
        labels: Mapping[str, ColumnLike],
        sample_weight: ColumnLike | None = None,
    ) -> dict[str, Self]:
        """Train one model for each of several label columns, in shared passes over X.

        Every pass reads and decodes X once for all models that have not ended. So the number of
        passes is that of the slowest model. Each model has the bits of its own `fit`.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
            As in `fit`.
        labels : dict from str to (n,) array-like, zarr.Array or dask array
            Label columns by name, each as y in `fit`. Every row has a label in each column.
        sample_weight : (n,) array-like, zarr.Array or dask array, or number, optional
            As in `fit`.

        Returns
        -------
        dict from str to SoftmaxRegression
            New estimators with the parameters of this one, by the names of the columns. This one
            does not change.

        Raises
        ------
        OptionError
            As `fit`, and if ``classes``, ``unlabelled`` or ``class_weight`` names labels, or
            ``warm_start`` is set.
        DataError, ReadError, MemoryLimitError, ClusterError
            As `fit`, and if a label is missing.

        Warns
        -----
        ConvergenceWarning
            Training of a model stopped before the tolerance was met.

        Examples
        --------
        >>> X, leaf, bark = [[0.0], [1.0], [2.0], [3.0]], [0, 1, 0, 1], ["a", "a", "b", "b"]
        >>> models = SoftmaxRegression().fit_many(X, {"leaf": leaf, "bark": bark})
        >>> models["bark"].predict([[0.0], [3.0]]).tolist()
        ['a', 'b']
        """
        require_one_meaning(self)
        settings = self._training_settings()
        X, columns, (sample_weight,) = label_columns(self, X, labels, sample_weight)
        results, learner = trained_together(self, settings, X, columns, sample_weight)
        found = {}
        for name, result in results.items():
            found[name] = unfitted(self)
            found[name]._keep(result, np.dtype(columns[name].dtype), learner)
            if not result.converged:
                warnings.warn(f"{name}: {result.status}", ConvergenceWarning, stacklevel=2)
        return found

    def _training_settings(self) -> Settings:
        """Return the settings of a fit."""
        return self._settings(
            C=self.C,
            l1_ratio=self.l1_ratio,
            validation_fraction=self.validation_fraction,
            n_iter_no_change=self.n_iter_no_change,
        )

    def uncertainty(
        self,
        X: FeaturesLike,
        y: ColumnLike,
        sample_weight: ColumnLike | None = None,
        *,
        reference: Label | None = None,
        level: float = 0.95,
    ) -> Uncertainty:
        """Return standard errors, z, p values and confidence intervals of the coefficients.

        One pass over the rows of the training computes the Hessian at the optimum. The formulas
        are in `dsoftmax.results.standard_errors`.

        Parameters
        ----------
        X, y, sample_weight
            Rows of the training, as given to `fit`. Weights count as repetitions of rows.
        reference : label, optional
            Class with which the others are compared. When None, the estimates have the shapes of
            ``coef_`` and ``intercept_``: rows minus their mean, or for two classes the second
            minus the first.
        level : float, default 0.95
            Level of the confidence intervals.

        Returns
        -------
        Uncertainty
            Estimates with their uncertainty. The method ``summary()`` returns a table.

        Raises
        ------
        NotFittedError
        OptionError
            ``class_weight`` is set, which makes the information differ from the likelihood's. Or
            ``l1_ratio`` is above 0, so that coefficients were chosen by the same rows. Or the
            reference is no class.
        DataError
            Features depend on each other, or the classes are separable and there is no penalty.
        MemoryLimitError
            The Hessian, (K·(p+1))² entries, does not fit.

        Warns
        -----
        ConvergenceWarning
            The coefficients are over a tenth of a standard error from the optimum of these rows.

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
                "class_weight is set, which makes the information differ from the likelihood's; "
                "expected class_weight=None. Fit without class weights for standard errors."
            )
        if self.l1_ratio > 0:
            raise OptionError(
                f"l1_ratio is {self.l1_ratio:g}, and an L1 part has chosen which coefficients are "
                "zero; expected l1_ratio=0. Standard errors after such a choice would not be those "
                "of the estimates. Fit without an L1 part for standard errors, on other rows if "
                "the same features were chosen on these."
            )
        X, y, sample_weight = self._named(X, y, sample_weight)
        labels = self._labels(y)
        if is_soft(np.dtype(labels.dtype)):
            raise OptionError(
                "y has soft labels, and standard errors are those of observed classes. Pass one "
                "label for each row."
            )
        source = self._source(X, labels, sample_weight)
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
                f"The coefficients are {found.distance:.2g} standard errors from the optimum of "
                "these rows. Fit with a smaller tol, and pass the rows of the fit.",
                ConvergenceWarning,
                stacklevel=2,
            )
        return found

    def _validation(self, X: Any, y: Any, sample_weight: Any) -> Source | None:
        """Return the source of the validation set; None if none was given."""
        if X is None or y is None:
            if not (X is None and y is None and sample_weight is None):
                raise OptionError(
                    "X_val and y_val belong together, and sample_weight_val to them. Give both, or "
                    "leave all out."
                )
            return None
        X, y, sample_weight = self._named(X, y, sample_weight)
        soft = self._soft_labels(y, VALIDATION_NAMES.y)
        y = label_column(y, VALIDATION_NAMES.y) if soft is None else soft
        return self._source(X, y, sample_weight, names=VALIDATION_NAMES)

    def _warm_start(self, source: Source) -> Float | None:
        """Return the last coefficients if ``warm_start`` is set and there are any, else None."""
        if not self.warm_start or not hasattr(self, "model_"):
            return None
        theta = self._model().theta.copy()
        if source.n_features != theta.shape[1] - 1:
            raise DataError(
                f"X has {source.n_features} features, and the coefficients to start from have "
                f"{theta.shape[1] - 1}; expected the same number. Fit with warm_start=False, or on "
                "the columns of the last fit."
            )
        if not self.fit_intercept:
            theta[:, -1] = 0
        return theta


def _require_classes(classes: NDArray) -> Watcher:
    """Return a watcher that raises if the first pass has found other classes."""

    def watch(record: Record, runs: Sequence[Run]) -> None:
        found = runs[0].statistics.classes
        if not np.array_equal(found, classes):
            raise DataError(
                f"The classes are [{' '.join(map(str, found[:12]))}], and the coefficients to "
                f"start from belong to [{' '.join(map(str, classes[:12]))}]; expected the same "
                "classes. Fit with warm_start=False."
            )

    return watch
