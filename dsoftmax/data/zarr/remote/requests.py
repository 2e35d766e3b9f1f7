"""Requests that are repeated: networks and servers fail now and then."""

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

from dsoftmax.data.retries import count_retry
from dsoftmax.data.zarr.remote.faults import fault_of
from dsoftmax.errors import AccessError

T = TypeVar("T")

TRIES = 8
"""Number of times that a request is made. The pauses add up to 6.35 s, because servers that
throttle ask for pauses of seconds."""
PAUSE = 0.05
"""Time before the second try, in seconds. Each further pause is twice as long."""
TIMEOUT = 60.0
"""Time for the first try, in seconds. A try after a silence has twice as long, because the link may
be slow and the chunk large."""
SILENCES = 3
"""Number of silences that end a request: after 60, 120 and 240 s."""
OTHERS = 2
"""Number of tries in a store that its user opened, because the store repeats requests itself."""


class RefusedError(AccessError):
    """The server forbids the request."""


async def repeated(
    request: Callable[[], Awaitable[T]], url: str, key: str, tries: int | None = None
) -> T:
    """Return the answer of a request, after a limited number of tries.

    Parameters
    ----------
    request : callable
        Makes the request.
    url : str
        URL of the store.
    key : str
        Path of the object in it.
    tries : int, optional
        `TRIES` when None.

    Raises
    ------
    AccessError
        The server forbids the request, or did not answer.
    """
    silences = 0
    for attempt in itertools.count(1):
        seconds = TIMEOUT * 2**silences
        try:
            return await asyncio.wait_for(request(), seconds)
        except FileNotFoundError:
            raise
        except Exception as error:
            fault = fault_of(error, url, seconds)
            silences += isinstance(error, TimeoutError)
        if not fault.transient or attempt == (tries or TRIES) or silences == SILENCES:
            kind = RefusedError if fault.refused else AccessError
            # The cause may hold the answer of the server, in which keys are repeated.
            raise kind(fault.message(f"{url.rstrip('/')}/{key}", attempt)) from None
        count_retry()
        await asyncio.sleep(PAUSE * 2 ** (attempt - 1))
    raise AssertionError("unreachable")
