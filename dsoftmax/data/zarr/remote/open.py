"""Stores by their URL, opened by obstore where it can, and by fsspec otherwise."""

import json
import os
import re
from collections.abc import Mapping
from typing import Any

from zarr.abc.store import Store
from zarr.storage import FsspecStore, ObjectStore

from dsoftmax.data.zarr.remote.faults import NO_BUCKET, fault_of
from dsoftmax.data.zarr.remote.options import StorageOptions, current, require_public
from dsoftmax.data.zarr.remote.store import RemoteStore
from dsoftmax.errors import AccessError, OptionError

BY_OBSTORE = ("s3", "s3a", "gs", "az", "adl", "azure", "abfs", "abfss", "http", "https")
"""Schemes that obstore knows. fsspec opens all others."""
CLIENT = (
    "allow_http", "allow_invalid_certificates", "connect_timeout", "default_headers", "http1_only",
    "pool_idle_timeout", "pool_max_idle_per_host", "proxy_url", "timeout", "user_agent",
)  # fmt: skip
"""Options of obstore's HTTP client. All others belong to the storage."""
NAMES = {"anon": "skip_signature", "key": "access_key_id", "secret": "secret_access_key"}
"""Names that s3fs gives to options of obstore."""
ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT", "AZURE_ENDPOINT")
NO_LIMIT = "24h"
"""Timeout of obstore's client. The requests have a timeout of their own."""


def open_store(url: str) -> RemoteStore:
    """Return the store at a URL, for reading. Nothing is requested yet.

    The options are those of `dsoftmax.data.zarr.remote.options.using`. Credentials are otherwise
    those of the environment.

    Parameters
    ----------
    url : str
        ``s3://``, ``gs://``, ``az://``, ``https://``, or any URL of fsspec.

    Raises
    ------
    OptionError
        An option is unknown, a package is not installed, or the URL holds a credential.
    """
    return _open(url, current())


def _open(url: str, options: StorageOptions) -> RemoteStore:
    require_public(url)
    url = url.rstrip("/")
    store = _by_obstore(url, options.values) or _by_fsspec(url, options.values)
    return RemoteStore(store, url, (_open, (url, options)))


def _by_obstore(url: str, values: Mapping[str, str]) -> Store | None:
    """Return the store of obstore; None if it is not installed, or does not know the scheme."""
    if url.partition("://")[0] not in BY_OBSTORE:
        return None
    try:
        from obstore.exceptions import BaseError
        from obstore.store import from_url
    except ImportError:
        return None
    options = _settings(url, values)
    options["client_options"].setdefault("timeout", NO_LIMIT)
    try:
        # Requests are repeated, and counted, by RemoteStore.
        inner = from_url(url, retry_config={"max_retries": 0}, **options)
    except (BaseError, ValueError, TypeError) as error:
        raise _unknown(url, values, error) from None
    return ObjectStore(inner, read_only=True)


def _settings(url: str, values: Mapping[str, str]) -> dict[str, Any]:
    """Return the options of the storage and of its HTTP client, as obstore takes them."""
    named = {NAMES.get(key, key): value for key, value in values.items()}
    client = {key: value for key, value in named.items() if key in CLIENT}
    config = {key: value for key, value in named.items() if key not in CLIENT}
    if url.startswith("http://") or _endpoint(config).startswith("http://"):
        client.setdefault("allow_http", "true")
    return {"client_options": client, **({"config": config} if config else {})}


def file_system(url: str) -> tuple[Any, str]:
    """Return a file system of fsspec for a URL, and the path in it, for files that are not Zarr.

    The options are those of `open_store`. The library repeats failed requests itself, and they are
    not counted.

    Raises
    ------
    OptionError
        As `open_store`.

    Notes
    -----
    A pickled file system holds the options. So a reader pickles its URL, and opens it again where
    it is unpickled.
    """
    require_public(url)
    scheme, _, path = url.partition("://")
    values = current().values
    if scheme in BY_OBSTORE[:-2]:
        try:
            from obstore.fsspec import FsspecStore as FilesOfObstore
        except ImportError:
            pass
        else:
            made: Any = FilesOfObstore
            return made(scheme, **_settings(url, values)), path
    from fsspec.core import url_to_fs

    try:
        found: tuple[Any, str] = url_to_fs(url, **_typed_all(values))
    except ImportError:
        raise _not_installed(url) from None
    except Exception as error:
        raise _unknown(url, values, error) from None
    return found


def _endpoint(config: Mapping[str, str]) -> str:
    """Return the endpoint that the options or the environment name; empty if they name none."""
    stated = [value for key, value in config.items() if key.endswith(("endpoint", "endpoint_url"))]
    return next(filter(None, [*stated, *map(os.environ.get, ENDPOINTS)]), "")


def _by_fsspec(url: str, values: Mapping[str, str]) -> Store:
    try:
        return FsspecStore.from_url(url, storage_options=_typed_all(values), read_only=True)
    except ImportError:
        raise _not_installed(url) from None
    except Exception as error:
        raise _unknown(url, values, error) from None


def _not_installed(url: str) -> OptionError:
    scheme = url.partition("://")[0]
    cure = (
        "pip install 'dsoftmax[remote]'"
        if scheme in BY_OBSTORE
        else f"pip install with the package of fsspec that opens {scheme}://"
    )
    return OptionError(
        f"{url} needs a package that is not installed; expected obstore, or one of fsspec. Run "
        f"{cure}."
    )


def _typed_all(values: Mapping[str, str]) -> dict[str, Any]:
    return {key: _typed(value) for key, value in values.items()}


def _unknown(url: str, values: Mapping[str, str], error: Exception) -> OptionError:
    """Return the error for options or a URL that a library does not understand."""
    text = str(error)
    bad = [key for key in values if f"'{key}'" in text or f"Invalid key: {key}" in text]
    if bad:
        return OptionError(
            f"--storage-option {bad[0]} is unknown for {url}; expected a key of obstore or fsspec, "
            "such as region, endpoint or access_key_id. Check its spelling."
        )
    if isinstance(error, ValueError) and "rotocol not known" in text:
        return OptionError(
            f"{url} has an unknown scheme; expected s3://, gs://, az://, https://, or another that "
            "fsspec knows. Check its spelling."
        )
    named = f", with --storage-option {', '.join(values)}" if values else ""
    fault = fault_of(error, url, 0)
    why = fault.found if not fault.transient else type(error).__name__
    cure = "Check the URL and the values of the options" if fault.transient else fault.cure
    return OptionError(
        f"{url} cannot be opened{named} ({why}); expected a URL and options that fit it. {cure}"
    )


def _typed(value: str) -> Any:
    """Return true, false and JSON objects as such, and other values as text."""
    if value in ("true", "false") or value.startswith("{"):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value


def require_bucket(store: RemoteStore) -> None:
    """Raise if nothing was found in a store because its bucket does not exist, or is closed.

    Raises
    ------
    AccessError
    """
    if store.refusal is not None:
        raise AccessError(str(store.refusal)) from None
    if not isinstance(store.inner, ObjectStore):
        return
    import obstore

    try:
        obstore.get(store.inner.store, "zarr.json")
    except Exception as error:
        if re.search(NO_BUCKET, str(error)):
            raise AccessError(fault_of(error, store.url, 0).message(store.url)) from None
