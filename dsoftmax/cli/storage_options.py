"""``--storage-option``: options of remote storage, for every URL that a command opens."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from dsoftmax.data.zarr.remote.options import OPTION, StorageOptions, options_of, using
from dsoftmax.errors import OptionError


def storage_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """Add the option to a command. It stands below `engine_options`, whose choice it reads."""

    @click.option(
        OPTION,
        "storage_option",
        multiple=True,
        metavar="KEY=VALUE",
        help="Option of remote storage, such as region=eu-west-1 or skip_signature=true. May be "
        "repeated. Credentials are better set in the environment.",
    )
    @wraps(function)
    def command(*args: Any, storage_option: tuple[str, ...], **options: Any) -> Any:
        found = options_of(storage_option)
        _require_here(found, options.get("choice"))
        with using(found):
            return function(*args, **options)

    return command


def _require_here(options: StorageOptions, choice: Any) -> None:
    """Raise if credentials would have to be sent to the workers of a cluster."""
    names = options.credentials
    if names and choice is not None and choice.engine == "cluster":
        raise OptionError(
            f"{OPTION} {names[0]} may be a credential, and credentials are not sent to the workers "
            "of a cluster; expected them in the environment of every worker. Set for example "
            "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY there and here, and leave the option out."
        )
