"""A trained model: the coefficients, the classes, and where they came from; saved as a Zarr group without pickle."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax import softmax
from dsoftmax.errors import DataError, OutputExistsError, ReadError
from dsoftmax.files import replacing_directory, writing
from dsoftmax.softmax import Features

Float = NDArray[np.float64]

FORMAT = 1
ROUNDED = 1e-4
"""Of a logit, what rounding may change it by before products are in float64: a probability changes by a quarter of it at most."""
SLAB_ROWS = 4096
METADATA_BYTES = 4096
"""About what the names and shapes of a few arrays take."""


@dataclass(frozen=True)
class Model:
    """Softmax regression with fixed coefficients.

    Attributes
    ----------
    theta : (K, p+1) float64
        A row per class, the intercept last; every column sums to zero, but for coefficients that an L1 penalty has placed.
    classes : (K,) ndarray
    about : dict
        What was asked and found, in JSON types.
    """

    theta: Float
    classes: NDArray
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def n_features(self) -> int:
        return int(self.theta.shape[1] - 1)

    def decision_function(self, X: Features, dtype: np.dtype | None = None) -> NDArray:
        """Return the logits, (rows, K).

        Raises
        ------
        DataError
            X has another number of features.

        Notes
        -----
        Where float32 would round the logits by more than about `ROUNDED`, as with features that lie far from 0, the products are in
        float64, `SLAB_ROWS` rows at a time.
        """
        if X.shape[1] != self.n_features:
            raise DataError(
                f"X has {X.shape[1]} features, but the model is expecting {self.n_features} features as input. "
                "Pass the columns it was trained on, in the same order."
            )
        products = np.dtype(dtype or softmax.compute_dtype(X.dtype))
        if products == np.float64 or not self._rounds(X, products):
            return softmax.decision_function(self.theta, X, products)
        out = np.empty((X.shape[0], len(self.theta)), products)
        for start in range(0, X.shape[0], SLAB_ROWS):
            some = softmax.rows_between(X, start, min(start + SLAB_ROWS, X.shape[0]))
            out[start : start + SLAB_ROWS] = softmax.decision_function(self.theta, some, np.dtype(np.float64))
        return out

    def _rounds(self, X: Features, dtype: np.dtype) -> bool:
        """Return whether products of this dtype round logits visibly: terms are added with errors of about their size."""
        if X.shape[0] == 0:
            return False
        W = np.abs(self.theta[:, :-1])
        if scipy.sparse.issparse(X):
            size = float(np.abs(X.data).max(initial=0)) * float(np.sqrt(np.square(W).sum(axis=1)).max())
        else:
            reach = np.maximum(np.abs(X.max(axis=0).astype(np.float64)), np.abs(X.min(axis=0).astype(np.float64)))
            size = float(np.sqrt(np.square(W * reach).sum(axis=1)).max())
        return bool(size * np.finfo(dtype).eps > ROUNDED)

    def predict(self, X: Features, dtype: np.dtype | None = None) -> NDArray:
        """Return the most probable class of each row, (rows,), in the dtype of ``classes``."""
        best: NDArray = self.classes[self.decision_function(X, dtype).argmax(axis=1)]
        return best

    def predict_proba(self, X: Features, dtype: np.dtype | None = None) -> NDArray:
        """Return the probabilities, (rows, K)."""
        return softmax.softmax(self.decision_function(X, dtype))


def centred(theta: Float, keep_zeros: bool = False) -> Float:
    """Return θ minus its mean over the classes: the same probabilities, and one representative for all solvers.

    Parameters
    ----------
    theta : (K, p+1) float64
    keep_zeros : bool
        Of more than two classes centre the intercepts alone: where the penalty is L1, it says where coefficients lie. Of two
        classes only the difference counts.
    """
    mean = theta.mean(axis=0)
    if keep_zeros and len(theta) > 2:
        mean[:-1] = 0
    return theta - mean


def save_model(model: Model, path: Path | str, overwrite: bool = False) -> None:
    """Write a model as a Zarr group: it appears whole or not at all.

    Raises
    ------
    OutputExistsError
        Something stands at ``path``, and ``overwrite`` is false.
    WriteError
    """
    import zarr

    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputExistsError(f"{path} exists and would be overwritten. Pass overwrite=True (--overwrite), or another path.")
    about = json.loads(json.dumps(model.about))
    n_bytes = model.theta.nbytes + METADATA_BYTES
    with replacing_directory(path, n_bytes) as draft, writing(path, n_bytes):
        group = zarr.create_group(
            draft,
            zarr_format=3,
            attributes={
                "dsoftmax_model": FORMAT,
                "classes": _as_json(model.classes),
                "classes_dtype": model.classes.dtype.str,
                "about": about,
            },
        )
        for name, values in (("coef", model.theta[:, :-1]), ("intercept", model.theta[:, -1])):
            data = np.ascontiguousarray(values)
            group.create_array(
                name, data=data, chunks=values.shape, compressors=None, fill_value=np.nan
            )  # a lost chunk is seen


def _as_json(classes: NDArray) -> list[Any]:
    return [label.decode("latin-1") for label in classes.tolist()] if classes.dtype.kind == "S" else classes.tolist()


def _from_json(classes: Any, dtype: np.dtype) -> NDArray:
    return np.array([label.encode("latin-1") for label in classes] if dtype.kind == "S" else classes, dtype=dtype)


def load_model(path: Path | str) -> Model:
    """Read a model that `save_model` wrote.

    Raises
    ------
    ReadError
        There is no model at ``path``, or it is damaged.
    """
    import zarr

    try:
        group = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
        coef, intercept = np.asarray(group["coef"][:]), np.asarray(group["intercept"][:])  # type: ignore[index]
        classes = _from_json(attributes["classes"], np.dtype(str(attributes["classes_dtype"])))
        theta = np.hstack([coef, intercept[:, None]]).astype(np.float64)
        if theta.shape[0] != len(classes):
            raise ValueError(f"{len(classes)} classes, but {theta.shape[0]} rows of coefficients")
        if not np.isfinite(theta).all():
            raise ValueError("coefficients are missing or not finite")
    except Exception as error:
        raise ReadError(
            f"{path} does not hold a model ({type(error).__name__}: {error}). Needed is the model.zarr of a run that has ended; "
            "run `dsoftmax train` again with the same options to end it."
        ) from error
    about = attributes.get("about")
    return Model(theta, classes, about if isinstance(about, dict) else {})
