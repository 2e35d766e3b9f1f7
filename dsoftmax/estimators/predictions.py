"""The predictions and the score of a fitted estimator."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any, Self

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.checks import check_shapes, every_row, real_weights, require_weights
from dsoftmax.data.cubes.xarrays import dims_of, is_cube_like
from dsoftmax.data.kind import expression, is_dask, is_lazy, kind_of
from dsoftmax.data.missing import REASONS, is_masked, named_values
from dsoftmax.data.open import admitted, admitted_column
from dsoftmax.data.soft import is_soft
from dsoftmax.data.table import Table
from dsoftmax.engines.choose import is_cluster
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import DataError
from dsoftmax.estimators.base import NAMES, SoftmaxEstimator
from dsoftmax.estimators.sklearn import NotFittedError
from dsoftmax.exports.sklearn import to_sklearn
from dsoftmax.kernels.tiles import product_dtype
from dsoftmax.results import outputs
from dsoftmax.results.evaluate import accuracy
from dsoftmax.results.metrics import agree, require_weight
from dsoftmax.results.model import Model, as_labels, coefficients, theta_from
from dsoftmax.results.no_data import Skips
from dsoftmax.results.predict import CubeOptions, apply, apply_decision
from dsoftmax.training.result import Result
from dsoftmax.typing import ColumnLike, FeaturesLike, Label, Predictions

Float = NDArray[np.float64]


class SoftmaxPredictor(SoftmaxEstimator):
    """Predictions of an estimator, once its ``fit`` has set a model."""

    model_: Model
    coef_: Any
    intercept_: NDArray
    classes_: NDArray

    def predict(self, X: FeaturesLike, *, nodata: Label | None = None) -> Predictions:
        """Return the most probable class of every row.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
        nodata : label, optional
            Label of rows that are skipped, because the data declare a value as missing, or the
            estimator's ``nodata`` names it. If this label is given, rows with NaN are skipped too.
            When None, it is -1 for signed integers, the largest value of unsigned ones, NaN for
            floats, and the empty string.

        Returns
        -------
        (n,) array in the dtype of ``classes_``
            A lazy dask array with the row chunks of X if X is a dask array, else an ndarray.
            Strings are longer if ``nodata`` is.

        Raises
        ------
        NotFittedError
        DataError
            X has another number of features, is not two-dimensional, or holds NaN or infinity.
            For a dask array, NaN and infinity are found when the result is computed.
        ReadError, MemoryLimitError

        Warns
        -----
        UserWarning
            X is a Zarr array, and ``engine`` is a cluster, also if "auto" has found an active
            dask client. A cluster does not compute predictions.

        Notes
        -----
        A Zarr array is read chunk by chunk on the threads of this process, whatever ``engine`` is.
        To predict on the workers of a cluster, pass ``dask.array.from_zarr(X)``.

        Examples
        --------
        >>> from dsoftmax import SoftmaxRegression
        >>> estimator = SoftmaxRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        >>> estimator.predict([[0.5], [2.5]])
        array([0, 1])
        """
        self._require_fit()
        found = self._apply(partial(apply, outputs.labels), X, nodata)
        if kind_of(found) == "xarray":
            return found
        longer = found.dtype.kind == self.classes_.dtype.kind and found.dtype.kind in "US"
        return found if longer else found.astype(self.classes_.dtype, copy=False)

    def predict_proba(self, X: FeaturesLike) -> Predictions:
        """Return the probabilities of the classes, P = softmax(z).

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array

        Returns
        -------
        (n, K) float32 or float64 array
            Columns in the order of ``classes_``, in the dtype of the products. A lazy dask array
            if X is a dask array. NaN in rows that are skipped: see `fit`.

        Raises
        ------
        NotFittedError, DataError, ReadError, MemoryLimitError
            As `predict`, which also says where Zarr arrays are read.

        Examples
        --------
        >>> from dsoftmax import SoftmaxRegression
        >>> estimator = SoftmaxRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        >>> estimator.predict_proba([[1.5]]).round(3)
        array([[0.5, 0.5]])
        """
        return self._apply(partial(apply, outputs.probabilities), X)

    def predict_log_proba(self, X: FeaturesLike) -> Predictions:
        """Return log P, computed from the logits: finite also if P is 0 in floating point.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array

        Returns
        -------
        (n, K) float32 or float64 array
            As `predict_proba`.

        Raises
        ------
        NotFittedError, DataError, ReadError, MemoryLimitError
            As `predict`, which also says where Zarr arrays are read.

        Examples
        --------
        >>> from dsoftmax import SoftmaxRegression
        >>> estimator = SoftmaxRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        >>> estimator.predict_log_proba([[1.5]]).round(3)
        array([[-0.693, -0.693]])
        """
        return self._apply(partial(apply, outputs.log_probabilities), X)

    def decision_function(self, X: FeaturesLike) -> Predictions:
        """Return the logits z = θᵀx + b.

        For two classes the result is z₁ − z₀, positive if the second class is more probable.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array

        Returns
        -------
        (n,) for two classes, else (n, K); float32 or float64 array
            As `predict_proba`.

        Raises
        ------
        NotFittedError, DataError, ReadError, MemoryLimitError
            As `predict`, which also says where Zarr arrays are read.

        Examples
        --------
        >>> from dsoftmax import SoftmaxRegression
        >>> estimator = SoftmaxRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        >>> abs(estimator.decision_function([[1.5]])).round(3)
        array([0.])
        """
        return self._apply(apply_decision, X)

    def score(
        self, X: FeaturesLike, y: ColumnLike, sample_weight: ColumnLike | None = None
    ) -> float:
        """Return the accuracy: the weighted fraction of rows whose label is predicted.

        A label that the model does not know counts as wrong. If X, y or the weights are lazy, the
        score is one pass of ``engine``, and no array is read as a whole.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
        y : (n,) array-like, zarr.Array or dask array
        sample_weight : (n,) array-like, zarr.Array or dask array, or number, optional
            Weights of the rows, finite and at least 0. A number is the weight of every row; 1 when
            None.

        Returns
        -------
        float

        Raises
        ------
        NotFittedError, DataError, ReadError, MemoryLimitError, ClusterError
            As `predict`.

        Examples
        --------
        >>> from dsoftmax import SoftmaxRegression
        >>> X, y = [[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1]
        >>> SoftmaxRegression().fit(X, y).score(X, y)
        1.0
        """
        self._require_fit()
        X, y, sample_weight = self._named(X, y, sample_weight)
        X, labels = self._coded(X, False, NAMES.X), self._labels(y)
        X = admitted(X, NAMES.X)
        if is_soft(np.dtype(labels.dtype)):
            raise DataError(
                "y has soft labels, and the score is the part of the rows whose class is right; "
                "expected one label for each row. Pass the most probable class, or compute the "
                "log loss from predict_log_proba."
            )
        if sample_weight is not None:
            sample_weight = admitted_column(sample_weight, NAMES.weights)
        given = [values for values in (X, labels, sample_weight) if values is not None]
        if not (self._missing().any or any(is_lazy(one) or is_masked(one) for one in given)):
            return self._score_in_memory(X, labels, sample_weight)
        source = self._source(X, labels, sample_weight)
        with self._open_engine() as engine:
            return accuracy(self._model(), source, engine, self._product_dtype())

    def sparsify(self) -> Self:
        """Convert ``coef_`` to a SciPy CSR array, which is smaller if most coefficients are zero.

        Predictions stay the same. Returns the estimator itself.

        Raises
        ------
        NotFittedError

        Examples
        --------
        >>> from dsoftmax import SoftmaxRegression
        >>> X, y = [[0.0, 1.0], [1.0, 1.0]] * 9, [0, 1] * 9
        >>> estimator = SoftmaxRegression(l1_ratio=1.0).fit(X, y)
        >>> estimator.sparsify().coef_.nnz, estimator.densify().coef_.shape
        (1, (1, 2))
        """
        self._require_fit()
        self.coef_ = scipy.sparse.csr_array(self.coef_)
        return self

    def densify(self) -> Self:
        """Convert ``coef_`` back to an ndarray. Returns the estimator itself.

        Raises
        ------
        NotFittedError
        """
        self._require_fit()
        if scipy.sparse.issparse(self.coef_):
            self.coef_ = self.coef_.toarray()
        return self

    def to_sklearn(self) -> Any:
        """Return a fitted ``sklearn.linear_model.LogisticRegression`` with equal predictions.

        `dsoftmax.from_sklearn` is the way back. ``model_`` has the exports to other formats.

        Returns
        -------
        LogisticRegression
            It has one row of coefficients for two classes. Its probabilities are equal to 1e-12
            for features in float64.

        Raises
        ------
        NotFittedError
        OptionError
            The estimator codes categories or skips rows, or scikit-learn is not installed.

        Examples
        --------
        >>> from dsoftmax import SoftmaxRegression
        >>> estimator = SoftmaxRegression().fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])
        >>> estimator.to_sklearn().predict([[0.5], [2.5]])
        array([0, 1])
        """
        self._require_fit()
        names = getattr(self, "feature_names_in_", None)
        return to_sklearn(self._model(), self.classes_, names)

    def _score_in_memory(self, X: Any, y: NDArray, sample_weight: Any) -> float:
        predicted = np.asarray(self._apply(partial(apply, outputs.labels), X))
        check_shapes(Table((len(predicted), self.n_features_in_), y.shape, names=NAMES))
        hits = agree(predicted, Block(predicted[:, None], y, names=NAMES))
        return float(np.average(hits, weights=_weights_in_memory(sample_weight, len(hits))))

    def _keep(self, result: Result, label_dtype: np.dtype, learner: SoftmaxEstimator) -> None:
        """Set the attributes of a fitted estimator.

        Parameters
        ----------
        result : Result
        label_dtype : numpy dtype
            Dtype of the labels that the user passed.
        learner : SoftmaxEstimator
            The copy that noted the number and the names of the features.
        """
        self._coding = learner._coding
        vars(self).pop("feature_names_in_", None)
        vars(self).update(self._shown(result.model, label_dtype, learner))
        self.n_iter_ = np.array([result.run.state.n_iter], np.int32)
        self.n_passes_ = result.n_passes
        self.solver_ = result.run.solver
        self.objective_ = float(result.run.state.value)
        self.status_ = result.status
        skipped = result.run.statistics.skipped.tolist()
        self.skipped_ = dict(zip(REASONS, skipped, strict=True))
        self.history_ = [record.as_dict() for record in result.history]

    def _shown(
        self, model: Model, label_dtype: np.dtype, learner: SoftmaxEstimator
    ) -> dict[str, Any]:
        """Return the attributes that predictions need; the parameters are those of `_keep`."""
        dtype = np.float32 if learner._single else np.float64
        coef, intercept = (part.astype(dtype) for part in coefficients(model))
        about = {**model.about, **named_values(self._missing()), **learner._flags}
        if self.feature_dim is not None:
            about["feature_dim"] = list(dims_of(self.feature_dim))
        if learner._coding is not None:
            about["frame"] = learner._coding.as_json()
        shown = {
            "model_": replace(model, about=about),
            "coef_": coef,
            "intercept_": intercept,
            "classes_": as_labels(model.classes, label_dtype),
            "n_features_in_": learner.n_features_in_,
        }
        if "feature_names_in_" in vars(learner):
            shown["feature_names_in_"] = learner.feature_names_in_
        return shown

    def _require_fit(self) -> None:
        if not hasattr(self, "model_"):
            raise NotFittedError(
                f"This {type(self).__name__} instance is not fitted yet. Call 'fit' with "
                "appropriate arguments before using this estimator."
            )

    def _model(self) -> Model:
        """Return the model of ``coef_`` and ``intercept_``, which the user may have changed."""
        shown = self.coef_.toarray() if scipy.sparse.issparse(self.coef_) else self.coef_
        coef, intercept = coefficients(self.model_)
        if _is_shown(coef, shown) and _is_shown(intercept, self.intercept_):
            return self.model_
        return replace(self.model_, theta=theta_from(shown, self.intercept_))

    def _product_dtype(self) -> np.dtype | None:
        return None if self.dtype is None else product_dtype(self.dtype)

    def _apply(
        self, compute: Callable[..., Predictions], X: FeaturesLike, nodata: Label | None = None
    ) -> Predictions:
        """Return ``compute`` of the arguments of `dsoftmax.results.predict.apply`."""
        self._require_fit()
        known = getattr(self, "feature_names_in_", None)
        cube = CubeOptions(self.feature_dim, known, self.model_.about, nodata)
        mine = is_cube_like(X, self.feature_dim)
        X = X if mine else self._features(X, reset=False)
        engine = self.engine
        if is_lazy(X) and not is_dask(X) and not mine and is_cluster(engine):
            cure = f" To use the cluster, pass {expression(X, 'X')}."
            cure = "" if kind_of(X) == "stored" else cure
            warnings.warn(
                "X is a stored array, and predictions for it are computed on the threads of this "
                f"process, not on the cluster.{cure}",
                UserWarning,
                stacklevel=3,
            )
        if not isinstance(engine, ThreadsEngine):
            engine = ThreadsEngine(1 if engine == "serial" else None, self._memory_limit())
        return compute(
            self._model(),
            X,
            self._product_dtype(),
            engine,
            self.missing_chunks,
            type(self).__name__,
            Skips(self._missing(), nodata is not None)
            if mine
            else Skips.of(self._missing(), self.classes_, nodata),
            cube,
        )


def _is_shown(values: Float, shown: NDArray) -> bool:
    """Return whether these are the values in the dtype in which they are shown."""
    return np.array_equal(values.astype(shown.dtype), shown)


def _weights_in_memory(weights: Any, n_rows: int) -> Float | None:
    """Return the weights of a score as float64, after the checks of a pass; None if none."""
    if weights is None:
        return None
    found = real_weights(every_row(weights, (n_rows,)), NAMES.weights)
    require_weights(found, NAMES.weights)
    require_weight(float(found.sum()))
    return found
