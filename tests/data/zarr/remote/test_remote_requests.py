"""Requests to remote storage: how many, which are repeated, and that the bits stay the same."""

import numpy as np
import pytest
import zarr
from counted import rows_and_labels
from flaky_server import PASSING, some
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax.data.retries import counting_retries
from dsoftmax.data.zarr.names import open_array
from dsoftmax.data.zarr.remote import requests
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.threads import ThreadsEngine
from dsoftmax.errors import AccessError, ReadError

N, P, ROWS = 400, 3, 10


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(requests, "PAUSE", 0.001)


@pytest.fixture(scope="module")
def stored(s3_server, tmp_path_factory):
    """40 chunks of X, and 4 of y, in the bucket; the URL and the local group."""
    path = tmp_path_factory.mktemp("store") / "rows.zarr"
    rng = np.random.default_rng(0)
    group = zarr.create_group(path)
    group.create_array("X", data=rng.normal(size=(N, P)), chunks=(ROWS, P))
    group.create_array("y", data=rng.integers(1, 4, N), chunks=(100,))
    return s3_server.put(path, "requests/rows.zarr"), group


def loaded(url, count=lambda: None, **options):
    source = opened(open_array(url, "X"), open_array(url, "y"), **options)
    with counting_retries(count):
        blocks = [source.load(chunk) for chunk in range(len(source.chunk_rows))]
    return np.concatenate([one.X for one in blocks]), np.concatenate([one.y for one in blocks])


@pytest.mark.parametrize("missing_chunks", ["error", "fill"])
def test_a_chunk_costs_one_request(s3, stored, missing_chunks):
    url, local = stored
    X, y = loaded(url, missing_chunks=missing_chunks)
    assert_array_equal(X, local["X"][:])
    assert_array_equal(y, local["y"][:])
    assert len(s3.proxy.of_chunks()) == 44
    assert set(s3.proxy.of_chunks().values()) == {1}
    assert s3.proxy.of_chunks("HEAD") == {}


@pytest.mark.parametrize("fault", PASSING)
def test_a_request_that_fails_once_is_repeated_and_counted(s3, stored, fault):
    url, local = stored
    retries = []
    s3.proxy.fault = some(0.3, [fault])
    X, _ = loaded(url, lambda: retries.append(1))
    assert_array_equal(X, local["X"][:])
    failed = sum(number - 1 for number in s3.proxy.of_chunks().values())
    assert len(retries) == failed == s3.proxy.failed > 3


@pytest.mark.parametrize("engine", [SerialEngine(), ThreadsEngine(2)], ids=["serial", "threads"])
def test_engines_count_the_requests_that_are_repeated(s3, stored, engine):
    url, _ = stored
    s3.proxy.fault = some(0.3)
    source = opened(open_array(url, "X"), open_array(url, "y"))
    totals = engine.total(rows_and_labels, source)
    assert totals.work[""].retries == s3.proxy.failed > 3


def test_a_request_that_hangs_is_made_again(s3, stored, monkeypatch):
    monkeypatch.setattr(requests, "TIMEOUT", 1.0)
    url, local = stored
    retries = []
    s3.proxy.fault = lambda path, number: "slow" if "/X/c/7/" in path and not number else ""
    X, _ = loaded(url, lambda: retries.append(1))
    assert_array_equal(X, local["X"][:])
    assert len(retries) >= 1  # on a busy machine others may hang too
    assert s3.proxy.of_chunks()["/bucket/requests/rows.zarr/X/c/7/0"] == 2


def test_a_server_that_stays_silent_is_given_up_after_three_times(s3, stored, monkeypatch):
    monkeypatch.setattr(requests, "TIMEOUT", 0.3)
    url, _ = stored
    s3.proxy.fault = lambda path, number: "slow" if "/X/c/7/" in path else ""
    with pytest.raises(AccessError, match=r"no answer came within 1\.2 s in 3 tries"):
        loaded(url)


def test_a_request_that_always_fails_ends_after_a_limited_number_of_tries(s3, stored):
    url, _ = stored
    s3.proxy.fault = lambda path, number: "503" if "/X/c/3/0" in path else ""
    with pytest.raises(AccessError) as error:
        loaded(url)
    for part in ("rows 0–399", f"{url}/X/c/3/0 cannot be read", "503 SlowDown in 8 tries"):
        assert part in str(error.value)
    assert s3.proxy.of_chunks()["/bucket/requests/rows.zarr/X/c/3/0"] == requests.TRIES


def test_a_refused_chunk_is_not_repeated_and_says_so(s3, stored):
    url, _ = stored
    s3.proxy.fault = lambda path, number: "403" if "/X/c/3/0" in path else ""
    with pytest.raises(AccessError) as error:
        loaded(url)
    assert "the server forbids reading it (403 AccessDenied)" in str(error.value)
    assert "damaged" not in str(error.value)
    assert s3.proxy.of_chunks()["/bucket/requests/rows.zarr/X/c/3/0"] == 1


def test_a_lost_chunk_is_named(s3, tmp_path):
    X = np.arange(60.0).reshape(20, 3) + 1
    zarr.create_array(tmp_path / "X", data=X, chunks=(5, 3))
    (tmp_path / "X/c/2/0").unlink()
    url = s3.put(tmp_path, "lost.zarr")
    with pytest.raises(ReadError, match=r"rows 10–14: the chunk c/2/0 is not in s3://bucket/lost"):
        opened(open_array(url, "X")).load(0)
    filled = opened(open_array(url, "X"), missing_chunks="fill").load(0)
    assert_array_equal(filled.X[10:15], 0)
    assert_array_equal(filled.X[:10], X[:10])


def test_a_damaged_chunk_is_named_as_damaged(s3, tmp_path):
    zarr.create_array(tmp_path / "X", data=np.ones((20, 3)), chunks=(5, 3))
    (tmp_path / "X/c/2/0").write_bytes(b"no codec wrote this")
    url = s3.put(tmp_path, "damaged.zarr")
    with pytest.raises(ReadError, match="rows 10–14 cannot be read") as error:
        opened(open_array(url, "X")).load(0)
    assert not isinstance(error.value, AccessError)
