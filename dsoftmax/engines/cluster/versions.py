"""The same version of dsoftmax on every machine: another version may compute something else."""

from collections.abc import Sequence

from distributed import Client

from dsoftmax import __version__
from dsoftmax.compat.distributed import address_of, run_on
from dsoftmax.errors import ClusterError


def check_versions(client: Client, addresses: Sequence[str], timeout: float) -> None:
    """Raise unless the workers at these addresses have this version of dsoftmax.

    Raises
    ------
    ClusterError
        A worker has another version, or none.
    """
    if not addresses:
        return

    # A function inside a function is pickled whole. Another one would be looked up in the
    # dsoftmax of the worker.
    def version() -> str:
        try:
            from dsoftmax import __version__
        except ImportError:
            return "none"
        return __version__

    for address, found in run_on(client, version, addresses, timeout).items():
        if found != __version__:
            raise different_version(client, f"the worker at {address} (version: {found})")


def different_version(client: Client, who: str) -> ClusterError:
    """Build the error that names a scheduler or worker with another version."""
    return ClusterError(
        f"dsoftmax {__version__} runs here, and not at {who} of the cluster at "
        f"{address_of(client)}. "
        "Install the same version for the scheduler and every worker, and start them again."
    )
