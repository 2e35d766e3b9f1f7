"""Exact softmax regression (multinomial logistic regression) for data that does not fit in memory."""

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0.dev0"

__all__ = ["ConvergenceWarning", "Model", "SoftmaxRegression", "SoftmaxRegressionCV", "__version__", "load_model", "save_model"]

if TYPE_CHECKING:
    from dsoftmax.estimator import ConvergenceWarning, SoftmaxRegression
    from dsoftmax.estimator_cv import SoftmaxRegressionCV
    from dsoftmax.model import Model, load_model, save_model

_HOMES = {
    "ConvergenceWarning": "dsoftmax.estimator",
    "SoftmaxRegression": "dsoftmax.estimator",
    "SoftmaxRegressionCV": "dsoftmax.estimator_cv",
    "Model": "dsoftmax.model",
    "load_model": "dsoftmax.model",
    "save_model": "dsoftmax.model",
}


def __getattr__(name: str) -> Any:
    """Import a public name where it is first used, so that ``import dsoftmax`` stays fast."""
    if name not in _HOMES:
        raise AttributeError(f"module 'dsoftmax' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(_HOMES[name]), name)
