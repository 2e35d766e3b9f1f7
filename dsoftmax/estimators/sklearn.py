"""What scikit-learn gives the estimators, and a few lines that stand in where it is not installed."""

import inspect
from typing import TYPE_CHECKING, Any

import numpy as np

from dsoftmax.errors import unknown_option

if TYPE_CHECKING:
    from dsoftmax.errors import ConvergenceWarning, NotFittedError

    class Base:
        """What both bases below offer."""

        def __sklearn_tags__(self) -> Any: ...
        def __sklearn_clone__(self) -> Any: ...
        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...

    DataConversionWarning = UserWarning
    validate_data: Any
else:
    try:
        from sklearn.base import BaseEstimator, ClassifierMixin
        from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
        from sklearn.utils.validation import validate_data

        class Base(ClassifierMixin, BaseEstimator):
            """scikit-learn's own base."""

    except ImportError:
        from dsoftmax.errors import ConvergenceWarning, NotFittedError

        DataConversionWarning, validate_data = UserWarning, None

        class Base:
            """What pipelines of scikit-learn would ask for, where it is not installed."""

            def get_params(self, deep: bool = True) -> dict[str, Any]:
                """Return the parameters by name."""
                return {
                    name: getattr(self, name) for name in inspect.signature(type(self)).parameters
                }

            def set_params(self, **params: Any) -> "Base":
                """Change parameters by name."""
                known = self.get_params()
                for name in params:
                    if name not in known:
                        raise unknown_option("parameter", name, known)
                for name, value in params.items():
                    setattr(self, name, value)
                return self

            def __repr__(self) -> str:
                defaults = inspect.signature(type(self)).parameters
                given = [
                    (name, value)
                    for name, value in self.get_params().items()
                    if repr(value) != repr(defaults[name].default)
                ]
                return f"{type(self).__name__}({', '.join(f'{name}={value!r}' for name, value in given)})"

            def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
                return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))


__all__ = ["Base", "ConvergenceWarning", "DataConversionWarning", "NotFittedError", "validate_data"]
