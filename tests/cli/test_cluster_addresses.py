"""Addresses and certificates of clusters: each mistake is one message, within a limited time."""

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from commands import TRAIN, refused, run, theta
from distributed import LocalCluster, Security

from dsoftmax.engines.cluster.address import Certificates, require_answer
from dsoftmax.errors import ClusterError

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    subprocess.run([ROOT / "cluster" / "tls.sh", folder], check=True, capture_output=True)
    return folder


def files(tls: Path) -> list[str]:
    return [
        *("--tls-ca-file", str(tls / "ca.pem")),
        *("--tls-cert", str(tls / "cert.pem")),
        *("--tls-key", str(tls / "key.pem")),
    ]


def bad_files() -> list[str]:
    return [word for kind in ("ca-file", "cert", "key") for word in (f"--tls-{kind}", "data.json")]


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never says anything."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"tcp://127.0.0.1:{server.getsockname()[1]}"


def test_a_cluster_with_certificates_gives_the_bits_of_threads(here, tls):
    assert run(*TRAIN).exit_code == 0
    expected = theta()
    ca, cert, key = (str(tls / name) for name in ("ca.pem", "cert.pem", "key.pem"))
    security = Security(
        tls_ca_file=ca,
        **{f"tls_{role}_{kind}": file for role in ("client", "scheduler", "worker")
           for kind, file in (("cert", cert), ("key", key))},
        require_encryption=True,
    )  # fmt: skip
    with LocalCluster(
        n_workers=1, processes=False, dashboard_address=":0", security=security, protocol="tls://"
    ) as cluster:
        address = cluster.scheduler_address
        assert address.startswith("tls://")
        at = (*TRAIN[:-1], "other", "--scheduler", address)
        refused(run(*at), address, "--tls-ca-file", "DASK_DISTRIBUTED__COMM__TLS__CA_FILE")
        result = run(*at, *files(tls))
        assert result.exit_code == 0, result.output
        np.testing.assert_array_equal(theta("other"), expected)
        stranger = Path("stranger")
        subprocess.run([ROOT / "cluster" / "tls.sh", stranger], check=True, capture_output=True)
        refused(run(*at[:-3], "third", *at[-2:], *files(stranger)), address, "No dask scheduler")
        secret = (tls / "key.pem").read_bytes().splitlines()[1]
        for file in Path("other").rglob("*"):
            assert not file.is_file() or secret not in file.read_bytes()


@pytest.mark.parametrize(
    ("options", "parts"),
    [
        (("--scheduler", ""), ("--scheduler is empty",)),
        (("--scheduler-file", ""), ("--scheduler-file is empty",)),
        (("--scheduler", "tls://127.0.0.1:9"), ("no certificates", "--tls-ca-file")),
        (("--scheduler", "ucx://127.0.0.1:1"), ("No dask scheduler answered at ucx://",)),
        (("--scheduler", "nonsense://x"), ("No dask scheduler answered at nonsense://x",)),
        (("--tls-ca-file", "ca.pem"), ("--scheduler",)),
        (("--scheduler", "tls://a:1", "--tls-cert", "c"), ("--tls-key", "belong together")),
        (("--scheduler", "tls://a:1", "--tls-ca-file", "no.pem"), ("no file no.pem",)),
        (("--scheduler", "tls://a:1", *bad_files()), ("PEM",)),
    ],
)
def test_addresses_and_certificates_that_cannot_be_are_named(here, options, parts):
    Path("data.json").write_text("{}")
    refused(run(*TRAIN, *options), *parts)
    assert not Path("run").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", json.dumps({"address": 5}), "[" * 10**5])
def test_a_file_without_an_address_is_named(here, content):
    Path("scheduler.json").write_text(content)
    refused(run(*TRAIN, "--scheduler-file", "scheduler.json"), "scheduler.json holds")


def test_what_accepts_and_never_answers_ends_the_wait():
    with silent_server() as address:
        started = time.monotonic()
        with pytest.raises(ClusterError, match="within 1 s"):
            require_answer(address, 1.0, Certificates().security(address))
        assert time.monotonic() - started < 20


def test_what_is_no_scheduler_is_named():
    command = [sys.executable, "-m", "http.server", "0", "--bind", "127.0.0.1"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    ) as server:  # fmt: skip
        try:
            port = server.stdout.readline().split("port ")[1].split()[0]
            address = f"tcp://127.0.0.1:{port}"
            with pytest.raises(ClusterError, match="No dask scheduler answered"):
                require_answer(address, 5.0, Certificates().security(address))
        finally:
            server.kill()
