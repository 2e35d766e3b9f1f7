"""The kernels, the textbook formula and scikit-learn on one block, by pytest-benchmark.

    python -m pytest tests/benchmarks/test_kernels.py

One thread, and a group of bars for each shape, fastest first. ``kernels.py`` prints the shares of
the machine's rates. Every way is compared with scikit-learn's gradient before it is timed.
"""

import kernels
import numpy as np
import pytest
import scipy.sparse
from threadpoolctl import threadpool_limits

PROBLEMS = list(kernels.problems())
WAYS = ("scikit-learn", "textbook", *kernels.KERNELS)


@pytest.fixture(autouse=True)
def one_thread():
    with threadpool_limits(1):
        yield


@pytest.fixture(scope="module", params=PROBLEMS, ids=[problem.name for problem in PROBLEMS])
def problem(request):
    return request.param


@pytest.fixture(scope="module")
def expected(problem):
    """∇J by scikit-learn, (K, p+1), in float64."""
    X = problem.X.astype(np.float64)
    gradient = kernels.scikit_learn(problem.theta, X, problem.y)()[1]
    return gradient * len(problem.y)  # scikit-learn returns the mean over the rows


@pytest.mark.parametrize("way", WAYS)
def test_gradient(way, problem, expected, benchmark):
    theta, X, y = problem.theta, problem.X, problem.y
    plain = kernels.textbook_sparse if scipy.sparse.issparse(X) else kernels.textbook
    works = {
        "scikit-learn": kernels.scikit_learn(theta, X, y),
        "textbook": lambda: plain(theta, X, y),
    }
    works |= {
        name: lambda kernel=kernel: kernel(theta, X, y) for name, kernel in kernels.KERNELS.items()
    }
    work = works[way]
    benchmark.group = problem.name
    benchmark.extra_info["rows"] = len(y)
    found = work()
    gradient = {"scikit-learn": lambda: found[1] * len(y), "textbook": lambda: found.T}.get(
        way, lambda: found[1]
    )()
    columns = expected.shape[1] - (way == "textbook")  # the textbook formula has no intercept
    size = np.abs(expected[:, :columns]).max()
    np.testing.assert_allclose(gradient, expected[:, :columns], rtol=0, atol=2e-4 * size)
    benchmark(work)
