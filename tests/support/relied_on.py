"""Tests of private APIs: a failure names the library, its version, and the file to mend."""

import inspect
from contextlib import contextmanager
from importlib.metadata import version


@contextmanager
def relied_on(library, function):
    """Turn every error into one that names ``dsoftmax/compat/LIBRARY.py`` and its function."""
    try:
        yield
    except Exception as error:
        raise AssertionError(
            f"{library} {version(library)} no longer does what {function} in "
            f"dsoftmax/compat/{library}.py relies on. Mend that function. {type(error).__name__}: "
            f"{error}"
        ) from error


def parameters(function):
    """The names of the parameters of a function."""
    return list(inspect.signature(function).parameters)
