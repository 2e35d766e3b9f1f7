"""Exact softmax regression (multinomial logistic regression) for data larger than memory."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

__all__ = [
    "ConvergenceWarning",
    "Model",
    "SoftmaxRegression",
    "SoftmaxRegressionCV",
    "__version__",
    "from_sklearn",
    "load_model",
    "parquet",
    "save_model",
]

if TYPE_CHECKING:
    from dsoftmax.data.frames.parquet import parquet
    from dsoftmax.estimators.cross_validation import SoftmaxRegressionCV
    from dsoftmax.estimators.regression import SoftmaxRegression
    from dsoftmax.estimators.sklearn import ConvergenceWarning
    from dsoftmax.results.imported import from_sklearn
    from dsoftmax.results.model import Model
    from dsoftmax.results.stored_model import load_model, save_model

_HOMES = {
    "ConvergenceWarning": "dsoftmax.estimators.sklearn",
    "SoftmaxRegression": "dsoftmax.estimators.regression",
    "SoftmaxRegressionCV": "dsoftmax.estimators.cross_validation",
    "Model": "dsoftmax.results.model",
    "from_sklearn": "dsoftmax.results.imported",
    "load_model": "dsoftmax.results.stored_model",
    "parquet": "dsoftmax.data.frames.parquet",
    "save_model": "dsoftmax.results.stored_model",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``import dsoftmax`` stays fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dsoftmax' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    """List the public names, so that tab completion finds them before they are imported."""
    return sorted(__all__)
