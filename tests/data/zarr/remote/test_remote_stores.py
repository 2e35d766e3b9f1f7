"""Remote stores: opened by URL or by their users, sent to workers without credentials."""

import pickle
import sys

import cells
import numpy as np
import obstore.store
import pytest
import zarr
from numpy.testing import assert_array_equal
from opening import opened
from zarr.storage import FsspecStore, ObjectStore

from dsoftmax.data.anndata.element import KNOWN
from dsoftmax.data.zarr.names import encoding_of, open_array
from dsoftmax.data.zarr.remote import requests
from dsoftmax.data.zarr.remote.open import file_system
from dsoftmax.data.zarr.remote.options import (
    StorageOptions,
    credentials_in,
    options_of,
    public_url,
    public_words,
    using,
)
from dsoftmax.data.zarr.remote.store import is_remote
from dsoftmax.errors import AccessError, DataError, OptionError, ReadError

X = np.arange(60.0).reshape(20, 3) + 1
TYPED = {"access_key_id": "AKIATYPED", "secret_access_key": "secret-typed"}


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(requests, "PAUSE", 0.001)


@pytest.fixture
def url(s3, tmp_path):
    zarr.create_array(tmp_path / "X", data=X, chunks=(5, 3))
    return s3.put(tmp_path, "stores.zarr")


def share(array):
    return opened(array).share([0])


def by_obstore(s3, **config):
    inner = obstore.store.S3Store(
        "bucket", prefix="stores.zarr", endpoint=s3.proxy.url, **config, client_options=HTTP
    )
    return zarr.open_array(ObjectStore(inner, read_only=True), path="X", mode="r")


HTTP = {"allow_http": True}


def test_a_store_travels_without_its_credentials_and_finds_those_of_the_environment(s3, url):
    with using(StorageOptions({"region": "us-east-1"})):
        packed = pickle.dumps(share(open_array(url, "X")))
    assert b"secret-of-environment" not in packed
    assert b"AKIAENVIRONMENT" not in packed
    assert_array_equal(pickle.loads(packed).load(0).X, X)


def test_a_store_that_was_opened_with_a_credential_is_not_sent(s3, url):
    with using(StorageOptions(TYPED)):
        found = share(open_array(url, "X"))
    assert_array_equal(found.load(0).X, X)
    with pytest.raises(OptionError, match=r"with access_key_id, secret_access_key, .*environment"):
        pickle.dumps(found)


def test_a_store_of_obstore_is_sent_unless_it_holds_a_credential(s3, url):
    packed = pickle.dumps(share(by_obstore(s3)))
    assert_array_equal(pickle.loads(packed).load(0).X, X)
    with pytest.raises(OptionError, match="access_key_id, secret_access_key"):
        pickle.dumps(share(by_obstore(s3, **TYPED)))
    plain = obstore.store.HTTPStore("https://me:secret-typed@host.invalid/a.zarr")
    array = by_obstore(s3)
    array.store_path.store.store = plain
    described = opened(array)
    assert "secret-typed" not in str(described.describe())
    with pytest.raises(OptionError, match="a password in the URL"):
        pickle.dumps(described.share([0]))


def test_a_store_that_its_user_opened_costs_one_request_a_chunk_and_is_repeated(s3, url):
    array = by_obstore(s3)
    s3.proxy.fault = lambda path, number: "" if number else "503"
    assert_array_equal(opened(array).load(0).X, X)
    requests_of = s3.proxy.of_chunks()
    assert len(requests_of) == 4
    # obstore repeats too, with the settings of its user; nothing is asked a third time.
    assert set(requests_of.values()) == {2}


def test_any_url_of_fsspec_is_read(tmp_path):
    store = FsspecStore.from_url("memory://remote-stores.zarr")
    zarr.create_array(store, name="X", data=X, chunks=(5, 3))
    assert_array_equal(opened(open_array("memory://remote-stores.zarr", "X")).load(0).X, X)
    with pytest.raises(DataError, match=r"has no such array\. Did you mean X\?"):
        open_array("memory://remote-stores.zarr", "XX")
    zarr.create_array(tmp_path / "Y", data=X, chunks=(5, 3))
    assert_array_equal(opened(open_array(f"file://{tmp_path}", "Y")).load(0).X, X)
    with pytest.raises(ReadError, match="is no Zarr array or group"):
        open_array("memory://nothing.zarr", "X")


def test_other_files_are_read_through_a_file_system_with_the_same_options(s3, tmp_path):
    (tmp_path / "table.bin").write_bytes(b"0123456789")
    url = s3.put(tmp_path, "files")
    with using(StorageOptions({"region": "us-east-1"})):
        files, path = file_system(f"{url}/table.bin")
    with files.open(path) as file:
        file.seek(4)
        assert file.read(3) == b"456"
    files, path = file_system(f"file://{tmp_path}/table.bin")
    assert files.cat_file(path, 4, 7) == b"456"
    with pytest.raises(OptionError, match="needs a package that is not installed"):
        file_system("dropbox://a/b")


@pytest.mark.parametrize("opening", [lambda url: open_array(url, "X"), file_system])
def test_a_package_that_is_missing_is_named_with_its_cure(opening, monkeypatch):
    for name in ("obstore", "obstore.store", "obstore.fsspec", "obstore.exceptions", "s3fs"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(OptionError, match=r"Run pip install 'dsoftmax\[remote\]'"):
        opening("s3://bucket/stores.zarr")


def test_anndata_behind_a_url_is_read_as_local(s3, tmp_path):
    root = cells.root(tmp_path / "a.zarr")
    matrix = cells.csr(root, "X", np.eye(6, 4, dtype="f4"), chunks=(3,))
    obs = cells.encoded(root, "obs", "dataframe")
    column = cells.encoded(obs, "kind", cells.CATEGORICAL)
    cells.put(column, "codes", np.array([0, 1, -1, 0, 1, 1], "i1"))
    cells.put(column, "categories", np.array(["a", "b"]))
    url = s3.put(tmp_path / "a.zarr", "cells.zarr")
    assert encoding_of(url) == "anndata"
    found = opened(*(open_array(url, name, encodings=KNOWN) for name in ("X", "obs/kind"))).load(0)
    expected = opened(matrix, column).load(0)
    assert_array_equal(found.X.toarray(), expected.X.toarray())
    assert_array_equal(found.y, expected.y)
    with pytest.raises(DataError, match=r"is a part of obs/kind.*Pass obs/kind"):
        opened(open_array(url, "X", encodings=KNOWN), open_array(url, "obs/kind/codes"))
    with pytest.raises(DataError, match=r"is a part of obs/kind.*Pass obs/kind"):
        opened(X[:6], open_array(f"{url}/obs/kind/codes", None))


def test_metadata_that_may_not_be_listed_are_absent_unless_nothing_else_is_found(s3, tmp_path):
    zarr.create_array(tmp_path / "X", data=X, chunks=(5, 3), zarr_format=2)
    url = s3.put(tmp_path, "second.zarr")
    s3.proxy.fault = lambda path, number: "403" if path.endswith("zarr.json") else ""
    assert open_array(url, "X").metadata.zarr_format == 2
    with pytest.raises(AccessError, match="403 AccessDenied"):
        open_array(url, "Y")


@pytest.mark.parametrize(
    ("name", "secret"),
    [
        *[("region", False), ("aws_region", False), ("endpoint", False), ("anon", False)],
        *[("secret", True), ("AWS_SECRET_ACCESS_KEY", True), ("sas_token", True), ("new", True)],
    ],
)
def test_every_option_that_is_not_known_as_harmless_may_be_a_credential(name, secret):
    assert bool(credentials_in({name: "x"})) == secret
    assert bool(credentials_in({"client_kwargs": {name: "x"}})) == secret
    for words in (["--storage-option", f"{name}=x"], [f"--storage-option={name}=x"]):
        shown = public_words(["dsoftmax", *words, "--out", "run"])
        assert (shown == ["dsoftmax", *words, "--out", "run"]) != secret
        assert shown[-1] == "run"
    assert "x" not in repr(options_of((f"{name}=x",))).replace("values", "")


def test_urls_are_shown_without_user_and_query():
    assert public_url("https://me:p@host/a?sig=1") == "https://host/a"
    assert public_url("s3://bucket/a.zarr") == "s3://bucket/a.zarr"
    assert public_url("/local/a@b?") == "/local/a@b?"
    assert public_words(["--storage-option", "endpoint=http://me:p@host"])[1] == "endpoint=VALUE"


def test_stores_in_this_process_are_not_remote(tmp_path):
    assert not is_remote(zarr.storage.LocalStore(tmp_path))
    assert not is_remote(zarr.storage.MemoryStore())
    assert not is_remote(ObjectStore(obstore.store.MemoryStore()))
    assert not is_remote(FsspecStore.from_url("memory://x"))
