"""The engine that an option names."""

import sys
from typing import TYPE_CHECKING, Any

from dsoftmax.engines.base import Engine
from dsoftmax.errors import OptionError, unknown_option

if TYPE_CHECKING:
    from dsoftmax.engines.kept.spool import SpoolTo

ENGINES = ("auto", "serial", "threads", "cluster")


def holds_client(engine: Any) -> bool:
    """Return whether this is a dask client, or an engine that works with one."""
    if isinstance(engine, str) or "distributed" not in sys.modules:
        return False
    from dsoftmax.engines.cluster.connect import is_client
    from dsoftmax.engines.cluster.engine import ClusterEngine

    return isinstance(engine, ClusterEngine) or is_client(engine)


def is_cluster(engine: Any) -> bool:
    """Return whether `make_engine` would return an engine of a cluster.

    "auto" is one if a dask client is active.
    """
    if not isinstance(engine, str):
        return holds_client(engine)
    if engine != "auto" or "distributed" not in sys.modules:
        return engine == "cluster"
    from dsoftmax.engines.cluster.connect import active_client

    return active_client(required=False) is not None


def make_engine(
    engine: Any = "auto", memory_limit: int | None = None, spool: "SpoolTo | None" = None
) -> Engine:
    """Return the engine that an option names.

    Parameters
    ----------
    engine : {"auto", "serial", "threads", "cluster"}, dask Client, or Engine
        "auto" is the active dask client if there is one, else this machine's threads. "cluster"
        needs an active client.
    memory_limit : int, optional
        Bytes that this process may use.
    spool : SpoolTo, optional
        Directory and limit of the spool for decoded blocks that are not cached in memory.
        "serial" caches none and raises.

    Raises
    ------
    OptionError
        The name is unknown, there is no active client, or the engine cannot use a spool.
    """
    from dsoftmax.engines.serial import SerialEngine
    from dsoftmax.engines.threads import ThreadsEngine

    if spool is not None and (engine == "serial" or isinstance(engine, Engine)):
        which = (
            "engine='serial', which caches no blocks"
            if isinstance(engine, str)
            else "an engine that was made before"
        )
        raise OptionError(f"spool does nothing for {which}. Leave one of them out.")
    if isinstance(engine, str):
        if engine not in ENGINES:
            raise unknown_option("engine", engine, ENGINES)
        if engine == "serial":
            return SerialEngine(memory_limit)
        if engine == "threads" or (engine == "auto" and "distributed" not in sys.modules):
            return ThreadsEngine(memory_limit=memory_limit, spool=spool)
        from dsoftmax.engines.cluster.connect import active_client
        from dsoftmax.engines.cluster.engine import ClusterEngine

        client = active_client(required=engine == "cluster")
        if client is not None:
            return ClusterEngine(client, spool=spool)
        return ThreadsEngine(memory_limit=memory_limit, spool=spool)
    if isinstance(engine, Engine):
        return engine
    if "distributed" in sys.modules:
        from dsoftmax.engines.cluster.connect import is_client
        from dsoftmax.engines.cluster.engine import ClusterEngine

        if is_client(engine):
            return ClusterEngine(engine, spool=spool)
    raise unknown_option("engine", engine, [*ENGINES, "a dask Client"])
