"""What a process has done in a pass so far: counted by the threads that work, read by whoever watches."""

import threading
import time
from dataclasses import dataclass, field

from dsoftmax.system.process import peak_bytes


@dataclass(frozen=True)
class Done:
    """Work of one process in one pass.

    Attributes
    ----------
    rows, bytes : int
        Visited; bytes of X, decoded.
    kept_bytes : int
        Of them, those that were in memory already.
    retries : int
        Chunks that failed to load and were tried again.
    seconds : float
        Wall time.
    peak : int
        The most memory the process has held so far (bytes).
    """

    rows: int = 0
    bytes: int = 0
    kept_bytes: int = 0
    retries: int = 0
    seconds: float = 0.0
    peak: int = 0

    @property
    def kept(self) -> float:
        """The part of the bytes that was in memory already, 0 … 1."""
        return self.kept_bytes / self.bytes if self.bytes else 0.0

    @property
    def pace(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    def __add__(self, other: "Done") -> "Done":
        return Done(
            self.rows + other.rows,
            self.bytes + other.bytes,
            self.kept_bytes + other.kept_bytes,
            self.retries + other.retries,
            self.seconds + other.seconds,
            max(self.peak, other.peak),
        )


class Meter:
    """Counts what is done. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows = self._bytes = self._kept = self._retries = 0
        self._started = time.perf_counter()

    def add(self, rows: int, n_bytes: int, kept: bool) -> None:
        """Count one block."""
        with self._lock:
            self._rows += rows
            self._bytes += n_bytes
            self._kept += n_bytes * kept

    def retry(self) -> None:
        """Count a chunk that is loaded once more."""
        with self._lock:
            self._retries += 1

    @property
    def done(self) -> Done:
        """What has been done since the meter was made."""
        seconds = time.perf_counter() - self._started
        with self._lock:
            return Done(self._rows, self._bytes, self._kept, self._retries, seconds, peak_bytes())


@dataclass
class Ongoing:
    """The pass that runs, as far as its workers have told.

    Attributes
    ----------
    number : int
        Of the pass, for the engine.
    rows : int
        Of the source.
    finished, working : dict from str to Done
        By worker: work that has come back, and what was reported of the work it is at.
    """

    number: int = -1
    rows: int = 0
    finished: dict[str, Done] = field(default_factory=dict)
    working: dict[str, Done] = field(default_factory=dict)

    @property
    def done(self) -> dict[str, Done]:
        """What each worker has done, by its name."""
        finished, working = dict(self.finished), dict(self.working)  # reports come in meanwhile
        names = sorted({*finished, *working})
        return {name: finished.get(name, Done()) + working.get(name, Done()) for name in names}
