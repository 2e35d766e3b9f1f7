"""Soft labels, standardised features and several label columns on worker processes."""

import numpy as np
import pytest
import zarr
from local_workers import workers

from dsoftmax import SoftmaxRegression


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    rng, group = np.random.default_rng(0), zarr.create_group(tmp_path_factory.mktemp("data"))
    X = rng.normal(size=(600, 4)) * [1, 1, 30, 0.01] + [0, 5, 0, 300]
    group.create_array("X", data=X, chunks=(50, 4))
    group.create_array("P", data=rng.dirichlet(np.ones(3), 600), chunks=(70, 3))
    group.create_array("y", data=(X[:, 0] + rng.normal(size=600) > 0).astype(int), chunks=(90,))
    group.create_array("z", data=rng.integers(0, 4, 600), chunks=(90,))
    return group


def test_two_workers_give_the_bits_of_one_thread(data):
    X, many = data["X"], {"y": data["y"], "z": data["z"]}

    def bits(engine):
        plain = SoftmaxRegression(engine=engine, scale="standard")
        soft = SoftmaxRegression(engine=engine, classes=[2, 0, 1], validation_fraction=0.2)
        found = [plain.fit(X, data["y"]), soft.fit(X, data["P"]), *plain.fit_many(X, many).values()]
        return [(one.model_.theta.tobytes(), one.n_passes_) for one in found]

    with workers(2) as (_, client):
        assert bits(client) == bits("serial")
