"""Working directories with stored data, for the tests of the command line."""

import shutil

import pytest
from command_data import K, N, P, random_rows, write_small_store, write_store
from commands import FOUR_PASSES, run
from outcomes import outcome


@pytest.fixture(scope="session")
def values():
    """Features, labels and weights of the store."""
    X, y, rng = random_rows(11, N, P, K)
    return X, y, rng.uniform(0.5, 2, N)


@pytest.fixture(scope="session")
def original(tmp_path_factory, values):
    """The path of the store, which no test may change."""
    path = tmp_path_factory.mktemp("stored") / "data.zarr"
    write_store(path, *values)
    return path


@pytest.fixture
def here(tmp_path, monkeypatch, original):
    """A working directory with a copy of the store, which a test may damage."""
    shutil.copytree(original, tmp_path / "data.zarr")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def data(tmp_path_factory):
    """The path of the small store."""
    path = tmp_path_factory.mktemp("stored") / "data.zarr"
    write_small_store(path)
    return path


@pytest.fixture
def home(tmp_path, monkeypatch, data):
    """A working directory with a link to the small store, which no test may change."""
    (tmp_path / "data.zarr").symlink_to(data)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="session")
def undisturbed(data, tmp_path_factory):
    """The files of a run of four passes that nothing disturbed."""
    place = tmp_path_factory.mktemp("undisturbed")
    (place / "data.zarr").symlink_to(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert run(*FOUR_PASSES).exit_code == 3
    return outcome(place / "run")
