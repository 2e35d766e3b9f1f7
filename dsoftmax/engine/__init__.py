"""Ways to visit chunks and add what the visits say; no softmax in here.

An engine has one method that matters, ``total(visit, source)``: call ``visit`` on every leaf of every chunk and return the
added `Totals`. All engines return the same bits, because the leaves are cut by the source and added without order.
"""

import sys
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

from dsoftmax.blocks import Source
from dsoftmax.engine.meter import Ongoing
from dsoftmax.engine.sums import Totals
from dsoftmax.engine.visit import Visit
from dsoftmax.errors import OptionError, unknown_option

if TYPE_CHECKING:
    from dsoftmax.engine.spool import SpoolTo

ENGINES = ("auto", "serial", "threads", "cluster")


@runtime_checkable
class Engine(Protocol):
    """A way to visit all chunks.

    Attributes
    ----------
    n_threads : int
        Cores that compute, over all workers.
    process_limit : int or None
        Bytes that each process which computes may take; None for no limit.
    ongoing : Ongoing
        The pass that runs now, or the last, for those who watch from another thread.
    """

    @property
    def n_threads(self) -> int: ...
    @property
    def process_limit(self) -> int | None: ...
    @property
    def ongoing(self) -> Ongoing: ...

    def total(self, visit: Visit, source: Source) -> Totals:
        """Visit every chunk once and return the added sums."""

    def reserve(self, n_bytes: int) -> None:
        """Say what the caller holds in this process (bytes): what is planned here leaves so much alone."""

    def describe(self) -> str:
        """Return one line for people."""

    def close(self) -> None:
        """Give back what the engine holds on workers."""


def holds_client(engine: Any) -> bool:
    """Return whether this is a dask client, or an engine that works with one."""
    if isinstance(engine, str) or "distributed" not in sys.modules:
        return False
    from dsoftmax.engine.cluster import ClusterEngine, is_client

    return isinstance(engine, ClusterEngine) or is_client(engine)


def make_engine(engine: Any = "auto", memory_limit: int | None = None, spool: "SpoolTo | None" = None) -> Engine:
    """Return the engine that an option names.

    Parameters
    ----------
    engine : {"auto", "serial", "threads", "cluster"}, dask Client, or Engine
        "auto" takes the active dask client if there is one, else this machine's threads; "cluster" needs an active client.
    memory_limit : int, optional
        Bytes that this process may use.
    spool : SpoolTo, optional
        Where to put decoded blocks that are not kept in memory; for "serial", which keeps none, an error.

    Raises
    ------
    OptionError
        The name is unknown, there is no active client, or a spool is given with an engine that cannot use it.
    """
    from dsoftmax.engine.serial import SerialEngine
    from dsoftmax.engine.threads import ThreadsEngine

    if spool is not None and (engine == "serial" or isinstance(engine, Engine)):
        which = "engine='serial', which keeps no blocks" if isinstance(engine, str) else "an engine that was made before"
        raise OptionError(f"spool does nothing for {which}. Leave one of them out.")
    if isinstance(engine, str):
        if engine not in ENGINES:
            raise unknown_option("engine", engine, ENGINES)
        if engine == "serial":
            return SerialEngine(memory_limit)
        if engine == "threads" or (engine == "auto" and "distributed" not in sys.modules):
            return ThreadsEngine(memory_limit=memory_limit, spool=spool)
        from dsoftmax.engine.cluster import ClusterEngine, active_client

        client = active_client(required=engine == "cluster")
        if client is not None:
            return ClusterEngine(client, spool=spool)
        return ThreadsEngine(memory_limit=memory_limit, spool=spool)
    if isinstance(engine, Engine):
        return engine
    if "distributed" in sys.modules:
        from dsoftmax.engine.cluster import ClusterEngine, is_client

        if is_client(engine):
            return ClusterEngine(engine, spool=spool)
    raise unknown_option("engine", engine, [*ENGINES, "a dask Client"])
