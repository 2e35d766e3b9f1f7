"""An exported file, which appears whole or not at all."""

from pathlib import Path

from dsoftmax.errors import OutputExistsError
from dsoftmax.system.files import exists, make_directory, replacing


def require_free(path: Path | str, overwrite: bool) -> Path:
    """Return the path of an output, after a check that nothing is lost by it.

    Raises
    ------
    OutputExistsError
    """
    path = Path(path)
    if path.is_dir():
        raise OutputExistsError(f"{path} is a directory; expected the name of a file. Name one.")
    if exists(path) and not overwrite:
        raise OutputExistsError(
            f"{path} exists and would be overwritten. Pass overwrite=True (--overwrite), or "
            "another path."
        )
    return path


def write_bytes(path: Path | str, content: bytes, overwrite: bool) -> None:
    """Write a file, and the directories above it if they do not exist.

    Raises
    ------
    OutputExistsError, WriteError
    """
    path = require_free(path, overwrite)
    make_directory(path.parent, len(content))
    with replacing(path, len(content), overwrite) as file:
        file.write(content)
