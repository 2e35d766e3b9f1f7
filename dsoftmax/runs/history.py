"""The history file: one line of JSON for every pass of a run."""

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any

from dsoftmax.errors import ReadError
from dsoftmax.system.files import write_text, writing
from dsoftmax.system.regular import open_regular, parse_json
from dsoftmax.training.record import Record

FIELDS = frozenset(("iteration", "objective", "gradient_max", "seconds", "rows", "bytes"))
"""Fields without which a line is damaged."""


class History:
    """A watcher that appends each pass to a file, in whole lines.

    Parameters
    ----------
    path : Path
    n_passes : int
        Passes that the checkpoint knows. Lines of later passes are removed, because these passes
        are made again.

    Raises
    ------
    ReadError
        The file lacks passes that the checkpoint knows.
    WriteError
    """

    def __init__(self, path: Path, n_passes: int = 0) -> None:
        known = read_history(path)[:n_passes]
        if len(known) < n_passes:
            raise ReadError(
                f"{path} holds the first {len(known)} passes; the checkpoint beside it knows "
                f"{n_passes}. A line is damaged or missing. Restore the file from a copy, or pass "
                "--overwrite to begin anew."
            )
        write_text(path, "".join(_line(record) for record in known))
        self._path = path
        with writing(path, 0):
            self._file = path.open("ab", buffering=0)

    def __enter__(self) -> "History":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()

    def __call__(self, record: Record, runs: Any) -> None:
        """Append the line of a pass, and wait until it is on the disk."""
        line = _line(record.as_dict()).encode()
        end = self._file.seek(0, os.SEEK_END)
        try:
            with writing(self._path, len(line)):
                rest = memoryview(line)
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
        except BaseException:
            with suppress(OSError):  # a rest of the line is removed when the run is resumed
                self._file.truncate(end)
            raise


def _line(record: dict[str, Any]) -> str:
    # JSON has no nan: F before the first answer is null.
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(plain) + "\n"


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the passes, oldest first.

    The list is empty if there is no file. A line that is not whole, and all lines after it, are
    left out.

    Raises
    ------
    OSError
        It is no regular file, or cannot be read.
    """
    try:
        with open_regular(path) as file:
            lines = file.read().decode("utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    records: list[dict[str, Any]] = []
    for line in lines:
        try:
            record = parse_json(line)
            # The machine may stop between two writes: any other line is of an earlier run.
            if record["pass"] != len(records) + 1 or not FIELDS <= record.keys():
                break
        except (ValueError, TypeError, KeyError, AttributeError):
            break
        records.append(record)
    return records
