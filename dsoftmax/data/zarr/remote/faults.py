"""What an error of remote storage means: whether to repeat the request, and what to tell the user.

Messages are made of the status and the code of an answer. The rest of it is never shown, because
servers repeat keys and signatures in their answers.
"""

import re
from dataclasses import dataclass
from typing import Any

WRONG_KEY = (
    "InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken",
    "TokenRefreshRequired", "InvalidSecurity", "AuthenticationFailed", "InvalidAuthenticationInfo",
)  # fmt: skip
"""Codes of S3 and Azure for a key that is wrong or expired."""
NO_BUCKET = r"NoSuchBucket|ContainerNotFound|[Bb]ucket does not exist|container does not exist"
NO_KEY = (
    r"169\.254\.169\.254|metadata\.google\.internal|NoCredentials|Unable to locate credentials|"
    r"MissingAccount|Could not load credentials"
)
"""Signs that no credentials were found, so that the library asked the machine for its own."""
CERTIFICATE = r"invalid peer certificate|CertificateVerifyFailed|CERTIFICATE_VERIFY_FAILED"
REGION = r"BareRedirect|PermanentRedirect|AuthorizationHeaderMalformed|IllegalLocationConstraint"
HTTP = r"URL scheme is not allowed|BadScheme"
REASONS = {
    r"dns error|getaddrinfo|Name or service not known|failed to lookup": "its name is unknown",
    r"[Cc]onnection refused|ConnectionRefused": "it refused the connection",
    r"IncompleteBody|IncompleteMessage|[Cc]onnection reset|ConnectionReset|body error|Disconnected"
    r"|IncompleteRead": "it closed the connection early",
    r"TimedOut|[Tt]imeout|timed out": "it did not answer in time",
    r"Connect\b|Cannot connect": "it could not be connected to",
}
"""Reasons of a connection that failed, by words of the libraries."""
VARIABLES = {
    "s3": "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
    "gs": "GOOGLE_SERVICE_ACCOUNT or GOOGLE_APPLICATION_CREDENTIALS",
    "az": "AZURE_STORAGE_ACCOUNT_NAME and AZURE_STORAGE_ACCOUNT_KEY",
}
"""Environment variables with credentials, by scheme."""
KEYS = {"s3": "access_key_id=… and secret_access_key=…", "az": "account_key=…"}


@dataclass(frozen=True)
class Fault:
    """An error of remote storage.

    Attributes
    ----------
    found, expected, cure : str
        Parts of the message.
    transient : bool
        Whether the same request may succeed later.
    refused : bool
        Whether the server forbids the request. S3 answers so for absent objects too, if the reader
        may not list them.
    """

    found: str
    expected: str
    cure: str
    transient: bool = False
    refused: bool = False

    def message(self, place: str, tries: int = 1) -> str:
        """Return the message about an object at ``place``."""
        tried = f" in {tries} tries" if tries > 1 else ""
        return f"{place} cannot be read: {self.found}{tried}; expected {self.expected}. {self.cure}"


def fault_of(error: BaseException, url: str, seconds: float) -> Fault:
    """Return what an error of obstore or fsspec means.

    Parameters
    ----------
    error : Exception
    url : str
        URL of the store; its scheme decides the cure.
    seconds : float
        Time that the request was given, in seconds.
    """
    text = f"{type(error).__name__} {error}"
    status, code = _status(error, text), _code(error, text)
    answer = " ".join(filter(None, (str(status) if status else "", code)))
    scheme = {"s3a": "s3", "gcs": "gs", "abfs": "az", "abfss": "az", "azure": "az"}.get(
        url.partition("://")[0], url.partition("://")[0]
    )
    with_key = _with_key(scheme)
    if isinstance(error, TimeoutError):
        return _unanswered(f"no answer came within {seconds:g} s")
    if status is not None and (status >= 500 or status in (408, 425, 429)):
        return Fault(
            f"the server answered {answer}",
            "the object",
            "The server is overloaded or failing. Run the same command again later.",
            transient=True,
        )
    if re.search(NO_KEY, text):
        return Fault(
            "no credentials were found",
            "a key that may read it",
            f"{with_key} If it is public, pass --storage-option skip_signature=true.",
        )
    if code in WRONG_KEY:
        return Fault(
            f"the server does not accept the key ({answer})",
            "a key that is valid now",
            with_key,
        )
    if isinstance(error, PermissionError) or status in (401, 403) or _denied(error):
        return Fault(
            f"the server forbids reading it ({answer or 'permission denied'})",
            "permission to read it",
            "Have the owner of the bucket allow it, or use another key. S3 says so for absent "
            "objects too, if the key may not list the bucket. " + with_key,
            refused=True,
        )
    if re.search(NO_BUCKET, text):
        return Fault(
            f"its bucket does not exist ({answer or 'not found'})",
            "an existing one",
            "Check the spelling of the URL, and the endpoint.",
        )
    if re.search(REGION, text):
        return Fault(
            "the bucket lies in another region",
            "its region",
            "Set AWS_REGION, or pass --storage-option region=….",
        )
    if re.search(CERTIFICATE, text):
        return Fault(
            "the certificate of the server is not trusted",
            "one that this machine trusts",
            "Check the address, or install the certificate of its authority.",
        )
    if re.search(HTTP, text):
        return Fault(
            "its address begins with http://",
            "https://",
            "Pass --storage-option allow_http=true if the network is safe.",
        )
    if status is not None:
        return Fault(f"the server answered {answer}", "the object", "Check the URL and the key.")
    reason = next((why for words, why in REASONS.items() if re.search(words, text)), "")
    return _unanswered(f"the server failed ({reason or type(error).__name__})")


def _unanswered(found: str) -> Fault:
    return Fault(
        found,
        "an answer",
        "Check the address, the endpoint and the network. Then run the same command again.",
        transient=True,
    )


def _with_key(scheme: str) -> str:
    variables, keys = VARIABLES.get(scheme), KEYS.get(scheme)
    if variables is None:
        return "Set credentials in the environment, or pass them as --storage-option KEY=VALUE."
    option = f", or pass --storage-option {keys}" if keys else ""
    return f"Set {variables} in the environment{option}."


def _status(error: BaseException, text: str) -> int | None:
    """Return the HTTP status of an answer."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):  # botocore
        found = response.get("ResponseMetadata", {}).get("HTTPStatusCode")
    else:
        found = getattr(error, "status", getattr(error, "code", None))  # aiohttp, gcsfs
    if isinstance(found, int):
        return found
    match = re.search(r"status code: (\d{3})\b", text)
    return int(match[1]) if match else None


def _code(error: BaseException, text: str) -> str:
    """Return the code of an answer, such as AccessDenied."""
    response: Any = getattr(error, "response", None)
    if isinstance(response, dict):
        found = str(response.get("Error", {}).get("Code", ""))
    else:
        match = re.search(r"<Code>(\w+)</Code>", text)
        found = match[1] if match else ""
    return found if re.fullmatch(r"[A-Za-z]{1,60}", found) else ""


def _denied(error: BaseException) -> bool:
    return type(error).__name__ in ("PermissionDeniedError", "UnauthenticatedError")
