"""Dask still has the private APIs that dsoftmax/compat/dask.py uses, and they behave as it relies
on.
"""

import dask
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
from distributed import Client
from numpy.testing import assert_array_equal
from relied_on import parameters, relied_on


def compat(function):
    with relied_on("dask", function):
        import dsoftmax.compat.dask

        return getattr(dsoftmax.compat.dask, function)


def lazy():
    """Three blocks of rows that are made of six."""
    whole = da.from_array(np.arange(30.0).reshape(15, 2), chunks=(5, 1))
    return (whole + 1).rechunk({1: -1})


def test_private_functions_have_the_parameters_that_are_passed():
    with relied_on("dask", "tasks_of"):
        from dask._task_spec import convert_legacy_graph

        assert parameters(convert_legacy_graph)[0] == "dsk"
    with relied_on("dask", "culled"):
        from dask.optimization import cull

        assert parameters(cull) == ["dsk", "keys"]


def test_the_tasks_of_one_block_compute_it_alone():
    tasks_of, culled, optimized = compat("tasks_of"), compat("culled"), compat("optimized")
    X = lazy()
    with relied_on("dask", "tasks_of"):
        (found,) = optimized([X])
        tasks = tasks_of([found])
        key = (found.name, 1, 0)
        assert key in tasks
    with relied_on("dask", "culled"):
        own = culled(tasks, [key, "a key without a task"])
        assert len(own) < len(tasks)
        assert not {(found.name, 0, 0), (found.name, 2, 0)} & set(own)
        assert_array_equal(dask.get(own, [key])[0], np.arange(30.0).reshape(15, 2)[5:10] + 1)


def test_the_dependencies_of_tasks_are_keys():
    tasks_of, dependencies_of = compat("tasks_of"), compat("dependencies_of")
    X = lazy()
    with relied_on("dask", "dependencies_of"):
        tasks = tasks_of([X])
        assert dependencies_of(tasks) <= set(tasks)
        found = {name for name, *_ in dependencies_of({(X.name, 0, 0): tasks[X.name, 0, 0]})}
        assert X.name not in found
        assert found


def test_persisted_blocks_are_futures_in_the_graph_and_no_tasks():
    futures_of, tasks_of = compat("futures_of"), compat("tasks_of")
    dependencies_of, is_future = compat("dependencies_of"), compat("is_future")
    local = {"processes": False, "n_workers": 1, "threads_per_worker": 1}
    with Client(**local, dashboard_address=":0") as client:
        kept = client.persist(lazy())
        keys = {(kept.name, i, 0) for i in range(3)}
        with relied_on("dask", "futures_of"):
            futures = futures_of([kept])
            assert set(futures) == keys
            assert all(is_future(one) for one in futures.values())
            assert_array_equal(futures[kept.name, 2, 0].result(), kept.blocks[2].compute())
        with relied_on("dask", "tasks_of"):
            assert not set(tasks_of([kept])) & keys
            above = kept * 2
            assert dependencies_of(tasks_of([above])) & keys == keys
    with relied_on("dask", "is_future"):
        assert not any(is_future(node) for node in (1, "future", object(), np.ones(2)))


@pytest.mark.parametrize("sparse", [False, True])
def test_an_array_shows_an_example_of_its_blocks(sparse):
    block_example = compat("block_example")
    X = lazy()
    with relied_on("dask", "block_example"):
        found = block_example(X.map_blocks(scipy.sparse.csr_array) if sparse else X)
        assert scipy.sparse.issparse(found) == sparse
        assert found.shape[0] == 0
