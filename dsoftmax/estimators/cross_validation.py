"""The estimator that chooses C by cross-validation, with all its models in the passes of the slowest."""

import os
import warnings
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dsoftmax.errors import OptionError
from dsoftmax.estimators.base import SoftmaxEstimator
from dsoftmax.estimators.inputs import coefficients
from dsoftmax.estimators.sklearn import ConvergenceWarning
from dsoftmax.training.grid import Grid
from dsoftmax.training.loop import train
from dsoftmax.training.result import Result


class SoftmaxRegressionCV(SoftmaxEstimator):
    """Softmax regression whose C is chosen by cross-validation; all values of C and all folds share every pass over the data.

    A row is in the fold that a hash of its number says, or of its group where `fit` is given groups. Beside the models of the
    folds one for each C learns from all rows, so that the best is at hand when the scores are: nothing is fitted again. The
    whole takes the passes of its slowest model.

    Parameters
    ----------
    Cs : int or (n_Cs,) array-like, default 10
        Values of C; for a number, so many on a logarithmic scale between 1e-4 and 1e4.
    cv : int, default 5
        Folds.
    scoring : {"accuracy", "log_loss"}, default "accuracy"
        By which C is chosen: the largest mean accuracy on what the folds hold out, or the least mean loss.
    solver, tol, max_iter, fit_intercept, class_weight, classes, engine, dtype, kernel, missing_chunks, memory_limit, spool, spool_limit
        As `SoftmaxRegression`.

    Attributes
    ----------
    C_ : float
        The best.
    Cs_ : (n_Cs,) float64
        Ascending.
    scores_ : (n_folds, n_Cs) float64
        Accuracy on what each fold holds out, or the negative of the loss, as ``scoring`` says.
    log_losses_ : (n_folds, n_Cs) float64
    coefs_paths_ : (n_folds, n_Cs, K, p+1) float64
        The coefficients of the folds, the intercepts last; a row less than classes where there are two.
    n_iter_ : (n_folds, n_Cs) int32
    n_passes_ : int
        Of the whole grid.
    coef_, intercept_, classes_, objective_, status_, history_, model_, solver_
        As `SoftmaxRegression`: of the best C, on all rows.

    Notes
    -----
    ``scores_`` and ``coefs_paths_`` are arrays, as scikit-learn's ``LogisticRegressionCV(use_legacy_attributes=False)`` has them, but
    without the axis of ``l1_ratios``.

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
        cv: int = 5,
        scoring: str = "accuracy",
        solver: str = "auto",
        tol: float = 1e-4,
        max_iter: int = 100,
        fit_intercept: bool = True,
        class_weight: Any = None,
        classes: Any = None,
        engine: Any = "auto",
        dtype: Any = None,
        kernel: str = "auto",
        missing_chunks: str = "error",
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
        self.missing_chunks = missing_chunks
        self.memory_limit = memory_limit
        self.spool = spool
        self.spool_limit = spool_limit

    def fit(
        self, X: Any, y: Any, sample_weight: Any = None, groups: Any = None
    ) -> "SoftmaxRegressionCV":
        """Train every C on every fold and on all rows, and keep the model of the best C.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
        y : (n,) array-like, zarr.Array or dask array
        sample_weight : (n,) array-like, zarr.Array or dask array, or number, optional
            Weighs the scores too.
        groups : (n,) array-like, zarr.Array or dask array, optional
            Rows of one group are in the same fold, that of a hash of the group: with few groups folds differ in size, and one
            may be empty, which is an error. Integers, whole floats, booleans or strings.

        Returns
        -------
        SoftmaxRegressionCV
            Itself.

        Raises
        ------
        OptionError, DataError, ReadError, MemoryLimitError, ClusterError
            As `SoftmaxRegression.fit`; and a fold holds no row that has a weight.

        Warns
        -----
        ConvergenceWarning
            A model stopped before the tolerance was met.
        """
        grid, settings = self._grid(), self._settings()
        y = self._labels(y)
        source = self._source(X, y, sample_weight, reset=True, groups=groups)
        with self._open_engine() as engine:
            found = train(source, engine, settings, grid)
        self.n_features_in_ = source.n_features
        self._keep_grid(found, np.dtype(y.dtype))
        if not found.converged:
            endings = [one.ending for one in found.models]
            stopped = [one.sentence for one in endings if not one.converged]
            warnings.warn(
                f"{len(stopped)} of {len(endings)} models stopped before the tolerance was met. One of them: {stopped[0]}",
                ConvergenceWarning,
                stacklevel=2,
            )
        return self

    def _grid(self) -> Grid:
        if isinstance(self.Cs, (int, np.integer)) and not isinstance(self.Cs, bool):
            values = np.logspace(-4, 4, max(int(self.Cs), 0))
        else:
            try:
                values = np.sort(np.asarray(self.Cs, np.float64).reshape(-1))
            except (TypeError, ValueError):
                raise OptionError(
                    f"Cs={self.Cs!r}; needed is a number of values, or the values."
                ) from None
        grid = Grid(values, self.cv, self.scoring)
        grid.check("Cs", "cv")
        return grid

    def _keep_grid(self, found: Result, label_dtype: np.dtype) -> None:
        self._keep(found, label_dtype)
        n_folds, n_Cs = found.scores.shape
        folds = found.models[: n_folds * n_Cs]
        self.C_, self.Cs_ = found.best.C, found.grid.Cs
        self.scores_, self.log_losses_ = found.scores, found.log_loss
        self.coefs_paths_ = np.array(
            [np.column_stack(coefficients(one.model)) for one in folds]
        ).reshape(n_folds, n_Cs, -1, self.n_features_in_ + 1)
        self.n_iter_ = np.array([one.run.state.n_iter for one in folds], np.int32).reshape(
            n_folds, n_Cs
        )
