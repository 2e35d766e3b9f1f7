"""Commands on remote storage: the bits of local data, resumed runs, and no credential anywhere."""

import json
from pathlib import Path

import numpy as np
import pytest
import zarr
from command_data import write_small_store
from commands import passes, refused, run, theta, train
from flaky_server import some

from dsoftmax.data.zarr.remote import requests
from dsoftmax.engines.kept.memory import Cache

SECRETS = ("AKIAENVIRONMENT", "secret-of-environment", "AKIATYPED", "secret-typed", "AKIASECRET")
TYPED = (
    *("--storage-option", "access_key_id=AKIATYPED"),
    "--storage-option=secret_access_key=secret-typed",
)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(requests, "PAUSE", 0.001)


@pytest.fixture(scope="module")
def url(s3_server, tmp_path_factory):
    """The small store in the bucket."""
    path = tmp_path_factory.mktemp("small") / "data.zarr"
    write_small_store(path)
    return s3_server.put(path, "commands/data.zarr")


@pytest.fixture
def here(s3, tmp_path, monkeypatch):
    """The server, and a working directory with the small store."""
    monkeypatch.chdir(tmp_path)
    write_small_store(tmp_path / "data.zarr")
    return s3


def secrets_in(result):
    """The secrets in the output of a command, and in the files of its run."""
    files = (file for file in Path("run").rglob("*") if file.is_file())
    text = (
        result.output + result.stderr + "".join(file.read_text(errors="ignore") for file in files)
    )
    return [one for one in SECRETS if one in text]


def test_the_model_has_the_bits_of_local_data_and_retries_are_in_the_history(here, url):
    assert train().exit_code == 0
    expected = theta()
    here.proxy.fault = lambda path, number: "503" if "/X/c/" in path and number == 1 else ""
    result = train(url, "X", "y", "--overwrite")
    assert result.exit_code == 0, result.output
    np.testing.assert_array_equal(theta(), expected)
    lines = [json.loads(line) for line in Path("run/history.jsonl").read_text().splitlines()]
    retries = sum(one["retries"] for line in lines for one in line["work"].values())
    assert 0 < retries <= here.proxy.failed == 4  # the fingerprint's requests are of no pass
    assert secrets_in(result) == []


def test_the_command_in_the_run_names_options_and_holds_no_value_of_a_credential(here, url):
    options = (*TYPED, "--storage-option", "region=us-east-1")
    result = train(url, "X", "y", *options)
    assert result.exit_code == 0, result.output
    words = json.loads(Path("run/run.json").read_text())["command"]
    assert words[-4:] == [
        "access_key_id=VALUE",
        "--storage-option=secret_access_key=VALUE",
        "--storage-option",
        "region=us-east-1",
    ]
    assert secrets_in(result) == []
    again = train(url, "X", "y", *options)
    assert again.exit_code == 0
    assert secrets_in(again) == []


def test_a_run_resumes_after_the_network_was_gone(here, url):
    options = ("--solver", "lbfgs", "--engine", "serial", "--max-iter", "6", "--tol", "0")
    assert train(url, "X", "y", *options).exit_code == 3
    expected = theta()
    here.proxy.calm()
    here.proxy.fault = lambda path, number: "reset" if number > 3 else ""
    result = refused(
        train(url, "X", "y", *options, "--overwrite"),
        "cannot be read: the server failed",
        "in 8 tries; expected an answer",
        "run the same command again",
    )
    assert secrets_in(result) == []
    assert 0 < len(passes()) < 7
    here.proxy.calm()
    assert train(url, "X", "y", *options).exit_code == 3
    np.testing.assert_array_equal(theta(), expected)


def test_the_spool_makes_later_passes_local(here, url, monkeypatch):
    monkeypatch.setattr(Cache, "fits", lambda cache, n_bytes: False)
    options = ("--solver", "lbfgs", "--max-iter", "4", "--tol", "0", "--spool", "spool")
    result = train(url, "X", "y", *options)
    assert result.exit_code == 3, result.output
    assert len(passes()) >= 5
    read = [number for path, number in here.proxy.of_chunks().items() if "/X/" in path]
    assert read == [2] * 4  # for the fingerprint of the only block, and for the first pass


BAD = {
    "another bucket": ("s3://nobody-has-it/a.zarr", "", ("its bucket does not exist (404 NoSuch",)),
    "no array": ("s3://bucket/nothing.zarr", "", ("is no Zarr array or group", "Check the addr")),
    "forbidden": (None, "403", ("forbids reading it (403 AccessDenied)", "AWS_ACCESS_KEY_ID")),
    "wrong key": (None, "wrong key", ("does not accept the key (403 InvalidAccessKeyId)",)),
    "gone": (None, "reset", ("the server failed (it closed the connection early) in 8 tries",)),
    "failing": (None, "500", ("the server answered 500 in 8 tries",)),
    "unknown scheme": ("x9://bucket/a.zarr", "", ("unknown scheme; expected s3://",)),
    "password": ("https://me:secret-typed@host.invalid/a", "", ("holds a user, a password",)),
    "signature": ("https://host.invalid/a?sig=secret-typed", "", ("or a query, which would be",)),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_opened_is_explained_without_a_credential(case, here, url):
    place, fault, parts = BAD[case]
    here.proxy.fault = lambda path, number: fault
    result = refused(train(place or url, "X", "y", *TYPED), *parts)
    assert secrets_in(result) == []
    assert not Path("run").exists()


def test_a_server_that_is_not_there_is_named(here, url, monkeypatch):
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1")
    refused(train(url), "the server failed (it refused the connection) in 8 tries")


def test_no_credentials_are_explained(here, url, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://169.254.169.254.invalid")
    refused(train(url), "no credentials were found", "AWS_SECRET_ACCESS_KEY", "skip_signature=true")
    result = train(url, "X", "y", "--storage-option", "skip_signature=true")
    assert result.exit_code == 0, result.output


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["secret-typed"], ["--storage-option number 1 has no key; expected KEY=VALUE"]),
        (["regoin=x"], ["--storage-option regoin is unknown", "Check its spelling"]),
        (["region=a", "region=b"], ["--storage-option region is given twice"]),
    ],
)
def test_wrong_options_are_explained(words, parts, here, url):
    options = [word for one in words for word in ("--storage-option", one)]
    assert secrets_in(refused(train(url, "X", "y", *options), *parts)) == []


def test_typed_credentials_are_refused_on_a_cluster_before_anything_starts(here, url):
    result = train(url, "X", "y", *TYPED, "--workers", "1")
    refused(result, "access_key_id may be a credential", "not sent to the workers")
    assert secrets_in(result) == []


def test_names_of_arrays_are_listed(here, url):
    refused(
        train(url, "Z"), "--features Z: s3://bucket/commands/data.zarr has no such array", "X, y"
    )
    refused(train(url, None), "--features is missing: which array of s3://", "It has X, y.")


def test_predictions_and_scores_of_remote_rows(here, url):
    assert train().exit_code == 0
    for data, out in (("data.zarr", "a"), (url, "b")):
        here.proxy.fault = some(0.5)
        assert run("predict", "run", data, "--features", "X", "--out", out).exit_code == 0
    labels = [zarr.open_array(f"{out}/labels", mode="r")[:] for out in "ab"]
    np.testing.assert_array_equal(*labels)
    result = run("evaluate", "run", url, "--features", "X", "--labels", "y", "--json")
    expected = run("evaluate", "run", "data.zarr", "--features", "X", "--labels", "y", "--json")
    assert json.loads(result.output) == json.loads(expected.output)
