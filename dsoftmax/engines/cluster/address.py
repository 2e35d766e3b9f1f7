"""The address of a running scheduler, its certificates, and the question whether one answers."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distributed import Security, rpc

from dsoftmax.errors import ClusterError
from dsoftmax.system.regular import read_json

ENCRYPTED = ("tls://", "wss://", "quic://")
"""Beginnings of the addresses that need certificates."""


@dataclass(frozen=True)
class Certificates:
    """Files of TLS, named as ``dask worker`` names them. None is a file that dask's settings name.

    Attributes
    ----------
    ca_file : str or None
        Certificates of the authority that has signed the scheduler's.
    cert, key : str or None
        Certificate and private key of this process.
    """

    ca_file: str | None = None
    cert: str | None = None
    key: str | None = None

    def security(self, where: str) -> Security:
        """Return what dask needs to connect to an address.

        Raises
        ------
        ClusterError
            A file is missing or holds no certificate, or the address needs some and there are none.
        """
        named: dict[str, str | None] = {"tls_ca_file": self.ca_file, "tls_client_cert": self.cert}
        named["tls_client_key"] = self.key
        given = {name: value for name, value in named.items() if value is not None}
        for file in given.values():
            if not Path(file).is_file():
                raise ClusterError(f"There is no file {file}; expected a certificate or a key.")
        try:
            security = Security(**given, **({"require_encryption": True} if given else {}))
            encrypts = security.get_connection_args("client").get("ssl_context") is not None
        except Exception as error:
            raise ClusterError(
                f"The certificates for {where} cannot be used ({type(error).__name__}: {error}). "
                "Pass files in PEM format: --tls-ca-file, --tls-cert, and --tls-key that belongs "
                "to the certificate."
            ) from error
        if where.startswith(ENCRYPTED) and not encrypts:
            raise ClusterError(
                f"{where} is encrypted, and this process has no certificates. Pass --tls-ca-file, "
                "--tls-cert and --tls-key, as for `dask worker`, or set "
                "DASK_DISTRIBUTED__COMM__TLS__CA_FILE, …__CLIENT__CERT and …__CLIENT__KEY."
            )
        return security


def address_in(path: str) -> str:
    """Return the address in the file that ``dask scheduler --scheduler-file`` writes.

    Raises
    ------
    ClusterError
        The file does not exist, or holds no address.
    """
    if not Path(path).is_file():
        raise ClusterError(
            f"There is no scheduler file {path}. "
            f"`dask scheduler --scheduler-file {path}` writes it."
        )
    try:
        found = read_json(Path(path))
    except (OSError, ValueError) as error:
        found = f"no JSON ({type(error).__name__})"
    address = found.get("address") if isinstance(found, dict) else None
    if not isinstance(address, str):
        shown = found if isinstance(found, str) else "JSON without an address"
        raise ClusterError(
            f"{path} holds {shown}; expected what `dask scheduler --scheduler-file {path}` writes. "
            "Wait until the scheduler has started, or write the file again."
        )
    return address


def require_answer(address: str, timeout: float, security: Security) -> None:
    """Ask a scheduler for its identity, within one limit for connection and answer.

    dask's own client limits the connection, but not the wait for the first answer.

    Raises
    ------
    ClusterError
        Nothing answers, or something that is no dask scheduler.
    """

    async def ask() -> Any:
        async with rpc(address, connection_args=security.get_connection_args("client")) as found:
            return await found.identity()

    async def ask_in_time() -> Any:
        return await asyncio.wait_for(ask(), timeout)

    try:
        asyncio.run(ask_in_time())
    except Exception as error:  # each protocol, and whatever listens there, has errors of its own
        late = isinstance(error, OSError)  # TimeoutError is one
        why = f" within {timeout:g} s" if late else ""
        raise ClusterError(
            f"No dask scheduler answered at {address}{why} ({type(error).__name__}"
            f"{'' if late else f': {str(error)[:200]}'}). Check the address, and that "
            "`dask scheduler` runs there and can be reached from here."
        ) from error
