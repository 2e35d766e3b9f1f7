"""Zarr beyond its documentation: buffers, keys and codecs.

`tests/compat/test_zarr_compat.py` says when Zarr changed.
"""

import asyncio
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import zarr
from numcodecs.abc import Codec
from numpy.typing import NDArray
from zarr.abc.store import Store
from zarr.core.array import AsyncArray
from zarr.core.buffer import default_buffer_prototype
from zarr.core.sync import sync
from zarr.storage import StorePath


def read_rows(array: zarr.Array, start: int, stop: int, out: NDArray) -> None:
    """Fill ``out`` with rows ``start:stop``.

    Stands for: ``get_basic_selection(out=)`` of a NumPy array. Zarr takes only buffers of its own
    there.
    """
    into = default_buffer_prototype().nd_buffer.from_numpy_array(out)
    array.get_basic_selection((slice(start, stop),), out=into)


def with_store(array: zarr.Array, store: Store) -> zarr.Array:
    """Return the same array, read through another store.

    Stands for: a public constructor of an array from its metadata.
    """
    path = StorePath(store, array.store_path.path)
    return zarr.Array(AsyncArray(array.metadata, path, array.async_array.config))


def read_objects(store: Store, keys: Sequence[str]) -> list[NDArray | None]:
    """Return the bytes of objects of a store; None for one that is absent.

    They are requested at once, up to the number that Zarr's configuration allows.

    Stands for: a public read of several objects by a thread without an event loop.
    """
    prototype = default_buffer_prototype()

    async def read() -> list[NDArray | None]:
        limit = asyncio.Semaphore(zarr.config.get("async.concurrency") or len(keys) or 1)

        async def one(key: str) -> NDArray | None:
            async with limit:
                found = await store.get(key, prototype)
            return None if found is None else found.as_numpy_array()

        asked = [asyncio.ensure_future(one(key)) for key in keys]
        try:
            return list(await asyncio.gather(*asked))
        finally:  # after an error the others would go on
            for request in asked:
                request.cancel()

    return sync(read())


def has_key(array: zarr.Array, key: str) -> bool:
    """Return whether the store holds this key of an array.

    Stands for: a public method that says whether a chunk is stored.
    """
    return bool(sync((array.store_path / key).exists()))


def chunk_key(array: zarr.Array) -> Callable[[tuple[int, ...]], str]:
    """Return the function from the place of a stored chunk to its key: "c/3/0", in v2 "3.0".

    Stands for: a public method of the array. A key is the path below the array.
    """
    encode: Callable[[tuple[int, ...]], str] = array.metadata.encode_chunk_key
    return encode


def shards_stand_alone(array: zarr.Array) -> bool:
    """Return whether inner chunks of a shard can be read alone: no codec encodes the whole shard.

    Stands for: a public attribute of the array.
    """
    return len(array.metadata.codecs) == 1


@dataclass(frozen=True)
class Sharding:
    """Codecs of a sharded array's index.

    Attributes
    ----------
    serializer : zarr.abc.codec.Codec
        Codec between numbers and bytes.
    checks : tuple of str
        Names of the codecs after it.
    at_end : bool
        Whether the index follows the inner chunks.
    """

    serializer: Any
    checks: tuple[str, ...]
    at_end: bool


def sharding_of(array: zarr.Array) -> Sharding | None:
    """Return the codecs of the shards' index; None if other codecs work on the shards.

    Stands for: public attributes of the codec ``sharding_indexed``.
    """
    codecs = array.metadata.codecs
    if len(codecs) != 1 or codec_settings(codecs[0])[0] != "sharding_indexed":
        return None
    serializer, *checks = codecs[0].index_codecs
    names = tuple(codec_settings(codec)[0] for codec in checks)
    return Sharding(serializer, names, codecs[0].index_location.value == "end")


def codec_names(array: zarr.Array) -> set[str]:
    """Return the names of all codecs of an array, also of filters and of those inside shards.

    Stands for: one public list of the codecs of both formats.
    """

    def names(part: Any) -> Iterator[str]:
        if isinstance(part, Mapping):
            yield from (str(part[key]) for key in ("id", "name") if key in part)
            part = part.values()
        if not isinstance(part, str) and isinstance(part, Iterable):
            for one in part:
                yield from names(one)

    found = array.metadata  # its to_dict warns of dtypes
    codecs = [*(getattr(found, "filters", None) or ()), *getattr(found, "codecs", ())]
    codecs.append(getattr(found, "compressor", None))
    stored = [
        one.get_config() if isinstance(one, Codec) else one.to_dict()
        for one in codecs
        if one is not None
    ]
    return set(names(stored))


def codec_settings(codec: Any) -> tuple[str, dict[str, Any]]:
    """Return the name and the options of a codec of Zarr v3 or, from numcodecs, v2.

    Stands for: one public description of codecs of both formats.
    """
    if isinstance(codec, Codec):
        options = codec.get_config()
        return str(options.pop("id")), options
    stored = codec.to_dict()
    return str(stored["name"]), dict(stored.get("configuration", {}))
