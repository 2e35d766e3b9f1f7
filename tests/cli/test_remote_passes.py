"""Passes over 400 remote chunks, with latency and faults: bits, requests, and the history."""

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import zarr
from commands import theta, train
from flaky_server import some

from dsoftmax.data.zarr.remote import requests
from dsoftmax.engines.kept.memory import Cache

N, P, ROWS = 200_000, 16, 500
OPTIONS = ("--solver", "lbfgs", "--max-iter", "2", "--tol", "0")


@pytest.fixture(scope="module")
def stored(s3_server, tmp_path_factory):
    """400 chunks of X, and 8 of y; the URL and the local path."""
    path = tmp_path_factory.mktemp("many") / "data.zarr"
    rng = np.random.default_rng(3)
    X = rng.integers(0, 8, (N, P), dtype=np.uint8)
    y = (X[:, :3] + rng.integers(0, 6, (N, 3))).argmax(axis=1) + 1
    group = zarr.create_group(path)
    group.create_array("X", data=X, chunks=(ROWS, P))
    group.create_array("y", data=y.astype(np.uint8), chunks=(25_000,))
    return s3_server.put(path, "many/data.zarr"), path


def history():
    return [json.loads(line) for line in Path("run/history.jsonl").read_text().splitlines()]


def test_400_chunks_have_the_bits_of_local_ones_and_cost_one_request_a_pass(
    s3, stored, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(requests, "PAUSE", 0.001)
    monkeypatch.setattr(Cache, "fits", lambda cache, n_bytes: False)
    url, path = stored
    assert train(path, "X", "y", *OPTIONS).exit_code == 3
    expected = theta()

    s3.proxy.latency = 0.05
    s3.proxy.fault = some(0.05, at=1)
    result = train(url, "X", "y", *OPTIONS, "--overwrite")
    assert result.exit_code == 3, result.output
    np.testing.assert_array_equal(theta(), expected)

    passes = history()
    counts = Counter(
        {path: number for path, number in s3.proxy.of_chunks().items() if "/X/" in path}
    )
    assert len(counts) == 400
    assert s3.proxy.of_chunks("HEAD") == {}
    failed = {path for path in counts if s3.proxy.fault(path, 1)}
    assert 10 < len(failed) < 40
    for path, number in counts.items():
        # Once a pass, once more after its fault, and once for the fingerprint of the ends.
        assert len(passes) <= number - (path in failed) <= len(passes) + 1
    retries = sum(done["retries"] for one in passes for done in one["work"].values())
    assert retries == s3.proxy.failed >= len(failed)
    assert s3.proxy.most_at_once >= 16


def test_inspect_shows_the_blocks_that_are_read_ahead(s3, stored, tmp_path, monkeypatch):
    from commands import run

    monkeypatch.chdir(tmp_path)
    url, path = stored
    plans = [run("inspect", data, "--features", "X", "--labels", "y") for data in (url, path)]
    assert all(one.exit_code == 0 for one in plans)
    blocks = [
        int(one.output.split(" in flight, ")[1].split(" of them read ahead")[0]) for one in plans
    ]
    assert blocks[0] > blocks[1]
