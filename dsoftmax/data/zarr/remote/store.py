"""Stores of Zarr whose objects lie behind a network."""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import FsspecStore, ObjectStore, WrapperStore

from dsoftmax.compat.zarr import with_store
from dsoftmax.data.zarr.remote.options import credentials_in, public_url, require_no_credentials
from dsoftmax.data.zarr.remote.requests import OTHERS, RefusedError, repeated
from dsoftmax.errors import AccessError

METADATA = ("zarr.json", ".zarray", ".zgroup", ".zattrs", ".zmetadata")
"""Names of Zarr's metadata files. Opening an array asks for several of them."""
Reopen = tuple[Callable[..., "RemoteStore"], tuple[Any, ...]]


class RemoteStore(WrapperStore[Store]):  # type: ignore[misc]
    """A store of obstore or fsspec. Its requests are repeated and counted.

    Parameters
    ----------
    store : ObjectStore or FsspecStore
    url : str, optional
        URL of the store, without credentials.
    reopen : (callable, tuple), optional
        Function and arguments that open the store in another process. They hold no credentials
        that can be pickled. By default the wrapped store is pickled.

    Attributes
    ----------
    refusal : AccessError or None
        First answer that forbade to read metadata. Such metadata count as absent, because S3
        answers so for absent objects, if the reader may not list them.
    """

    def __init__(self, store: Store, url: str | None = None, reopen: Reopen | None = None) -> None:
        super().__init__(store)
        self.url = public_url(_url(store)) if url is None else url
        self._reopen = reopen
        self._tries = OTHERS if reopen is None else None
        self.refusal: AccessError | None = None

    def _with_store(self, store: Store) -> "RemoteStore":
        return RemoteStore(store, self.url, self._reopen)

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"RemoteStore({self.url!r})"

    def __reduce__(self) -> tuple[Any, ...]:
        if self._reopen is not None:
            return self._reopen
        require_no_credentials(credentials_of(self._store))
        return RemoteStore, (self._store, self.url)

    @property
    def inner(self) -> Store:
        """The wrapped store."""
        return self._store

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        try:
            return await repeated(
                lambda: self._store.get(key, prototype, byte_range), self.url, key, self._tries
            )
        except RefusedError as error:
            if key.rpartition("/")[2] not in METADATA:
                raise
            self.refusal = self.refusal or error
            return None

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        found = [self.get(key, prototype, byte_range) for key, byte_range in key_ranges]
        return list(await asyncio.gather(*found))

    async def exists(self, key: str) -> bool:
        return await repeated(lambda: self._store.exists(key), self.url, key, self._tries)


def is_remote(store: Store) -> bool:
    """Return whether a store asks a server for its objects."""
    if isinstance(store, RemoteStore):
        return is_remote(store.inner)
    if isinstance(store, ObjectStore):
        return type(store.store).__name__ not in ("LocalStore", "MemoryStore")
    if isinstance(store, FsspecStore):
        return not {"memory", "file", "local"} & set(_protocols(store))
    return False


def as_remote(array: zarr.Array) -> zarr.Array:
    """Return the same array, read through a `RemoteStore`."""
    store = array.store_path.store
    return array if isinstance(store, RemoteStore) else with_store(array, RemoteStore(store))


def credentials_of(store: Store) -> list[str]:
    """Return the names of the options of a store that may hold credentials."""
    if isinstance(store, ObjectStore):
        config = dict(getattr(store.store, "config", None) or {})
        client = dict(getattr(store.store, "client_options", None) or {})
        headers = ["default_headers"] if client.get("default_headers") else []
        held = ["a password in the URL"] if _url(store) != public_url(_url(store)) else []
        return credentials_in(config) + headers + held
    if isinstance(store, FsspecStore):
        return credentials_in(dict(getattr(store.fs, "storage_options", None) or {}))
    return []


def _url(store: Store) -> str:
    """Return the URL of a store of obstore or fsspec."""
    if isinstance(store, ObjectStore):
        inner: Any = store.store
        if getattr(inner, "url", None):
            return str(inner.url)
        schemes = {"S3Store": "s3", "GCSStore": "gs", "AzureStore": "az"}
        config = dict(getattr(inner, "config", None) or {})
        scheme = schemes.get(type(inner).__name__)
        bucket = config.get("bucket") or config.get("container_name")
        if scheme and bucket:
            return f"{scheme}://{bucket}/{getattr(inner, 'prefix', None) or ''}".rstrip("/")
        return str(store)
    if isinstance(store, FsspecStore):
        return store.path if "://" in store.path else f"{_protocols(store)[0]}://{store.path}"
    return str(store)


def _protocols(store: FsspecStore) -> tuple[str, ...]:
    protocol = store.fs.protocol
    return (protocol,) if isinstance(protocol, str) else tuple(protocol)
