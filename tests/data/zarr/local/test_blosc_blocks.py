"""Some Blosc blocks of a chunk are read and decoded alone."""

import io

import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from local_arrays import fetched, read, stored
from zarr.codecs import (
    BloscCodec,
)

from dsoftmax.data.zarr.local import blosc
from dsoftmax.data.zarr.local.codecs import DECODERS, decoder_of
from dsoftmax.data.zarr.local.faults import DamagedChunkError
from dsoftmax.data.zarr.local.open import local_chunks
from dsoftmax.system.spans import read_into


@pytest.mark.parametrize("dtype", ["u1", "i2", "f8"])
@pytest.mark.parametrize("clevel", [0, 5])
@pytest.mark.parametrize("blocksize", [0, 1000, 4096])
def test_some_rows_of_a_blosc_chunk_are_read_alone(dtype, clevel, blocksize, tmp_path, rng):
    array = stored(
        tmp_path,
        (9000, 5),
        (4000, 5),
        dtype,
        compressors=BloscCodec(clevel=clevel, blocksize=blocksize),
    )
    for _ in range(20):
        start, stop = sorted(int(row) for row in rng.choice(9001, 2, replace=False))
        np.testing.assert_array_equal(read(array, start, stop), array[start:stop])
        found = fetched(array, start, stop, int(rng.integers(1, 3000)), n_bytes=600_000)
        np.testing.assert_array_equal(found, array[start:stop])


@pytest.mark.parametrize(("values", "copied"), [(2**16, True), (2**8, False)])
def test_only_the_blosc_blocks_with_the_requested_rows_are_read(
    values, copied, tmp_path, rng, monkeypatch
):
    array = zarr.create_array(
        tmp_path,
        shape=(10**6, 4),
        chunks=(10**6, 4),
        dtype="u2",
        compressors=BloscCodec(cname="lz4", blocksize=2**16),
    )
    array[...] = content = rng.integers(0, values, (10**6, 4)).astype("u2")
    stored_bytes, n_read = (tmp_path / "c/0/0").stat().st_size, []

    def counted(file, view):
        n_read.append(len(view))
        read_into(file, view)

    for module in ("system.spans", "data.zarr.local.blosc", "data.zarr.local.files"):
        monkeypatch.setattr(f"dsoftmax.{module}.read_into", counted)
    np.testing.assert_array_equal(read(array, 500_000, 600_000), content[500_000:600_000])
    assert (stored_bytes > content.nbytes) == copied
    assert stored_bytes / 10 <= sum(n_read) <= stored_bytes / 10 + 2 * 2**16 + 16 + 4 * 123


def test_some_rows_of_a_damaged_chunk_are_an_error_with_its_cause(tmp_path):
    array = stored(tmp_path, (4000, 5), (4000, 5), compressors=BloscCodec())
    path = tmp_path / "c/0/0"
    encoded = path.read_bytes()
    path.write_bytes(encoded[:40] + bytes(len(encoded) - 48) + encoded[-8:])
    with pytest.raises(DamagedChunkError) as damaged:
        read(array, 100, 200)
    assert isinstance(damaged.value.__cause__, RuntimeError)
    assert damaged.value.__cause__.__cause__ is None


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    ("blocksize", "small"),
    [(0, True), (blosc.SMALL_BLOCK_BYTES, True), (blosc.SMALL_BLOCK_BYTES + 1, False)],
)
def test_chunks_with_large_blosc_blocks_are_not_read_by_rows(
    zarr_format, blocksize, small, tmp_path
):
    kind = BloscCodec if zarr_format == 3 else numcodecs.Blosc
    array = stored(
        tmp_path, (100, 5), (50, 5), zarr_format=zarr_format, compressors=kind(blocksize=blocksize)
    )
    assert local_chunks(array).by_rows == small
    assert (fetched(array, 3, 40, 7) is None) == (not small)
    np.testing.assert_array_equal(fetched(array, 0, 50, 7), array[:50])
    np.testing.assert_array_equal(read(array, 3, 70), array[3:70])


BLOSC = {
    "cname": st.sampled_from(["lz4", "lz4hc", "blosclz", "zstd", "zlib"]),
    "clevel": st.integers(0, 9),
    "shuffle": st.sampled_from(
        [numcodecs.Blosc.NOSHUFFLE, numcodecs.Blosc.SHUFFLE, numcodecs.Blosc.BITSHUFFLE]
    ),
    "blocksize": st.sampled_from([0, 256, 1000, 4096, 2**16]),
}


def shuffled(encoded, rng):
    """The same chunk with its Blosc blocks in another order, as several threads write them."""
    header = blosc.read_header(encoded, len(encoded), int(encoded[4:8].view("<u4")[0]))
    if header.copied:
        return encoded
    table = encoded[16 : 16 + 4 * header.n_blocks].view("<i4")
    order = np.argsort(table)
    ends = np.append(table[order][1:], len(encoded))
    blocks = {int(i): encoded[table[i] : end] for i, end in zip(order, ends, strict=True)}
    found, places, at = [], np.empty_like(table), 16 + 4 * header.n_blocks
    for i in rng.permutation(header.n_blocks):
        places[i], at = at, at + len(blocks[int(i)])
        found.append(blocks[int(i)])
    return np.concatenate([encoded[:16], places.view(np.uint8), *found])


@given(
    st.fixed_dictionaries(BLOSC),
    st.integers(1, 200_000),
    st.sampled_from(["u1", "i2", "f4", "f8"]),
    st.integers(1, 256),
    st.data(),
)
def test_blosc_blocks_are_decoded_alone_and_in_any_order(options, n, dtype, values, data):
    content = np.random.default_rng(n).integers(0, values, n).astype(dtype)
    encoded = np.frombuffer(bytearray(numcodecs.Blosc(**options).encode(content)), np.uint8)
    if data.draw(st.booleans()):
        encoded = shuffled(encoded, np.random.default_rng(n))
        np.testing.assert_array_equal(
            np.frombuffer(numcodecs.blosc.decompress(encoded), dtype), content
        )
    stop = data.draw(st.integers(1, content.nbytes))
    start = data.draw(st.integers(0, stop - 1))
    part = blosc.read_excerpt(
        io.BytesIO(encoded.tobytes()),
        len(encoded),
        content.nbytes,
        start,
        stop,
        lambda m: np.empty(m, np.uint8),
    )
    target = np.empty(part.n_bytes, np.uint8)
    blosc.decode(part.encoded, target)
    assert part.start <= start < stop <= part.start + part.n_bytes
    np.testing.assert_array_equal(
        target, content.view(np.uint8)[part.start : part.start + part.n_bytes]
    )

    blocks = blosc.BloscDecoder(encoded, content.nbytes)
    n_blocks = -(-content.nbytes // blocks.step)
    for _ in range(4):
        first = data.draw(st.integers(0, n_blocks - 1))
        start, stop = first * blocks.step, data.draw(st.integers(first + 1, n_blocks)) * blocks.step
        target = np.empty(min(stop, content.nbytes) - start, np.uint8)
        blocks.decode(start, target)
        np.testing.assert_array_equal(target, content.view(np.uint8)[start:stop])


@pytest.mark.parametrize("place", range(16))
def test_a_wrong_header_of_blosc_is_an_error_and_never_crashes(place, rng):
    content = rng.integers(0, 9, 100_000).astype("u2")
    sound = numcodecs.Blosc(blocksize=2**14).encode(content)
    for value in range(256):
        encoded = np.frombuffer(bytearray(sound), np.uint8)
        encoded[place] = value
        target = np.empty(content.nbytes, np.uint8)
        try:
            parts = decoder_of(encoded, content.nbytes, DECODERS["blosc"])
            parts.decode(0, target[: parts.step])
        except (ValueError, RuntimeError):
            continue
        # Blosc has no checksum: wrong versions, flags and sizes of Blosc blocks may pass unseen.
        # Wrong sizes of the whole chunk may not.
        assert place < 4 or 8 <= place < 12 or value == sound[place]
