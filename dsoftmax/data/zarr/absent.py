"""Chunks that are absent from a store, noticed by the read itself and without a second request."""

import zarr
from zarr.abc.store import ByteRequest, Store
from zarr.core.buffer import Buffer, BufferPrototype
from zarr.storage import WrapperStore

from dsoftmax.compat.zarr import with_store


class AbsentChunkError(Exception):
    """A stored chunk is absent.

    Attributes
    ----------
    key : str
        Its path in the store.
    """

    def __init__(self, key: str) -> None:
        super().__init__(f"{key} is absent")
        self.key = key


class EveryChunk(WrapperStore[Store]):  # type: ignore[misc]
    """A store that raises for an absent object. Zarr would read the fill value instead."""

    async def get(
        self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None
    ) -> Buffer | None:
        found = await self._store.get(key, prototype, byte_range)
        if found is None:
            raise AbsentChunkError(key)
        return found


def with_every_chunk(array: zarr.Array) -> zarr.Array:
    """Return the same array, whose absent chunks raise `AbsentChunkError`."""
    return with_store(array, EveryChunk(array.store_path.store))
