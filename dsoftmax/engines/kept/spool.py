"""Decoded blocks on a fast local disk.

Remote or well compressed chunks are slow to load. A spool decodes each of them once and reads the
decoded block back in later passes. It is a cache of this process: it does not outlive the process,
and a block whose file is damaged is loaded from its source.
"""

import errno
import os
import shutil
import threading
import uuid
import weakref
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dsoftmax.data.block import Block
from dsoftmax.data.buffer import Buffer
from dsoftmax.data.source import Share
from dsoftmax.engines.kept.block_file import HEAD, describe_block, read_block, write_block
from dsoftmax.engines.kept.directory import SpoolDirectory
from dsoftmax.errors import OptionError

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@dataclass(frozen=True)
class SpoolTo:
    """Directory and limit of spools.

    Attributes
    ----------
    directory : str
        Directory on a local disk of every machine that computes; made if it does not exist.
    limit : int, optional
        Bytes of each process; half of the free bytes of the disk when None.
    """

    directory: str
    limit: int | None = None

    def open(self, share: Share) -> "Spool":
        """Return a new spool of a share.

        Raises
        ------
        OptionError
            The directory cannot be made or written.
        """
        try:
            spool = Spool(share, self.directory, 0)
            spool.limit_bytes = (
                shutil.disk_usage(self.directory).free // 2 if self.limit is None else self.limit
            )
        except OSError as error:
            raise OptionError(
                f"spool is {self.directory!r} ({error}); expected a directory on a local disk "
                "that can be written. Pass another, or leave it out: blocks are then decoded in "
                "every pass."
            ) from error
        return spool


class Spool(Share):
    """A share whose blocks are spooled to files, as far as the limit allows.

    Parameters
    ----------
    share : Share
        Share that loads the blocks.
    directory : path
        Directory on a local disk, in which the spool makes a folder of its own. `close` or the end
        of the process removes the folder. Folders of dead processes are removed first.
    limit_bytes : int
        Bytes of all files.

    Attributes
    ----------
    n_blocks, n_bytes : int
        Number and bytes of the blocks that are spooled now.
    n_read : int
        Number of loads that were answered from files.
    n_damaged : int
        Number of files that were lost or damaged. Their blocks are loaded from the share from then
        on.
    full : bool
        Whether the disk, a quota or a limit on file sizes ended the writing. Blocks that were
        spooled before are still read.
    error : OSError or None
        Error that ended the writing.

    Raises
    ------
    OSError
        The folder cannot be made.

    Notes
    -----
    Thread-safe; not picklable. The thread that loads a block first writes it. Nothing is evicted:
    every pass meets all chunks in the same order, so that eviction would always remove the block
    that is read next.
    """

    def __init__(self, share: Share, directory: str | os.PathLike[str], limit_bytes: int) -> None:
        self.share, self.limit_bytes = share, limit_bytes
        self.n_blocks = self.n_bytes = self.n_read = self.n_damaged = 0
        self.error: OSError | None = None
        self._sizes: dict[int, int] = {}
        self._from_share: set[int] = set()  # being written, refused or damaged
        self._lock, self._closed = threading.Lock(), False
        self._directory = SpoolDirectory(Path(directory))
        self._finalizer = weakref.finalize(self, self._directory.remove)

    def __reduce__(self) -> tuple[Any, ...]:
        raise TypeError("A Spool belongs to one process; pickle the share that it wraps.")

    @property
    def full(self) -> bool:
        return self.error is not None and self.error.errno in FULL

    def load(self, chunk: int, buffer: Buffer | None = None) -> Block:
        """Return the rows of a chunk, from its file if that is sound, else from the share."""
        with self._lock:
            spooled = chunk in self._sizes
        if spooled:
            try:
                block = read_block(self._path(chunk), chunk, buffer)
            except (OSError, ValueError):
                self._drop(chunk)
            else:
                with self._lock:
                    self.n_read += 1
                return block
        block = self.share.load(chunk, buffer)
        if not spooled:
            self._write(chunk, block)
        return block

    def close(self) -> None:
        """Remove the files; blocks are loaded from the share from now on."""
        with self._lock:
            self._closed = True
            self._sizes.clear()
            self.n_blocks = self.n_bytes = 0
        self._finalizer()

    def _path(self, chunk: int) -> Path:
        return self._directory.folder / f"{chunk}.block"

    def _write(self, chunk: int, block: Block) -> None:
        with self._lock:
            if (
                self._closed
                or self.error is not None
                or chunk in self._from_share
                or chunk in self._sizes
            ):
                return
            self._from_share.add(chunk)
        described = describe_block(chunk, block)
        if described is None:
            return
        head, parts = described
        size = HEAD.size + len(head) + sum(part.nbytes for part in parts)
        with self._lock:
            if self.n_bytes + size > self.limit_bytes:
                return
            self.n_bytes += size
        draft = self._directory.folder / f"{chunk}.{uuid.uuid4().hex}.draft"
        try:
            write_block(draft, head, parts)
            draft.replace(self._path(chunk))
        except OSError as error:
            with suppress(OSError):
                draft.unlink()
            with self._lock:
                if not self._closed:
                    self.n_bytes -= size
                    self.error = error
            return
        with self._lock:
            if not self._closed:
                self._sizes[chunk] = size
                self._from_share.discard(chunk)
                self.n_blocks += 1

    def _drop(self, chunk: int) -> None:
        """Forget a damaged file. Its block is not spooled again."""
        with self._lock:
            size = self._sizes.pop(chunk, None)
            if size is None:  # another thread was here first
                return
            self._from_share.add(chunk)
            self.n_blocks -= 1
            self.n_bytes -= size
            self.n_damaged += 1
        with suppress(OSError):
            self._path(chunk).unlink()
