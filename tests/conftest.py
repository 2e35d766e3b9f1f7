"""Settings and fixtures that all tests share."""

import os
import signal

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from threadpoolctl import threadpool_limits

slow_is_fine = [HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
settings.register_profile(
    "ci", derandomize=True, deadline=None, max_examples=25, suppress_health_check=slow_is_fine
)
settings.register_profile(
    "search", deadline=None, max_examples=400, suppress_health_check=slow_is_fine
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ci"))

# A shell starts what it runs in the background deaf to Ctrl-C, which the tests press.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture
def rng():
    return np.random.default_rng(20260801)


@pytest.fixture
def one_thread():
    """Run BLAS on one thread: scikit-learn's BLAS threads spin while other processes need cores."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def small_sample(monkeypatch):
    """Let the first pass draw at most about 1/8 of data that it would otherwise draw whole."""
    from dsoftmax.first_pass import sample

    monkeypatch.setattr(sample, "LEAST_BYTES", 0)
    monkeypatch.setattr(sample, "LEAST_ROWS", 10)
    monkeypatch.setattr(sample, "MOST_SHARE", 0.125)
    monkeypatch.setattr(sample, "MOST_SHARE_READ", 0.125)


@pytest.fixture(scope="session")
def s3_server():
    """A local S3 server, started when the first test asks for it."""
    from s3 import S3

    server = S3()
    yield server
    server.close()


@pytest.fixture
def s3(s3_server, monkeypatch):
    """The S3 server, calm, and named by the environment with its credentials."""
    from s3 import ENVIRONMENT

    s3_server.proxy.calm()
    s3_server.proxy.answers.clear()
    for name, value in {**ENVIRONMENT, "AWS_ENDPOINT_URL": s3_server.proxy.url}.items():
        monkeypatch.setenv(name, value)
    yield s3_server
    s3_server.proxy.calm()
