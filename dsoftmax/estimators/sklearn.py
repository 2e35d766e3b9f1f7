"""The parts of scikit-learn that the estimators use, and stand-ins if it is not installed."""

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from dsoftmax.errors import unknown_option

Method = TypeVar("Method", bound=Callable[..., Any])

if TYPE_CHECKING:
    from dsoftmax.errors import ConvergenceWarning, NotFittedError

    class Base:
        """The methods that both bases below have."""

        def __sklearn_tags__(self) -> Any: ...
        def __sklearn_clone__(self) -> Any: ...
        def score(self, X: Any, y: Any, sample_weight: Any = None) -> float: ...

    DataConversionWarning = UserWarning
    validate_data: Any

    class CallbackSupportMixin:
        """The methods that scikit-learn 1.9 adds."""

        def _init_callback_context(self, task_name: str = ..., **options: Any) -> Any: ...

    def with_callbacks(method: Method) -> Method: ...
else:
    try:
        from sklearn.base import BaseEstimator, ClassifierMixin
        from sklearn.exceptions import ConvergenceWarning, DataConversionWarning, NotFittedError
        from sklearn.utils.validation import validate_data

        class Base(ClassifierMixin, BaseEstimator):
            """scikit-learn's own base of a classifier."""

    except ImportError:
        from dsoftmax.errors import ConvergenceWarning, NotFittedError

        DataConversionWarning, validate_data = UserWarning, None

        class Base:
            """The methods of scikit-learn's base that users call, without scikit-learn."""

            def get_params(self, deep: bool = True) -> dict[str, Any]:
                """Return the parameters by name."""
                return {
                    name: getattr(self, name) for name in inspect.signature(type(self)).parameters
                }

            def set_params(self, **params: Any) -> "Base":
                """Change parameters by name.

                Raises
                ------
                OptionError
                    A name is no parameter; none is changed then.
                """
                known = self.get_params()
                for name in params:
                    if name not in known:
                        raise unknown_option("parameter", name, known)
                for name, value in params.items():
                    setattr(self, name, value)
                return self

            def __repr__(self) -> str:
                defaults = inspect.signature(type(self)).parameters
                given = ", ".join(
                    f"{name}={value!r}"
                    for name, value in self.get_params().items()
                    if repr(value) != repr(defaults[name].default)
                )
                return f"{type(self).__name__}({given})"

            def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
                """Return the weighted fraction of rows whose label is predicted."""
                return float(np.average(self.predict(X) == np.asarray(y), weights=sample_weight))

    try:
        from sklearn.callback import CallbackSupportMixin, with_callbacks
    except ImportError:  # before scikit-learn 1.9

        class CallbackSupportMixin:
            """Nothing: no callback can be set."""

        def with_callbacks(method):
            """Return the method itself."""
            return method


__all__ = [
    "Base",
    "CallbackSupportMixin",
    "ConvergenceWarning",
    "DataConversionWarning",
    "NotFittedError",
    "validate_data",
    "with_callbacks",
]
