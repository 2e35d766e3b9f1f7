"""What the formats need of a model, and the check that a format holds all of it."""

from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.coding import Coding
from dsoftmax.data.counts import Normalisation
from dsoftmax.data.missing import remembered
from dsoftmax.errors import DataError, OptionError

Float = NDArray[np.float64]


class Linear(Protocol):
    """A softmax model with fixed coefficients, as `dsoftmax.Model` is one.

    Attributes
    ----------
    theta : (K, p+1) float64
    classes : (K,) ndarray
    about : dict
    feature_names : (p,) ndarray of str, or None
    coef_ : (1, p) or (K, p) float64
    intercept_ : (1,) or (K,) float64
    """

    @property
    def theta(self) -> Float: ...
    @property
    def classes(self) -> NDArray: ...
    @property
    def about(self) -> dict[str, Any]: ...
    @property
    def feature_names(self) -> NDArray | None: ...
    @property
    def coef_(self) -> Float: ...
    @property
    def intercept_(self) -> Float: ...


def require_plain(model: Linear, target: str, *, counts: Normalisation | None = None) -> None:
    """Check that a model takes its features as they are.

    Parameters
    ----------
    model : Linear
    target : str
        Name of the format, for the message.
    counts : Normalisation, optional
        Normalisation of counts that the format's own program does.

    Raises
    ------
    OptionError
        The model codes, normalises or skips rows, and the format cannot hold that.
    """
    steps = []
    how = Normalisation.of(model.about)
    if how and how != counts:
        total = "" if how.total is None else f"normalises rows of counts to the sum {how.total:g}"
        steps.append(" and ".join(filter(None, [total, "takes log1p" if how.log1p else ""])))
    coding = Coding.from_json(model.about.get("frame"))
    if coding is not None and coding.sparse:
        steps.append("codes columns of categories one-hot")
    nodata = [f"{value:g}" for value in remembered(model.about).X]
    if nodata:
        steps.append(f"skips rows with a value among {', '.join(nodata)}")
    if steps:
        raise OptionError(
            f"The model {' and '.join(steps)}; expected a model of features as they are, because "
            f"{target} cannot hold these steps. Export it as JSON, which states them. Or export "
            "dsoftmax.Model(model.theta, model.classes, feature_names=model.feature_names), and "
            "do these steps before that model is applied."
        )


def plain_labels(classes: NDArray, target: str) -> NDArray:
    """Return the classes as booleans, int64, float64 or text (dtype object).

    Raises
    ------
    DataError
        A label is no text in UTF-8, or is no 64-bit integer.
    """
    kind = classes.dtype.kind
    if kind == "b":
        return classes.astype(bool)
    if kind == "f":
        return classes.astype(np.float64)
    if kind in "iu":
        if int(classes.max()) > np.iinfo(np.int64).max:
            raise DataError(
                f"The label {classes.max()} is larger than a 64-bit integer with a sign; expected "
                f"labels that {target} can hold. Rename the classes."
            )
        return classes.astype(np.int64)
    try:
        texts = [one.decode() if isinstance(one, bytes) else str(one) for one in classes.tolist()]
    except UnicodeDecodeError as error:
        raise DataError(
            f"A label of the model is no text in UTF-8 ({error}); expected text, because "
            f"{target} cannot hold bytes. Rename the classes."
        ) from error
    return np.array(texts, object)
