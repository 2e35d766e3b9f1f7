"""The exceptions and the warning that dsoftmax raises on purpose.

::

    DsoftmaxError
    ├── DataError          (ValueError)       NaN, an unknown label, lengths that differ
    ├── OptionError        (ValueError)       an option that does not exist or makes no sense here
    ├── ReadError          (OSError)          a chunk is missing, truncated or cannot be decoded
    │   └── AccessError                   remote storage forbids a read, or does not answer
    ├── WriteError         (OSError)          a file cannot be written: disk full, quota, limit
    ├── MemoryLimitError   (MemoryError)      the plan does not fit in the memory limit
    ├── OutputExistsError  (FileExistsError)  something exists at the path of the output
    ├── RunMismatchError   (ValueError)       a run directory of other data or another objective
    ├── ClusterError       (RuntimeError)     no scheduler, no workers, or too many failures
    └── NotFittedError     (ValueError)       predict before fit, without scikit-learn

    ConvergenceWarning     (UserWarning)      training stopped before the tolerance was met

Every message says what was found, what was expected, and what to do. Every exception is built from
one string, so that it survives pickling on its way from a worker.
"""

from collections.abc import Iterable
from difflib import get_close_matches

_CONTROLS = [*range(0x20), *range(0x7F, 0xA0), *range(0x202A, 0x202F), *range(0x2066, 0x206A)]
_ESCAPED = {code: ascii(chr(code))[1:-1] for code in _CONTROLS if chr(code) not in "\n\t"}


def visible(text: str) -> str:
    """Return a text with its control characters escaped, except line feeds and tabs.

    Labels and names come from the data, and a terminal obeys escape sequences. Characters that
    reverse the direction of writing are escaped too.
    """
    return text.translate(_ESCAPED)


class DsoftmaxError(Exception):
    """Base class of all errors that dsoftmax raises on purpose."""

    def __str__(self) -> str:
        return visible(super().__str__())

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        # The pickling that distributed installs cannot rebuild a subclass of MemoryError.
        return type(self), self.args


class DataError(DsoftmaxError, ValueError):
    """The data are not valid for the request: NaN, an unknown label, or lengths that differ."""


class OptionError(DsoftmaxError, ValueError):
    """An option does not exist or makes no sense here."""


class ReadError(DsoftmaxError, OSError):
    """A stored chunk is missing, truncated or cannot be decoded."""


class AccessError(ReadError):
    """Remote storage forbids a read, does not answer, or does not exist."""


class WriteError(DsoftmaxError, OSError):
    """A file could not be written; the file that it should replace is unchanged."""


class MemoryLimitError(DsoftmaxError, MemoryError):
    """The plan does not fit in the memory limit."""


class OutputExistsError(DsoftmaxError, FileExistsError):
    """Something exists at the path of the output."""


class RunMismatchError(DsoftmaxError, ValueError):
    """A run directory belongs to other data or to another objective."""


class ClusterError(DsoftmaxError, RuntimeError):
    """The scheduler or its workers did not answer in time, or failed too often."""


class NotFittedError(DsoftmaxError, ValueError):
    """An estimator was asked for predictions before ``fit``, and scikit-learn is not installed."""


class ConvergenceWarning(UserWarning):
    """Training stopped before the tolerance was met."""


def unknown_option(name: str, found: object, known: Iterable[str]) -> OptionError:
    """Return the error for an unknown value of an option, with the nearest known value.

    Parameters
    ----------
    name : str
        The option, as its user spells it.
    found : object
        The unknown value.
    known : iterable of str
        All known values.
    """
    known = list(known)
    near = get_close_matches(str(found), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return OptionError(f"{name}={found!r} is unknown.{hint} Known: {', '.join(map(repr, known))}.")
