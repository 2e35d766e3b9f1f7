"""Shares of remote data on workers: options travel, credentials do not."""

import numpy as np
import obstore.store
import pytest
import zarr
from counted import bits, rows_and_labels
from opening import opened
from zarr.storage import ObjectStore

from dsoftmax.data.zarr.names import open_array
from dsoftmax.data.zarr.remote.options import StorageOptions, using
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.errors import OptionError

X = np.arange(120.0).reshape(40, 3) + 1


@pytest.fixture
def url(s3, tmp_path):
    zarr.create_array(tmp_path / "X", data=X, chunks=(5, 3))
    zarr.create_array(tmp_path / "y", data=np.arange(40) % 3 + 1, chunks=(10,))
    return s3.put(tmp_path, "shares.zarr")


def test_workers_read_with_the_options_that_are_no_credentials(s3, url, two_workers, monkeypatch):
    monkeypatch.delenv("AWS_ENDPOINT_URL")
    public = {"endpoint": s3.proxy.url, "skip_signature": "true"}
    with using(StorageOptions(public)):
        source = opened(open_array(url, "X"), open_array(url, "y"))
    s3.proxy.fault = lambda path, number: "" if number else "503"
    found = two_workers.total(rows_and_labels, source)
    assert sum(done.retries for done in found.work.values()) == s3.proxy.failed > 0
    assert bits(found.result()) == bits(SerialEngine().total(rows_and_labels, source).result())


def test_a_store_with_a_credential_is_refused_before_it_is_sent(s3, url, two_workers):
    inner = obstore.store.S3Store(
        "bucket",
        prefix="shares.zarr",
        endpoint=s3.proxy.url,
        client_options={"allow_http": True},
        access_key_id="AKIATYPED",
        secret_access_key="secret-typed",
    )
    store = ObjectStore(inner, read_only=True)
    source = opened(*(zarr.open_array(store, path=name, mode="r") for name in ("X", "y")))
    with pytest.raises(OptionError, match=r"access_key_id, secret_access_key.*not sent") as error:
        two_workers.total(rows_and_labels, source)
    assert "secret-typed" not in str(error.value)
    assert s3.proxy.of_chunks() == {}
