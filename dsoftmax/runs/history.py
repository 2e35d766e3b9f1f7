"""The passes of a run, one line of JSON each."""

import json
import math
import os
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from dsoftmax.errors import ReadError
from dsoftmax.system.files import write_text, writing


class Record(Protocol):
    """What a watcher is told of a pass; see `dsoftmax.training.run.Record`."""

    def as_dict(self) -> dict[str, Any]: ...


class History:
    """A watcher that appends each pass to a file, whole lines only.

    Parameters
    ----------
    path : Path
    n_passes : int
        What the checkpoint knows: lines of later passes were written before an interruption, and are made again.

    Raises
    ------
    ReadError
        The file lacks passes that the checkpoint knows.
    WriteError
    """

    def __init__(self, path: Path, n_passes: int = 0) -> None:
        kept = read_history(path)[:n_passes]
        if len(kept) < n_passes:
            raise ReadError(
                f"{path} holds the first {len(kept)} of the {n_passes} passes that the checkpoint beside it knows; a line is damaged "
                "or missing. Restore it from a copy, or pass --overwrite to begin anew."
            )
        write_text(path, "".join(_line(record) for record in kept))
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

    def __call__(self, record: Record, run: Any) -> None:
        line = _line(record.as_dict()).encode()
        end = self._file.seek(0, os.SEEK_END)
        try:
            with writing(self._path, len(line)):
                rest = memoryview(line)
                while rest:
                    rest = rest[self._file.write(rest) :]
                os.fsync(self._file.fileno())
        except BaseException:
            with suppress(OSError):  # what is left of the line is cut off when the run goes on
                self._file.truncate(end)
            raise


def _line(record: dict[str, Any]) -> str:
    # JSON has no nan: F before the first answer becomes null.
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value
        for name, value in record.items()
    }
    return json.dumps(plain) + "\n"


def read_history(path: Path) -> list[dict[str, Any]]:
    """Return the passes, oldest first; none where there is no file, and without a last line that is not whole."""
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        return []
    records: list[dict[str, Any]] = []
    for line in lines:
        try:
            record = json.loads(line)
            # The machine may stop between two writes: what follows a pass is the next one, or not this run's.
            if record["pass"] != len(records) + 1:
                break
        except (ValueError, TypeError, KeyError):
            break
        records.append(record)
    return records
