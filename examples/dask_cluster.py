"""A running dask cluster: the estimator finds the active client, and gives the bits of one core.

This cluster is two processes on this machine. `Client("tcp://scheduler:8786")` would use one
elsewhere.

    python examples/dask_cluster.py
"""

import dask.array as da
import numpy as np
from dask.distributed import Client, LocalCluster

from dsoftmax import SoftmaxRegression


def main() -> None:
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((60_000, 12))
    labels = (rows[:, :4] + rng.gumbel(size=(60_000, 4))).argmax(axis=1)
    X, y = da.from_array(rows, chunks=(5_000, 12)), da.from_array(labels, chunks=5_000)

    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster,
        Client(cluster),
    ):
        there = SoftmaxRegression().fit(X, y)
        print("on two workers:", there.status_)
        P = there.predict_proba(X)  # lazy: nothing is computed yet
        print("lazy probabilities:", P)
        print("mean of the largest:", P.max(axis=1).mean().compute().round(3))

    here = SoftmaxRegression(engine="serial").fit(X, y)
    print("same bits on one core:", bool(np.array_equal(there.coef_, here.coef_)))


if __name__ == "__main__":  # worker processes import this file
    main()
