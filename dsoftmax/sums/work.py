"""The work of a pass so far: counted by the threads that work, read by watchers."""

import threading
import time
from dataclasses import dataclass, field

from dsoftmax.system.process import peak_bytes


@dataclass(frozen=True)
class Done:
    """Work of one process in one pass.

    Attributes
    ----------
    rows : int
        Number of rows visited.
    bytes : int
        Decoded bytes of their X.
    cached_bytes : int
        Bytes among them that were in memory already.
    retries : int
        Number of times that a chunk, or a request to remote storage, failed and was tried again.
    seconds : float
        Wall time.
    peak : int
        Peak memory of the process so far, in bytes.
    """

    rows: int = 0
    bytes: int = 0
    cached_bytes: int = 0
    retries: int = 0
    seconds: float = 0.0
    peak: int = 0

    @property
    def cached(self) -> float:
        """Fraction of the bytes that was in memory already, 0 … 1."""
        return self.cached_bytes / self.bytes if self.bytes else 0.0

    @property
    def throughput(self) -> float:
        """Rows a second."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    def __add__(self, other: "Done") -> "Done":
        return Done(
            self.rows + other.rows,
            self.bytes + other.bytes,
            self.cached_bytes + other.cached_bytes,
            self.retries + other.retries,
            self.seconds + other.seconds,
            max(self.peak, other.peak),
        )


class Meter:
    """Counter of the work of one process in one pass. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows = self._bytes = self._cached = self._retries = 0
        self._started = time.perf_counter()

    def add(self, rows: int, n_bytes: int, cached: bool) -> None:
        """Count one block."""
        with self._lock:
            self._rows += rows
            self._bytes += n_bytes
            self._cached += n_bytes * cached

    def retry(self) -> None:
        """Count a chunk that is loaded again, or a request that is made again."""
        with self._lock:
            self._retries += 1

    @property
    def done(self) -> Done:
        """Work since the meter was made."""
        seconds = time.perf_counter() - self._started
        with self._lock:
            return Done(self._rows, self._bytes, self._cached, self._retries, seconds, peak_bytes())


@dataclass
class Ongoing:
    """The pass that runs, as far as its workers have reported.

    Attributes
    ----------
    number : int
        Number of the pass in its engine.
    rows : int
        Number of rows of the source.
    finished : dict from str to Done
        Work of each worker on pieces that are done.
    working : dict from str to Done
        Work of each worker on the piece that it visits now, as last reported.
    """

    number: int = -1
    rows: int = 0
    finished: dict[str, Done] = field(default_factory=dict)
    working: dict[str, Done] = field(default_factory=dict)

    @property
    def done(self) -> dict[str, Done]:
        """Work of each worker, by its name."""
        finished, working = dict(self.finished), dict(self.working)  # reports arrive meanwhile
        names = sorted({*finished, *working})
        return {name: finished.get(name, Done()) + working.get(name, Done()) for name in names}
