"""The estimator that chooses C by cross-validation: all its models share the passes."""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Self

import numpy as np
from numpy.typing import ArrayLike, DTypeLike

from dsoftmax.data.open import admitted
from dsoftmax.data.table import Names
from dsoftmax.errors import OptionError, unknown_option
from dsoftmax.estimators.base import SoftmaxEstimator
from dsoftmax.estimators.many import (
    label_columns,
    require_one_meaning,
    trained_together,
    unfitted,
)
from dsoftmax.estimators.predictions import SoftmaxPredictor
from dsoftmax.estimators.sklearn import ConvergenceWarning
from dsoftmax.estimators.splits import folds_of, is_splitter
from dsoftmax.results.model import coefficients
from dsoftmax.training.grid import Grid
from dsoftmax.training.loop import train
from dsoftmax.training.result import Result
from dsoftmax.typing import ColumnLike, EngineLike, FeaturesLike

SCORINGS = {"accuracy": "accuracy", "neg_log_loss": "log_loss", "log_loss": "log_loss"}
"""Names of ``scoring``, each with its name in `dsoftmax.training.grid.Grid`."""


class SoftmaxRegressionCV(SoftmaxPredictor):
    """Softmax regression whose C is chosen by cross-validation.

    All values of C and all folds share every pass over the data. A hash of its row number puts a
    row into a fold, or a hash of its group if `fit` is given groups. A splitter or a column may
    choose the folds instead. One more model for each C is
    trained on all rows at the same time, so the best model needs no second training. The number of
    passes is that of the slowest model.

    Parameters
    ----------
    Cs : int or (n_Cs,) array-like, default 10
        Values of C. An integer gives that many values from 1e-4 to 1e4, on a logarithmic scale.
    cv : int, splitter or iterable, default 5
        Number of folds, by a hash of the rows. Or an object with scikit-learn's ``split``, such as
        ``StratifiedKFold(5)``, or pairs of training and test rows. Test sets must be disjoint, and
        labels in memory.
    scoring : {"accuracy", "neg_log_loss"} or callable, default "accuracy"
        Score that chooses C: the largest mean over the folds wins. "log_loss" means
        "neg_log_loss". A function of the labels y (rows,), the probabilities P (rows, K) and the
        weights (rows,) returns the sum of score times weight over rows. It is called with some
        held-out rows at a time, in one more pass.
    solver, tol, max_iter, fit_intercept, class_weight, classes
        As `SoftmaxRegression`.
    categorical_features, handle_unknown
        As `SoftmaxRegression`.
    engine, dtype, kernel, missing_chunks, nodata, unlabelled, memory_limit, spool, spool_limit
        As `SoftmaxRegression`. For "auto" in ``kernel``, the values of X count once per model.
    scale : {"standard"} or None, default None
        As `SoftmaxRegression`. The means and deviations of each model are those of its rows.
    feature_dim
        As `SoftmaxRegression`.

    Attributes
    ----------
    C_ : float
        Value of C with the best mean score; the smallest of several.
    Cs_ : (n_Cs,) float64
        Values of C, ascending.
    scores_ : (n_folds, n_Cs) float64
        Scores on the rows of each fold, by models that were trained without these rows.
    log_losses_ : (n_folds, n_Cs) float64
        Mean log losses on the rows of each fold, in nats.
    coefs_paths_ : (n_folds, n_Cs, K, p+1) float64
        Coefficients of the folds, the intercepts last. For two classes, one row instead of K.
    n_iter_ : (n_folds, n_Cs) int32
        Iterations of each model of a fold.
    n_passes_ : int
        Number of passes of the whole grid, including the first one for statistics.
    coef_, intercept_, classes_, objective_, status_, history_, model_, solver_
        As `SoftmaxRegression`, for the best C, trained on all rows.
    n_features_in_, feature_names_in_, skipped_
        As `SoftmaxRegression`.

    Notes
    -----
    ``scores_`` and ``coefs_paths_`` are arrays. They have the axes of scikit-learn's
    ``LogisticRegressionCV(use_legacy_attributes=False)``, without the axis of ``l1_ratios``.

    Examples
    --------
    >>> import numpy as np
    >>> from dsoftmax import SoftmaxRegressionCV
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> y = (X[:, 0] + rng.normal(size=200) > 0).astype(int)
    >>> estimator = SoftmaxRegressionCV(Cs=[0.01, 1.0], cv=3, engine="serial").fit(X, y)
    >>> estimator.scores_.shape, estimator.coefs_paths_.shape
    ((3, 2), (3, 2, 1, 4))
    """

    def __init__(
        self,
        *,
        Cs: int | ArrayLike = 10,
        cv: Any = 5,
        scoring: str | Callable[..., Any] = "accuracy",
        solver: str = "auto",
        tol: float = 1e-4,
        max_iter: int = 100,
        fit_intercept: bool = True,
        class_weight: Mapping[Any, float] | str | None = None,
        classes: ArrayLike | None = None,
        engine: EngineLike = "auto",
        dtype: DTypeLike | None = None,
        kernel: str = "auto",
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
        self.Cs = Cs
        self.cv = cv
        self.scoring = scoring
        self.solver = solver
        self.tol = tol
        self.max_iter = max_iter
        self.fit_intercept = fit_intercept
        self.class_weight = class_weight
        self.classes = classes
        self.engine = engine
        self.dtype = dtype
        self.kernel = kernel
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
        groups: ColumnLike | None = None,
        folds: ColumnLike | None = None,
    ) -> Self:
        """Train every C on every fold and on all rows, and keep the model of the best C.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
            Real numbers of any dtype.
        y : (n,) array-like, zarr.Array or dask array
            Integers, whole floats, booleans or strings. (n, K) with ``classes``: soft labels.
        sample_weight : (n,) array-like, zarr.Array or dask array, or number, optional
            Weights of the rows, in the training and in the scores. Finite, at least 0.
        groups : (n,) array-like, zarr.Array or dask array, optional
            Groups of the rows: integers, whole floats, booleans or strings. All rows of a group
            are in one fold, chosen by a hash of the group. With few groups the folds differ in
            size, and an empty fold is an error. A splitter gets them as they are.
        folds : (n,) array-like, zarr.Array or dask array, optional
            Number of the fold that holds out each row, from 0 to ``cv`` - 1; -1 for rows that all
            models train on. So stratified folds of data out of core are a stored column.

        Returns
        -------
        SoftmaxRegressionCV
            The estimator itself.

        Raises
        ------
        OptionError, DataError, ReadError, MemoryLimitError, ClusterError
            As `SoftmaxRegression.fit`. Also if a fold holds no row with a positive weight.

        Warns
        -----
        ConvergenceWarning
            A model stopped before the tolerance was met.
        """
        grid, settings = self._grid(), self._settings()
        X, y, sample_weight, groups, folds = self._named(X, y, sample_weight, groups, folds)
        labels, learner = self._labels(y), self._learner()
        if folds is not None or is_splitter(self.cv):
            grid, groups = self._given(grid, X, labels, groups, folds)
        columns = Names() if folds is None else Names(groups="folds")
        source = learner._source(X, labels, sample_weight, groups, columns, reset=True)
        with self._open_engine() as engine:
            found = train(source, engine, settings, grid, names=learner._feature_names)
        self._keep_grid(found, np.dtype(labels.dtype), learner)
        if not found.converged:
            endings = [one.ending for one in found.models]
            stopped = [one.sentence for one in endings if not one.converged]
            warnings.warn(
                f"{len(stopped)} of {len(endings)} models stopped before the tolerance was "
                f"met. One of them: {stopped[0]}",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def fit_many(
        self,
        X: FeaturesLike,
        labels: Mapping[str, ColumnLike],
        sample_weight: ColumnLike | None = None,
        groups: ColumnLike | None = None,
    ) -> dict[str, Self]:
        """Choose C and train for each of several label columns, in shared passes over X.

        Parameters
        ----------
        X, sample_weight, groups
            As in `fit`.
        labels : dict from str to (n,) array-like, zarr.Array or dask array
            Label columns by name. Every row has a label in each column.

        Returns
        -------
        dict from str to SoftmaxRegressionCV
            New estimators, each with the bits of its own `fit`, by the names of the columns.

        Raises
        ------
        OptionError, DataError, ReadError, MemoryLimitError, ClusterError
            As `SoftmaxRegression.fit_many`. Also if ``cv`` is a splitter, which may choose other
            folds for each column.

        Warns
        -----
        ConvergenceWarning
            A model stopped before the tolerance was met.
        """
        require_one_meaning(self)
        if is_splitter(self.cv):
            raise OptionError(
                f"cv={self.cv!r} may choose other folds for each label column; expected the number "
                "of folds. Pass a number, or fit the columns alone."
            )
        grid, settings = self._grid(), self._settings()
        X, columns, others = label_columns(self, X, labels, sample_weight, groups)
        sample_weight, groups = others
        results, learner = trained_together(self, settings, X, columns, sample_weight, grid, groups)
        found = {}
        for name, result in results.items():
            found[name] = unfitted(self)
            found[name]._keep_grid(result, np.dtype(columns[name].dtype), learner)
            if not result.converged:
                warnings.warn(
                    f"{name}: some models stopped before the tolerance was met. The best one: "
                    f"{result.status}",
                    ConvergenceWarning,
                    stacklevel=2,
                )
        return found

    def _grid(self) -> Grid:
        if isinstance(self.Cs, (int, np.integer)) and not isinstance(self.Cs, bool):
            values = np.logspace(-4, 4, max(int(self.Cs), 0))
        else:
            try:
                values = np.sort(np.asarray(self.Cs, np.float64).reshape(-1))
            except (TypeError, ValueError):
                raise OptionError(
                    f"Cs={self.Cs!r} is no list of numbers; expected a number of values, or the "
                    "values. Pass 10 or [0.1, 1.0]."
                ) from None
        scoring: Any = self.scoring
        if hasattr(scoring, "_score_func"):
            raise OptionError(
                f"scoring={scoring!r} is a scorer of scikit-learn, which predicts all rows again; "
                "expected a name, or a function of (y, P, weights) that adds over rows. Pass for "
                "example 'neg_log_loss', or use sklearn.model_selection.GridSearchCV."
            )
        if not callable(scoring):
            if not isinstance(scoring, str) or scoring not in SCORINGS:
                raise unknown_option("scoring", scoring, SCORINGS)
            scoring = SCORINGS[scoring]
        grid = Grid(values, 2 if is_splitter(self.cv) else self.cv, scoring)
        grid.check("Cs", "cv")
        return grid

    def _given(self, grid: Grid, X: Any, y: Any, groups: Any, folds: Any) -> tuple[Grid, Any]:
        """Return the grid of given folds, and the column that names the fold of each row."""
        if folds is None:
            X, groups = admitted(X, "X"), None if groups is None else admitted(groups, "groups")
            n_folds, folds = folds_of(self.cv, X, y, groups)
            grid = replace(grid, n_folds=n_folds, given=True)
            grid.check("Cs", "the number of splits of cv")
            return grid, folds
        if groups is not None or is_splitter(self.cv):
            other = "groups" if groups is not None else f"cv={self.cv!r}"
            raise OptionError(
                f"folds and {other} both choose the fold of each row. Pass only one of them; with "
                "folds, cv is their number."
            )
        return replace(grid, given=True), folds

    def _keep_grid(self, found: Result, label_dtype: np.dtype, learner: SoftmaxEstimator) -> None:
        self._keep(found, label_dtype, learner)
        n_folds, n_Cs = found.scores.shape
        folds = found.models[: n_folds * n_Cs]
        self.C_, self.Cs_ = found.best.C, found.grid.Cs
        self.scores_, self.log_losses_ = found.scores, found.log_loss
        self.coefs_paths_ = np.array(
            [np.column_stack(coefficients(one.model)) for one in folds]
        ).reshape(n_folds, n_Cs, -1, self.coef_.shape[1] + 1)
        self.n_iter_ = np.array([one.run.state.n_iter for one in folds], np.int32).reshape(
            n_folds, n_Cs
        )
