"""The passes of a run, one line of JSON each."""

import json
import math
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from dsoftmax.checkpoint import write_text


class Record(Protocol):
    """What a watcher is told of a pass; see `dsoftmax.training.Record`."""

    def as_dict(self) -> dict[str, Any]: ...


class History:
    """A watcher that appends each pass to a file, whole lines only.

    Parameters
    ----------
    path : Path
    n_passes : int
        What the checkpoint knows: lines of later passes were written before an interruption, and are made again.
    """

    def __init__(self, path: Path, n_passes: int = 0) -> None:
        kept = [record for record in read_history(path) if record["pass"] <= n_passes]
        write_text(path, "".join(_line(record) for record in kept))
        self._file = path.open("a", encoding="utf-8")

    def __enter__(self) -> "History":
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()

    def __call__(self, record: Record, run: Any) -> None:
        self._file.write(_line(record.as_dict()))
        self._file.flush()
        os.fsync(self._file.fileno())


def _line(record: dict[str, Any]) -> str:
    # JSON has no nan: F before the first answer becomes null.
    plain = {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in record.items()}
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
