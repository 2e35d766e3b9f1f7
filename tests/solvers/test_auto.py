"""The choice of "auto" follows from sizes, from the memory limit and from the place of the rows."""

import numpy as np
import pytest
import zarr
from opening import opened

from dsoftmax.engines.limits import process_bytes
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import MemoryLimitError
from dsoftmax.training.loop import train
from dsoftmax.training.settings import Settings


def test_a_limit_too_small_for_a_sample_is_an_error_by_name_and_avoided_by_auto(rng, monkeypatch):
    X, y = rng.normal(size=(300, 4)), rng.integers(0, 3, 300)
    engine = SerialEngine(process_bytes() + 256 * 2**20)
    monkeypatch.setattr("dsoftmax.first_pass.sample.LEAST_ROWS", 10**6)
    monkeypatch.setattr("dsoftmax.first_pass.sample.LEAST_BYTES", 0)
    with pytest.raises(MemoryLimitError, match="the memory limit is too small for one"):
        train(opened(X, y), engine, Settings(solver="surrogate"))
    found = train(opened(X, y), engine, Settings())
    assert found.converged
    assert found.run.solver == "lbfgs-kronecker"


@pytest.mark.parametrize(("stored", "solver"), [(False, "lbfgs-kronecker"), (True, "matrix-free")])
def test_auto_steps_on_a_sample_if_every_pass_must_read(rng, tmp_path, stored, solver):
    X, y = rng.normal(size=(3000, 60)).astype(np.float32), rng.integers(0, 20, 3000)
    if stored:
        group = zarr.create_group(tmp_path / "rows.zarr")
        X, y = (
            group.create_array("X", data=X, chunks=(500, 60)),
            group.create_array("y", data=y + 1, chunks=(500,)),
        )
    assert train(opened(X, y), SerialEngine(), Settings(max_iter=0)).run.solver == solver


@pytest.mark.parametrize(("p", "solver"), [(8, "proximal-newton"), (60, "matrix-free")])
def test_auto_treats_an_l1_part_by_the_entries_of_theta(rng, p, solver):
    X, y = rng.normal(size=(800, p)), rng.integers(0, 20, 800)
    found = train(opened(X, y), SerialEngine(), Settings(l1_ratio=0.5, max_iter=0))
    assert found.run.solver == solver


def test_an_l1_part_without_memory_for_a_sample_is_an_error(rng, monkeypatch):
    X, y = rng.normal(size=(300, 4)), rng.integers(0, 3, 300)
    engine = SerialEngine(process_bytes() + 256 * 2**20)
    monkeypatch.setattr("dsoftmax.first_pass.sample.LEAST_ROWS", 10**6)
    monkeypatch.setattr("dsoftmax.first_pass.sample.LEAST_BYTES", 0)
    with pytest.raises(MemoryLimitError, match=r"l1_ratio=0\.5 needs a solver that works on a"):
        train(opened(X, y), engine, Settings(l1_ratio=0.5))
