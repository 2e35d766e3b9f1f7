"""Everything that dsoftmax raises on purpose.

::

    DsoftmaxError
    ├── DataError          (ValueError)       the data cannot answer the question: NaN, an unknown label, lengths that differ
    ├── OptionError        (ValueError)       an option that does not exist or makes no sense here
    ├── ReadError          (OSError)          a chunk that is missing, truncated or cannot be decoded
    ├── WriteError         (OSError)          a file that cannot be written: the disk is full, a quota or a limit is reached
    ├── MemoryLimitError   (MemoryError)      the plan does not fit in the memory allowed
    ├── OutputExistsError  (FileExistsError)  something stands where the output should go
    ├── RunMismatchError   (ValueError)       a run directory that belongs to other data or another objective
    ├── ClusterError       (RuntimeError)     no scheduler, no workers, or too many failed attempts
    └── NotFittedError     (ValueError)       predict before fit, where scikit-learn is not installed

    ConvergenceWarning     (UserWarning)      the solver stopped before the tolerance was met

Every message says what was found, what was needed and what to do. Every exception is built from one string, so that it
survives pickling on its way back from a worker.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class DsoftmaxError(Exception):
    """Base of all errors that dsoftmax raises on purpose."""

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return (
            type(self),
            self.args,
        )  # distributed's own way to pickle exceptions cannot build a MemoryError's subclass again


class DataError(DsoftmaxError, ValueError):
    """The data cannot answer the question that was asked."""


class OptionError(DsoftmaxError, ValueError):
    """An option does not exist or makes no sense here."""


class ReadError(DsoftmaxError, OSError):
    """A stored chunk is missing, truncated or cannot be decoded."""


class WriteError(DsoftmaxError, OSError):
    """A file could not be written; what stood in its place still does."""


class MemoryLimitError(DsoftmaxError, MemoryError):
    """The plan does not fit in the memory that was allowed."""


class OutputExistsError(DsoftmaxError, FileExistsError):
    """Something already stands where the output should go."""


class RunMismatchError(DsoftmaxError, ValueError):
    """A run directory belongs to other data or to another objective."""


class ClusterError(DsoftmaxError, RuntimeError):
    """The scheduler or its workers did not answer in time, or failed too often."""


class NotFittedError(DsoftmaxError, ValueError):
    """The estimator was asked to predict before it was fitted."""


class ConvergenceWarning(UserWarning):
    """The solver stopped before the tolerance was met."""


def unknown_option(name: str, found: object, known: Iterable[str]) -> OptionError:
    """Build the error for a value that is not in a table, with the nearest name that is.

    Parameters
    ----------
    name : str
        The option, as its user spells it.
    found : object
        The value that was given.
    known : iterable of str
        The values that exist.
    """
    known = list(known)
    near = get_close_matches(str(found), known, n=1, cutoff=0.5)
    hint = f" Did you mean {near[0]!r}?" if near else ""
    return OptionError(f"{name}={found!r} is unknown.{hint} Known: {', '.join(map(repr, known))}.")
