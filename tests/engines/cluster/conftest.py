"""Fixtures of the tests with live workers."""

from collections.abc import Iterator

import numpy as np
import pytest
import zarr
from local_workers import ROWS, SETTINGS, K, N, P, Pair, bits
from opening import opened

from dsoftmax.engines.cluster import deal, dispatch, waiting
from dsoftmax.engines.cluster.connect import local_cluster
from dsoftmax.engines.cluster.engine import ClusterEngine
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.training.loop import train


@pytest.fixture
def quick(monkeypatch):
    """Short limits, and shares that are cut however small they are."""
    limits = {
        dispatch: {"PATIENCE_SECONDS": 1.0},
        waiting: {"SILENT_SECONDS": 2.5, "WAIT_SECONDS": 0.2, "STALL_SECONDS": 40.0},
        deal: {"CUT_SECONDS": 0.0, "CUT_BYTES": 1},
    }
    for module, values in limits.items():
        for name, value in values.items():
            monkeypatch.setattr(module, name, value)


@pytest.fixture(scope="session")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("faults") / "rows.zarr"
    rng = np.random.default_rng(3)
    X = rng.standard_normal((N, P))
    y = (X @ rng.standard_normal((P, K)) + rng.gumbel(size=(N, K))).argmax(axis=1)
    group = zarr.create_group(path)
    group.create_array("X", data=X, chunks=(ROWS, P))
    group.create_array("y", data=y, chunks=(ROWS,))
    return path


@pytest.fixture(scope="session")
def source(folder):
    """A source of 48 chunks."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dsoftmax.data.zarr.source.GROUP_BYTES", 0)
        source = opened(
            zarr.open_array(folder / "X", mode="r"), zarr.open_array(folder / "y", mode="r")
        )
    assert len(source.chunk_rows) == N // ROWS
    return source


@pytest.fixture(scope="session")
def undisturbed(source):
    """The bits of a run on one core."""
    result = train(source, SerialEngine(), SETTINGS)
    assert len(result.history) > 6
    return bits(result)


@pytest.fixture(scope="module")
def shared():
    found = Pair()
    with found.stack:
        yield found


@pytest.fixture
def pair(shared):
    """A client of two workers that are alive and run."""
    if not shared.is_whole(seconds=6):
        shared.renew()
    return shared.client


@pytest.fixture(scope="session")
def arrays() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    X = rng.standard_normal((20_000, 7))
    y = (X @ rng.standard_normal((7, 5)) + rng.gumbel(size=(20_000, 5))).argmax(axis=1)
    return X, y


@pytest.fixture(scope="session")
def store(
    arrays: tuple[np.ndarray, np.ndarray], tmp_path_factory: pytest.TempPathFactory
) -> zarr.Group:
    X, y = arrays
    group = zarr.create_group(tmp_path_factory.mktemp("cluster") / "rows.zarr")
    # Chunks of 19,000 rows are too large to be read together: X is two chunks of unlike sizes.
    group.create_array("X", data=X, chunks=(19_000, 3))
    group.create_array("y", data=y, chunks=(7_001,))
    group.create_array("fine", data=np.tile(X, (1, 8)), chunks=(500, 56))
    scene = group.create_array("scene", shape=len(y), dtype=str, chunks=(4_000,))
    scene[:] = np.array(["ash", "béé", "elm", "fir", "oak", "yew"], object)[
        np.arange(len(y)) // 300 % 6
    ]
    group.create_array("other", data=np.tile(-X, (1, 8)), chunks=(500, 56))
    return group


@pytest.fixture(scope="module")
def two_workers() -> Iterator[ClusterEngine]:
    with local_cluster(2) as engine:
        yield engine
