"""A trained model: its coefficients, its classes, and a record of the training."""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from dsoftmax.data.coding import Coding
from dsoftmax.data.counts import Normalisation
from dsoftmax.data.cubes.xarrays import is_cube_like
from dsoftmax.data.missing import remembered
from dsoftmax.data.open import admitted, coded, normalised, with_features
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.exports.methods import Exports
from dsoftmax.first_pass.labels import is_text
from dsoftmax.kernels.tiles import product_dtype
from dsoftmax.results import outputs
from dsoftmax.results.no_data import Skips
from dsoftmax.results.predict import CubeOptions, apply, apply_decision
from dsoftmax.system.units import parse_bytes
from dsoftmax.typing import FeaturesLike, Label, Predictions

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Model(Exports):
    """Softmax regression with fixed coefficients, as `dsoftmax.load_model` returns it.

    A model predicts as the estimators do. A dask array gives a lazy dask array. A Zarr array is
    read chunk by chunk, on the threads of this process.

    Attributes
    ----------
    theta : (K, p+1) float64
        A row per class, the intercept last. Every column sums to zero, except columns of
        coefficients that were trained with an L1 penalty and more than two classes.
    classes : (K,) ndarray
        The labels, ascending.
    about : dict
        Settings and results of the training, in JSON types. Rows with a value in the list "nodata"
        are skipped. If it says ``normalize`` or ``log1p``, the model takes counts, and normalises
        their rows itself.
    feature_names : (p,) ndarray of str, or None
        Names of the features; None if they have none. Columns of AnnData are found by them.
    scaling : (2, p) float64, or None
        Means and standard deviations of the features in the training, if they were standardised.
        ``theta`` takes features as they are stored. The penalty was on coefficients times standard
        deviations.

    Examples
    --------
    >>> import numpy as np
    >>> model = Model(np.array([[-1.0, 0.5], [1.0, -0.5]]), np.array(["no", "yes"]))
    >>> model.predict([[0.0], [2.0]]).tolist()
    ['no', 'yes']
    >>> model.coef_, model.intercept_
    (array([[2.]]), array([-1.]))
    """

    theta: Float
    classes: NDArray
    about: dict[str, Any] = field(default_factory=dict)
    feature_names: NDArray | None = None
    scaling: Float | None = None

    @property
    def n_features(self) -> int:
        """Number of features p."""
        return int(self.theta.shape[1] - 1)

    @property
    def classes_(self) -> NDArray:
        """Labels, (K,), ascending: `classes` by scikit-learn's name."""
        return self.classes

    @property
    def coef_(self) -> Float:
        """Coefficients in scikit-learn's shape: (1, p) for two classes, else (K, p)."""
        return coefficients(self)[0]

    @property
    def intercept_(self) -> Float:
        """Intercepts in scikit-learn's shape: (1,) for two classes, else (K,)."""
        return coefficients(self)[1]

    def predict(
        self,
        X: FeaturesLike,
        *,
        dtype: DTypeLike | None = None,
        memory_limit: float | str | None = None,
        missing_chunks: str = "error",
        nodata: Label | None = None,
    ) -> Predictions:
        """Return the most probable class of every row.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
        dtype : {"float32", "float64"}, optional
            Dtype of the products; float32 if it holds the stored values exactly, when None.
        memory_limit : int or str, optional
            Bytes that this process may use, or a size such as "2GiB".
        missing_chunks : {"error", "fill"}, default "error"
            Meaning of a Zarr chunk that is not in the store: an error, or the fill value.
        nodata : label, optional
            Label of rows that are skipped, because the data declare a value as missing, or the
            training named it. If this label is given, rows with NaN are skipped too. When None, it
            is -1 for signed integers, the largest value of unsigned ones, NaN for floats, and the
            empty string.

        Returns
        -------
        (n,) array in the dtype of ``classes``
            A lazy dask array with the row chunks of X if X is a dask array, else an ndarray.
            Strings are longer if ``nodata`` is.

        Raises
        ------
        OptionError
            ``dtype`` or ``memory_limit`` makes no sense.
        DataError
            X has another number of features, is not two-dimensional, or holds NaN or infinity.
            For a dask array, NaN and infinity are found when the result is computed.
        ReadError, MemoryLimitError
        """
        return self._apply(outputs.labels, X, dtype, memory_limit, missing_chunks, nodata)

    def predict_proba(
        self,
        X: FeaturesLike,
        *,
        dtype: DTypeLike | None = None,
        memory_limit: float | str | None = None,
        missing_chunks: str = "error",
    ) -> Predictions:
        """Return the probabilities of the classes, P = softmax(z).

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
        dtype, memory_limit, missing_chunks
            As `predict`.

        Returns
        -------
        (n, K) float32 or float64 array
            Columns in the order of ``classes``, in the dtype of the products. A lazy dask array
            if X is a dask array. NaN in rows that are skipped.

        Raises
        ------
        OptionError, DataError, ReadError, MemoryLimitError
            As `predict`.
        """
        return self._apply(outputs.probabilities, X, dtype, memory_limit, missing_chunks)

    def predict_log_proba(
        self,
        X: FeaturesLike,
        *,
        dtype: DTypeLike | None = None,
        memory_limit: float | str | None = None,
        missing_chunks: str = "error",
    ) -> Predictions:
        """Return log P, computed from the logits: finite also if P is 0 in floating point.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
        dtype, memory_limit, missing_chunks
            As `predict`.

        Returns
        -------
        (n, K) float32 or float64 array
            As `predict_proba`.

        Raises
        ------
        OptionError, DataError, ReadError, MemoryLimitError
            As `predict`.
        """
        return self._apply(outputs.log_probabilities, X, dtype, memory_limit, missing_chunks)

    def decision_function(
        self,
        X: FeaturesLike,
        *,
        dtype: DTypeLike | None = None,
        memory_limit: float | str | None = None,
        missing_chunks: str = "error",
    ) -> Predictions:
        """Return the logits z = θᵀx + b.

        For two classes the result is z₁ − z₀, positive if the second class is more probable.

        Parameters
        ----------
        X : (n, p) array-like, DataFrame, SciPy sparse, zarr.Array or dask array
        dtype, memory_limit, missing_chunks
            As `predict`.

        Returns
        -------
        (n,) for two classes, else (n, K); float32 or float64 array
            As `predict_proba`.

        Raises
        ------
        OptionError, DataError, ReadError, MemoryLimitError
            As `predict`.
        """
        products, engine = _reading(dtype, memory_limit)
        cube = self._cube(None)
        if is_cube_like(X, cube.feature_dim):
            skips = Skips(remembered(self.about))
            return apply_decision(self, X, products, skips=skips, cube=cube)
        skips = Skips.of(remembered(self.about), self.classes)
        X = self._by_name(X)
        return apply_decision(self, X, products, engine, missing_chunks, skips=skips)

    def _apply(
        self,
        output: outputs.Output,
        X: FeaturesLike,
        dtype: DTypeLike | None,
        memory_limit: float | str | None,
        missing_chunks: str,
        nodata: Label | None = None,
    ) -> Predictions:
        products, engine = _reading(dtype, memory_limit)
        cube = self._cube(nodata)
        if is_cube_like(X, cube.feature_dim):
            skips = Skips(remembered(self.about), nodata is not None)
            return apply(output, self, X, products, skips=skips, cube=cube)
        skips = Skips.of(remembered(self.about), self.classes, nodata)
        X = self._by_name(X)
        return apply(output, self, X, products, engine, missing_chunks, skips=skips)

    def _cube(self, nodata: Label | None) -> CubeOptions:
        """Return how a cube of xarray is read: along the feature dimensions of the training."""
        dims = self.about.get("feature_dim") or None
        return CubeOptions(dims, self.feature_names, self.about, nodata)

    def _by_name(self, X: FeaturesLike) -> Any:
        """Return features of frames and AnnData by their names, and others as they are.

        Counts are normalised as in the training.
        """
        X = coded(X, Coding.from_json(self.about.get("frame")), self.feature_names, "X")
        found = normalised(admitted(X, "X"), Normalisation.of(self.about), "X")
        return with_features(found, self.feature_names, "X")


def _reading(
    dtype: DTypeLike | None, memory_limit: float | str | None
) -> tuple[np.dtype | None, ThreadsEngine]:
    limit = None if memory_limit is None else parse_bytes(memory_limit)
    return None if dtype is None else product_dtype(dtype), ThreadsEngine(memory_limit=limit)


def coefficients(model: outputs.Coefficients) -> tuple[Float, Float]:
    """Return coefficients and intercepts in scikit-learn's shapes.

    Returns
    -------
    coef : (1, p) or (K, p) float64
        One row θ₁ − θ₀ for two classes, else a row per class.
    intercept : (1,) or (K,) float64
    """
    theta = model.theta[1:] - model.theta[:1] if len(model.classes) == 2 else model.theta
    return theta[:, :-1].copy(), theta[:, -1].copy()


def theta_from(coef: ArrayLike, intercept: ArrayLike) -> Float:
    """Return θ, (K, p+1), from coefficients and intercepts in scikit-learn's shapes."""
    theta = np.column_stack([coef, intercept]).astype(np.float64)
    return theta if len(theta) > 1 else np.vstack([-theta / 2, theta / 2])


def centred(theta: Float, keep_zeros: bool = False) -> Float:
    """Return θ minus its mean over the classes.

    The probabilities stay the same, and all solvers return the same representative.

    Parameters
    ----------
    theta : (K, p+1) float64
    keep_zeros : bool
        Whether to centre only the intercepts of more than two classes. An L1 penalty determines
        the coefficients themselves; for two classes it determines only their difference.
    """
    mean = theta.mean(axis=0)
    if keep_zeros and len(theta) > 2:
        mean[:-1] = 0
    return theta - mean


def as_labels(classes: NDArray, dtype: np.dtype) -> NDArray:
    """Return the classes in the dtype of the labels that the user passed, if it holds them.

    Parameters
    ----------
    classes : (K,) ndarray
    dtype : numpy dtype
    """
    if dtype.kind == "O" and is_text(classes):
        return classes.astype(object)
    if dtype.kind in "US" and dtype.kind == classes.dtype.kind:
        return classes.astype(np.promote_types(dtype, classes.dtype))
    if dtype.kind not in "biuf" or classes.dtype.kind not in "biuf":
        return classes
    found = classes.astype(dtype)
    return found if np.array_equal(found, classes) else classes
