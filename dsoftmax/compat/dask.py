"""Dask beyond its documentation: tasks, dependencies and futures of a graph.

`tests/compat/test_dask_compat.py` says when dask changed.
"""

from collections.abc import Iterable
from typing import Any

import dask
import dask.array as da
from dask._task_spec import convert_legacy_graph
from dask.optimization import cull


def futures_of(arrays: Iterable[da.Array]) -> dict[Any, Any]:
    """Return the futures in the graphs of arrays, by key.

    Stands for: a public list of the futures behind a persisted collection. Distributed has a
    function of this name, but it does not return the keys in the graph.
    """
    return {
        key: node
        for array in arrays
        for key, node in dict(array.__dask_graph__()).items()
        if is_future(node)
    }


def is_future(node: Any) -> bool:
    """Return whether a node of a graph is a future of distributed, without importing it."""
    return any(
        kind.__name__ == "Future" and kind.__module__.startswith("distributed.")
        for kind in type(node).__mro__
    )


def tasks_of(arrays: Iterable[da.Array]) -> dict[Any, Any]:
    """Return the tasks of the graphs of arrays, by key, in dask's own form; futures are left out.

    Stands for: a public form of graphs that `culled` and `dependencies_of` can walk.
    """
    graph: dict[Any, Any] = {}
    for array in arrays:
        graph.update(array.__dask_graph__())
    tasks: dict[Any, Any] = convert_legacy_graph(
        {key: node for key, node in graph.items() if not is_future(node)}
    )
    return tasks


def culled(tasks: dict[Any, Any], keys: Iterable[Any]) -> dict[Any, Any]:
    """Return the tasks that these keys need; keys without a task are passed over."""
    needed, _ = cull(tasks, [key for key in keys if key in tasks])
    return dict(needed)


def dependencies_of(tasks: dict[Any, Any]) -> set[Any]:
    """Return the keys to which tasks refer.

    Stands for: a public ``dependencies`` of a task.
    """
    return {key for task in tasks.values() for key in task.dependencies}


def optimized(arrays: list[da.Array]) -> list[da.Array]:
    """Return the arrays after dask's own optimisation, all in one graph."""
    return list(dask.optimize(*arrays))


def block_example(array: da.Array) -> Any:
    """Return an empty array of the kind of the blocks, ndarray or SciPy sparse.

    Stands for: a public ``_meta``.
    """
    return array._meta
