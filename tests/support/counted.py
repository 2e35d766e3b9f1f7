"""A source that counts its loads, a visit of it, and the engines of one process."""

import threading
import time
import weakref
from dataclasses import dataclass, field

import numpy as np
from visits import Visiting

from dsoftmax.data.block import Block
from dsoftmax.data.columns import ColumnBytes
from dsoftmax.data.source import Share
from dsoftmax.data.table import Names
from dsoftmax.engines.limits import process_bytes
from dsoftmax.engines.plan import LOADING
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import DataError, ReadError

ENGINES = {
    "serial": SerialEngine,
    "threads": ThreadsEngine,
    "1 thread": lambda: ThreadsEngine(1),
    "2 threads": lambda: ThreadsEngine(2),
    "8 threads": lambda: ThreadsEngine(8),
}


def bits(value):
    """The bits of a value, with its dtype and shape."""
    if isinstance(value, dict):
        return {key: bits(part) for key, part in value.items()}
    return np.asarray(value).dtype.str, np.asarray(value).shape, np.asarray(value).tobytes()


DOUBLE = np.dtype("f8")


@dataclass
class Counting(Share):
    """A source that counts its loads, and the blocks that are in memory at once."""

    n_chunks: int
    n_rows: int = 100
    fails: dict = field(default_factory=dict)
    n_features: int = 2
    dtype: np.dtype = DOUBLE
    sparse: bool = False
    resident: bool = False
    names: Names = field(default_factory=Names)
    columns: ColumnBytes = field(default_factory=lambda: ColumnBytes(row=8))
    bad: int = -1
    loads: list = field(default_factory=list)
    alive: int = 0
    most_alive: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def chunk_rows(self):
        return np.full(self.n_chunks, self.n_rows)

    @property
    def chunk_bytes(self):
        return self.chunk_rows * 16

    def load(self, chunk, buffer=None):
        with self.lock:
            self.loads.append(chunk)
            self.alive += 1
            self.most_alive = max(self.most_alive, self.alive)
            failed = self.loads.count(chunk) <= self.fails.get(chunk, 0)
        if failed:
            self.alive -= 1
            raise ReadError(f"chunk {chunk} is out of reach")
        if chunk == self.bad:
            raise DataError(f"chunk {chunk} is bad")
        time.sleep(0.001)
        block = Block(np.full((100, 2), float(chunk)), np.arange(100) % 2, None, 100 * chunk)
        weakref.finalize(block.X, self.gone)
        return block

    def gone(self):
        with self.lock:
            self.alive -= 1

    def smaller_chunks(self, rows):
        return f"rechunk {rows}"

    def share(self, chunks):
        return self

    def needs(self, chunk):
        return ()

    def describe(self):
        return {}


@Visiting
def rows_and_labels(block):
    return {"rows": block.n_rows, "sum": np.array([block.X[:, 0].sum()])}


BLOCK = 1600 + 100 * 8


LOAD = LOADING * 1600


def limit_of(threads, blocks, cache=0):
    """The smallest limit that allows ``blocks`` blocks of `Counting` in flight."""
    return process_bytes() + blocks * BLOCK + min(threads, blocks) * LOAD + cache
