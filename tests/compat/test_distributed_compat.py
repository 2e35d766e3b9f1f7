"""Distributed still has the parts that dsoftmax/compat/distributed.py uses, and they behave as it
relies on.
"""

import inspect
import os
import time
import warnings
from concurrent.futures import CancelledError
from importlib import import_module

import numpy as np
import pytest
from distributed import Client, Event, LocalCluster, get_worker
from relied_on import relied_on


class Compat:
    """The functions of the compat file.

    The import is inside the tests, so that its failure names the file too.
    """

    def __getattr__(self, name):
        return getattr(import_module("dsoftmax.compat.distributed"), name)


compat = Compat()


LIMIT = 4 * 10**9
"""Memory limit of workers in this process, which is large after many tests: they would pause."""


@pytest.fixture(scope="module")
def cluster():
    options = {"n_workers": 2, "threads_per_worker": 3, "memory_limit": LIMIT}
    quiet = {"dashboard_address": ":0", "silence_logs": 60}
    with LocalCluster(**options, **quiet, processes=False) as cluster:
        yield cluster


@pytest.fixture
def client(cluster):
    with Client(cluster) as client:
        yield client


def addresses(client):
    return sorted(client.scheduler_info(n_workers=-1)["workers"])


@relied_on("distributed", "workers_of")
def test_the_scheduler_describes_its_workers(client, cluster):
    before = time.time()
    found = compat.workers_of(client, 10.0)
    assert sorted(found) == addresses(client)
    own = {str(worker.name): worker for worker in cluster.workers.values()}
    assert sorted(one.name for one in found.values()) == sorted(own)
    for address, one in found.items():
        worker = own[one.name]
        assert (one.address, worker.address) == (address, address)
        assert (one.n_threads, one.memory_limit, one.status) == (3, LIMIT, "running")
        assert one.directory == worker.local_directory
        assert one.host
        assert before - 60 < one.last_seen < before + 60


@relied_on("distributed", "memory_of")
def test_a_worker_without_a_limit_has_none():
    limits = {"n_workers": 1, "memory_limit": 0, "dashboard_address": ":0", "processes": False}
    with LocalCluster(**limits) as cluster, Client(cluster) as client:
        (one,) = compat.workers_of(client, 10.0).values()
        assert one.memory_limit is None
        assert compat.memory_of(cluster.workers[0])[0] is None


@relied_on("distributed", "gathered")
def test_an_answer_that_takes_too_long_is_an_oserror(client):
    end = Event("compat-late")
    futures = [client.submit(end.wait, 20, pure=False)]
    started = time.monotonic()
    with pytest.raises(OSError):
        compat.gathered(client, futures, 0.2)
    assert time.monotonic() - started < 15
    end.set()
    client.cancel(futures)


@relied_on("distributed", "holders_of")
def test_results_and_their_holders(client):
    where = addresses(client)
    futures = [
        client.submit(int, number, workers=[address], pure=False)
        for number, address in enumerate(where)
    ]
    assert compat.gathered(client, futures, 10.0) == [0, 1]
    holders = compat.holders_of(client, [*(one.key for one in futures), "unknown"], 10.0)
    assert [list(holders[one.key]) for one in futures] == [[address] for address in where]
    assert list(holders.get("unknown", ())) == []


@relied_on("distributed", "run_on")
def test_a_function_runs_on_the_workers_that_are_named(client):
    where = addresses(client)[:1]
    assert compat.run_on(client, os.getpid, where, 10.0) == {where[0]: os.getpid()}


@relied_on("distributed", "is_wanted")
def test_a_task_that_is_cancelled_is_not_wanted_any_more(client, cluster):
    started, end = Event("compat-started"), Event("compat-end")

    def wait_for_end():
        started.set()
        end.wait(timeout=20)
        return get_worker().get_current_task()

    future = client.submit(wait_for_end, pure=False)
    started.wait(timeout=10)
    (worker,) = [
        one
        for one in cluster.workers.values()
        if future.key in one.state.executing
        or any(task.key == future.key for task in one.state.executing)
    ]
    assert compat.is_wanted(worker, future.key)
    assert not compat.is_wanted(worker, "unknown")
    compat.cancel(client, [future])
    deadline = time.monotonic() + 10
    while compat.is_wanted(worker, future.key):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    end.set()
    with pytest.raises(CancelledError):
        future.result(timeout=10)


def test_a_task_knows_its_own_key(client):
    future = client.submit(lambda: get_worker().get_current_task(), key="compat-key")
    assert future.result(timeout=10) == "compat-key"


@relied_on("distributed", "cancel")
def test_cancelling_after_the_scheduler_is_lost_is_no_error():
    options = {"n_workers": 1, "dashboard_address": ":0", "processes": False}
    with LocalCluster(**options) as cluster, Client(cluster) as client:
        future = client.submit(int, 1)
        future.result(timeout=10)
        assert compat.status_of(client) == "running"
    compat.cancel(client, [future])
    assert compat.status_of(client) == "closed"


@relied_on("distributed", "status_of")
def test_a_client_without_its_scheduler_is_connecting():
    options = {"n_workers": 1, "dashboard_address": ":0", "processes": False, "silence_logs": 60}
    with LocalCluster(**options) as cluster, Client(cluster.scheduler_address) as client:
        assert compat.status_of(client) == "running"
        cluster.close()
        deadline = time.monotonic() + 10
        while compat.status_of(client) == "running":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert compat.status_of(client) == "connecting"


@relied_on("distributed", "LOST")
def test_the_errors_of_a_lost_task_are_all_caught(client):
    assert issubclass(TimeoutError, compat.LOST)
    end = Event("compat-lost")
    future = client.submit(end.wait, 20, pure=False)
    compat.cancel(client, [future])
    with pytest.raises(compat.LOST):
        future.result(timeout=10)
    end.set()


@relied_on("distributed", "CLOSED")
def test_a_client_that_is_closed_says_so(cluster):
    client = Client(cluster)
    future = client.submit(int, 1)
    client.close()
    with pytest.raises((compat.CLOSED, *compat.LOST)):
        future.result(timeout=5)
    with pytest.raises((compat.CLOSED, *compat.LOST)):
        compat.gathered(client, [future], 5.0)
    assert compat.address_of(client)


@relied_on("distributed", "submit")
def test_large_arguments_are_submitted_without_a_warning(client):
    array = np.zeros(20 * 2**20, np.uint8)
    with pytest.warns(UserWarning, match="Sending large graph"):
        client.submit(len, array, pure=False).result(timeout=20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compat.submit(client, len, array, key="compat-large").result(timeout=20) == len(
            array
        )


@relied_on("distributed", "is_unpickling")
def test_a_scheduler_that_cannot_unpickle_says_deserialization(client):
    class Broken:
        def __reduce__(self):
            return _fail, ()

    with pytest.raises(RuntimeError) as error:
        client.submit(len, Broken(), pure=False).result(timeout=10)
    assert compat.is_unpickling(error.value)
    assert not compat.is_unpickling(RuntimeError("another"))


def _fail():
    raise ImportError("this is not installed")


@relied_on("distributed", "dumps")
def test_what_pickle_cannot_is_pickled_by_cloudpickle():
    assert compat.loads(compat.dumps(lambda: 3))() == 3


@relied_on("distributed", "memory_of")
def test_threads_and_memory_of_a_worker(cluster):
    worker = cluster.workers[0]
    assert compat.threads_of(worker) == 3
    limit, fractions = compat.memory_of(worker)
    assert limit == LIMIT
    assert fractions == [0.7, 0.8]  # dask's documented defaults of spill and pause
    assert compat.shares_process(worker)


@relied_on("distributed", "memory_of")
def test_fractions_that_are_switched_off_are_left_out():
    import dask

    off = {"distributed.worker.memory.spill": False, "distributed.worker.memory.target": False}
    options = {"n_workers": 1, "dashboard_address": ":0", "processes": False}
    with dask.config.set(off), LocalCluster(**options, memory_limit=LIMIT) as cluster:
        assert compat.memory_of(cluster.workers[0]) == (LIMIT, [0.8])


def test_events_of_a_topic_come_with_what_was_told(client):
    heard = []
    client.subscribe_topic("compat", heard.append)
    client.submit(lambda: get_worker().log_event("compat", {"a": 1})).result(timeout=10)
    deadline = time.monotonic() + 10
    while not heard:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    stamp, told = heard[0]
    assert stamp > 0
    assert told["a"] == 1
    assert told["worker"] in addresses(client)


@relied_on("distributed", "submit")
def test_submit_takes_the_options_that_tasks_are_placed_with():
    options = set(inspect.signature(Client.submit).parameters)
    assert options >= {"workers", "allow_other_workers", "key", "pure"}
