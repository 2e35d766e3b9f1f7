"""Options of remote storage, and the credentials among them.

Credentials come from the environment, or from options of the command. They are never pickled,
printed or written.
"""

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from dsoftmax.errors import OptionError

OPTION = "--storage-option"
HARMLESS = frozenset({
    "account_name", "allow_http", "allow_invalid_certificates", "anon", "asynchronous",
    "block_size", "bucket", "bucket_name", "cache_regions", "conditional_put",
    "connect_timeout", "container_name", "default_block_size", "default_cache_type",
    "default_fill_cache", "default_region", "endpoint", "endpoint_url", "endpoint_url_s3",
    "google_bucket", "http1_only", "max_concurrency", "metadata_endpoint", "pool_idle_timeout",
    "pool_max_idle_per_host", "project", "region", "region_name", "request_payer",
    "requester_pays", "role_arn", "skip_instance_cache", "skip_signature", "sts_endpoint",
    "timeout", "unsigned_payload", "use_fabric_endpoint", "use_listings_cache", "use_ssl",
    "user_agent", "verify", "virtual_hosted_style_request",
})  # fmt: skip
"""Options that hold no credential. Every other option may hold one."""
PREFIXES = ("aws_", "azure_storage_", "azure_", "google_")
NAMES_WITH_AT = ("abfs://", "abfss://", "github://")
"""Beginnings of URLs in which "@" stands between names, such as container@account."""
NESTED = ("client_kwargs", "config_kwargs")
"""Options of fsspec that hold options themselves."""


@dataclass(frozen=True)
class StorageOptions:
    """Options of remote storage, whose values are never shown.

    Attributes
    ----------
    values : mapping from str to str
    """

    values: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def credentials(self) -> list[str]:
        """Names of the options that may hold a credential."""
        return credentials_in(self.values)

    def __reduce__(self) -> tuple[Any, ...]:
        require_no_credentials(self.credentials)
        return StorageOptions, (dict(self.values),)


_current: ContextVar[StorageOptions] = ContextVar("storage options")


@contextmanager
def using(options: StorageOptions) -> Iterator[None]:
    """Open every URL in the block with these options."""
    token = _current.set(options)
    try:
        yield
    finally:
        _current.reset(token)


def current() -> StorageOptions:
    """Return the options with which URLs are opened now."""
    return _current.get(StorageOptions())


def options_of(words: tuple[str, ...]) -> StorageOptions:
    """Return the options in words such as ``region=eu-west-1``.

    Raises
    ------
    OptionError
        A word is not KEY=VALUE, or a key is given twice. The message holds no value.
    """
    values: dict[str, str] = {}
    for number, word in enumerate(words, 1):
        key, equals, value = word.partition("=")
        if not (equals and re.fullmatch(r"\w+", key)):
            raise OptionError(
                f"{OPTION} number {number} has no key; expected KEY=VALUE. Pass for example "
                f"{OPTION} region=eu-west-1. The value is not shown, because it may be secret."
            )
        if key in values:
            raise OptionError(f"{OPTION} {key} is given twice; expected once. Leave one out.")
        values[key] = value
    return StorageOptions(values)


def credentials_in(values: Mapping[str, Any]) -> list[str]:
    """Return the names of the options that may hold a credential."""
    found = []
    for name, value in values.items():
        if name in NESTED and isinstance(value, Mapping):
            found += credentials_in(value)
        elif value is not None and _plain(name) not in HARMLESS:
            found.append(name)
    return sorted(found)


def _plain(name: str) -> str:
    lower = name.lower()
    for prefix in PREFIXES:
        if lower.startswith(prefix):
            return lower.removeprefix(prefix)
    return lower


def require_no_credentials(names: list[str]) -> None:
    """Raise if there are credentials, which would travel to other processes.

    Raises
    ------
    OptionError
    """
    if names:
        raise OptionError(
            f"The storage was opened with {', '.join(names)}, which may be a credential, and "
            "credentials are not sent to the workers of a cluster; expected them in the "
            "environment of every worker. Set for example AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY there, and open the storage without them."
        )


def public_words(words: list[str]) -> list[str]:
    """Return the words of a command, without the values of options that may be credentials."""
    shown, next_is_option = [], False
    for word in words:
        if next_is_option:
            shown.append(_public(word))
        elif word.startswith(f"{OPTION}="):
            shown.append(f"{OPTION}={_public(word.removeprefix(f'{OPTION}='))}")
        else:
            shown.append(word)
        next_is_option = word == OPTION and not next_is_option
    return shown


def _public(word: str) -> str:
    key, equals, value = word.partition("=")
    if not equals:
        return "KEY=VALUE"
    harmless = _plain(key) in HARMLESS and not re.search("[@?]", value)
    return word if harmless else f"{key}=VALUE"


def public_url(url: str) -> str:
    """Return a URL without the user, the password and the query that it may have."""
    scheme, mark, rest = url.partition("://")
    if not mark:
        return url
    host, slash, path = rest.partition("?")[0].partition("/")
    return f"{scheme}://{host.rpartition('@')[2]}{slash}{path}"


def require_public(url: str) -> None:
    """Raise if a URL holds a password or a signature.

    Raises
    ------
    OptionError
    """
    if public_url(url) == url or url.startswith(NAMES_WITH_AT):
        return
    raise OptionError(
        f"The URL of {public_url(url)} holds a user, a password or a query, which would be written "
        "with it into run files and messages; expected a URL alone. Set credentials in the "
        f"environment, or pass them as {OPTION} KEY=VALUE."
    )
