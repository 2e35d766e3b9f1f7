"""The reader of plain local chunks and shards gives what Zarr gives, leaves what is not plain to Zarr, and takes no damaged file."""

import gzip
import io
import itertools

import google_crc32c
import numcodecs
import numpy as np
import pytest
import zarr
from hypothesis import given
from hypothesis import strategies as st
from zarr.codecs import (
    BloscCodec,
    BytesCodec,
    Crc32cCodec,
    GzipCodec,
    ShardingCodec,
    TransposeCodec,
    ZstdCodec,
)
from zarr.storage import MemoryStore

from dsoftmax.data.zarr.local import blosc
from dsoftmax.data.zarr.local.codecs import DECODERS, decoder_of, zstd_content_bytes
from dsoftmax.data.zarr.local.faults import DamagedChunkError, MissingChunkError
from dsoftmax.data.zarr.local.open import local_chunks
from dsoftmax.system.spans import read_into

COMPRESSORS = {
    "none": None,
    "blosc": BloscCodec(cname="lz4"),
    "zstd": ZstdCodec(),
    "zstd with checksum": ZstdCodec(checksum=True),
    "gzip": GzipCodec(),
}
SPANS = [(0, 23), (0, 7), (7, 14), (3, 20), (22, 23), (5, 5), (21, 23), (9, 11)]


def stored(path, shape=(23, 5), chunks=(7, 3), dtype="f4", **options):
    options.setdefault("config", {"write_empty_chunks": True})
    array = zarr.create_array(path, shape=shape, chunks=chunks, dtype=dtype, **options)
    array[...] = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    return array


def read(array, start, stop):
    out = np.empty((stop - start, *array.shape[1:]), array.dtype)
    local_chunks(array).read(start, stop, out)
    return out


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("chunks", [(7, 3), (7, 5), (100, 100), (1, 1), (23, 5), (8, 2)])
def test_every_span_equals_what_zarr_reads(compressor, chunks, tmp_path):
    array = stored(tmp_path, chunks=chunks, compressors=COMPRESSORS[compressor])
    for start, stop in SPANS:
        np.testing.assert_array_equal(read(array, start, stop), array[start:stop])


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize(
    ("chunks", "shards"),
    [((2, 5), (6, 5)), ((2, 2), (4, 4)), ((3, 5), (30, 5)), ((4, 3), (4, 6)), ((1, 1), (23, 5))],
)
@pytest.mark.parametrize("location", ["start", "end"])
def test_every_span_of_shards_equals_what_zarr_reads(
    compressor, chunks, shards, location, tmp_path
):
    where = {"shape": shards, "index_location": location}
    array = stored(tmp_path, chunks=chunks, shards=where, compressors=COMPRESSORS[compressor])
    for start, stop in SPANS:
        np.testing.assert_array_equal(read(array, start, stop), array[start:stop])


@pytest.mark.parametrize("dtype", ["bool", "i1", "u2", "i4", "i8", "f2", "f4", "f8"])
@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("shape", "chunks"), [((23,), (7,)), ((23, 5), (7, 5))])
def test_every_dtype_in_both_formats(dtype, zarr_format, shape, chunks, tmp_path):
    array = stored(tmp_path, shape, chunks, dtype, zarr_format=zarr_format)
    np.testing.assert_array_equal(read(array, 2, 21), array[2:21])


@pytest.mark.parametrize("dtype", ["bool", "i1", "u2", "f8"])
@pytest.mark.parametrize(
    ("shape", "chunks", "shards"), [((23,), (3,), (9,)), ((23, 5), (3, 2), (9, 6))]
)
def test_every_dtype_in_shards(dtype, shape, chunks, shards, tmp_path):
    array = stored(tmp_path, shape, chunks, dtype, shards=shards)
    np.testing.assert_array_equal(read(array, 2, 21), array[2:21])


def sharding(**options):
    return ShardingCodec(**{"chunk_shape": (2, 5), "codecs": [BytesCodec()]} | options)


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": ">f4"},
        {"dtype": "<U3"},
        {"serializer": BytesCodec(endian="big")},
        {"filters": [TransposeCodec(order=(1, 0))]},
        {"order": "F", "zarr_format": 2},
        {"shape": (4, 4, 4), "chunks": (2, 2, 2)},
        {"compressors": [ZstdCodec(), Crc32cCodec()]},
        {"shards": (4, 5), "chunks": (2, 5), "filters": [TransposeCodec(order=(1, 0))]},
        {"shards": (4, 5), "chunks": (2, 5), "compressors": [Crc32cCodec()]},
        {"serializer": sharding(codecs=[BytesCodec(endian="big")])},
        {"serializer": sharding(codecs=[sharding(chunk_shape=(1, 5))])},
        {"serializer": sharding(index_codecs=[BytesCodec(endian="big")])},
        {"serializer": sharding(), "compressors": [ZstdCodec()]},
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:The data type", "ignore:Combining a `sharding_indexed`")
def test_what_is_not_plain_is_left_to_zarr(options, tmp_path):
    options = {"shape": (8, 5), "chunks": (4, 5), "dtype": "f4", "compressors": None} | options
    assert local_chunks(zarr.create_array(tmp_path, **options)) is None


def test_an_index_without_checksum_is_read_too(tmp_path):
    array = stored(
        tmp_path, (8, 5), (4, 5), serializer=sharding(index_codecs=[BytesCodec()]), compressors=None
    )
    np.testing.assert_array_equal(read(array, 1, 8), array[1:8])


def test_what_is_not_local_is_left_to_zarr():
    assert (
        local_chunks(zarr.create_array(MemoryStore(), shape=(8, 5), chunks=(4, 5), dtype="f4"))
        is None
    )


def test_a_missing_file_is_named_with_its_rows(tmp_path):
    array = stored(tmp_path)
    (tmp_path / "c/1/0").unlink()
    assert read(array, 0, 7) is not None
    with pytest.raises(MissingChunkError) as lost:
        read(array, 0, 9)
    assert (lost.value.what, lost.value.rows) == ("the chunk c/1/0", (7, 9))


def test_an_inner_chunk_that_was_not_written_is_named_with_its_shard(tmp_path):
    array = zarr.create_array(tmp_path, shape=(40, 4), chunks=(5, 2), shards=(20, 4), dtype="f4")
    values = np.ones((40, 4), "f4")
    values[25:30, 2:] = 0  # the fill value: Zarr leaves it out
    array[...] = values
    np.testing.assert_array_equal(read(array, 0, 25), values[:25])
    np.testing.assert_array_equal(read(array, 30, 40), values[30:])
    with pytest.raises(MissingChunkError) as lost:
        read(array, 22, 40)
    assert (lost.value.what, lost.value.rows) == (
        "the inner chunk (1, 1) of the shard c/1/0",
        (22, 40),
    )


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize(
    "change",
    [lambda file: file[:-3], lambda file: file[:5], lambda file: b"", lambda file: file + b"xyz"],
)
@pytest.mark.parametrize("chunks", [(7, 3), (7, 5)])
def test_a_file_that_is_not_one_whole_chunk_is_an_error(compressor, change, chunks, tmp_path):
    array = stored(tmp_path, chunks=chunks, compressors=COMPRESSORS[compressor])
    file = tmp_path / "c/1/0"
    file.write_bytes(change(file.read_bytes()))
    with pytest.raises(DamagedChunkError) as error:
        read(array, 0, 14)
    assert (error.value.key, error.value.rows) == ("c/1/0", (7, 14))
    assert error.value.__cause__ is not None


def rewritten(file, at_end, entry, value):
    """The shard's bytes with one number of its index changed and a checksum that fits."""
    content, size = bytearray(file.read_bytes()), 16 * 3 + 4
    start = len(content) - size if at_end else 0
    index = np.frombuffer(bytes(content[start : start + size - 4]), "<u8").copy()
    index[entry] = value
    new = index.tobytes()
    content[start : start + size] = new + google_crc32c.value(new).to_bytes(4, "little")
    return bytes(content)


@pytest.mark.parametrize("compressor", COMPRESSORS)
@pytest.mark.parametrize("at_end", [True, False])
def test_a_shard_that_is_damaged_is_an_error(compressor, at_end, tmp_path):
    where = {"shape": (6, 5), "index_location": "end" if at_end else "start"}
    array = stored(tmp_path, chunks=(2, 5), shards=where, compressors=COMPRESSORS[compressor])
    file = tmp_path / "c/1/0"
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[-20 if at_end else 20] ^= 1  # in the index
    changes = [whole[:-3], whole[:30], b"", bytes(flipped)]
    outside = itertools.product(
        (0, 1), (2**40, 2**63, 2**64 - 1)
    )  # the first chunk's offset, and its length
    changes += [rewritten(file, at_end, entry, value) for entry, value in (*outside, (1, 3))]
    for change in changes:
        file.write_bytes(change)
        with pytest.raises(DamagedChunkError) as error:
            read(array, 0, 14)
        assert (error.value.key, error.value.rows) == ("c/1/0", (6, 12)), len(change)
    file.write_bytes(whole)
    np.testing.assert_array_equal(read(array, 0, 14), array[0:14])


# --- codecs -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_bytes", [1, 200, 255, 256, 257, 65_791, 65_792, 300_000])
@pytest.mark.parametrize("checksum", [True, False])
def test_the_header_of_zstandard_tells_the_size(n_bytes, checksum, rng):
    values = rng.integers(0, 256, n_bytes).astype(np.uint8)
    encoded = numcodecs.Zstd(checksum=checksum).encode(values)
    assert zstd_content_bytes(encoded[:18]) == n_bytes
    assert zstd_content_bytes(encoded[:4]) is None
    assert zstd_content_bytes(b"xxxx" + encoded[4:18]) is None
    out = np.empty_like(values)
    DECODERS["zstd"](np.frombuffer(encoded, np.uint8), out)
    np.testing.assert_array_equal(out, values)


def test_streams_and_members_are_decoded_where_the_size_is_right(rng):
    values = rng.integers(0, 4, 1000).astype(np.uint8)
    members = gzip.compress(values[:400].tobytes()) + gzip.compress(values[400:].tobytes())
    # One frame by hand, of a raw block, which tells no size (RFC 8878): descriptor 0, a window, and the block's header.
    frame = (
        bytes.fromhex("28b52ffd 00 58") + (1 | 1000 << 3).to_bytes(3, "little") + values.tobytes()
    )
    for name, encoded in (("gzip", members), ("zstd", frame)):
        out = np.empty_like(values)
        DECODERS[name](np.frombuffer(encoded, np.uint8), out)
        np.testing.assert_array_equal(out, values)
        for wrong in (999, 1001):
            with pytest.raises(ValueError, match="decode to 1,000 bytes"):
                DECODERS[name](np.frombuffer(encoded, np.uint8), np.empty(wrong, np.uint8))


def fetched(array, start, stop, n_rows, n_bytes=10_000):
    """The pieces of what was fetched, each as it was before the next was asked for; None where rows must be read whole."""
    buffer = np.full(n_bytes, 0xA5, np.uint8)
    found = local_chunks(array).fetch(
        start, stop, buffer, lambda key, rows, error: DamagedChunkError(key, rows)
    )
    if found is None:
        return None
    assert (found.shape, found.dtype) == ((stop - start, array.shape[1]), array.dtype)
    assert found.nbytes == (stop - start) * array.shape[1] * array.dtype.itemsize
    pieces = [piece.copy() for piece in found.slices(n_rows)]
    assert [len(piece) for piece in pieces[:-1]] == [n_rows] * (len(pieces) - 1)
    return np.concatenate(pieces)


@pytest.mark.parametrize("n_rows", [1, 2, 7, 10, 23, 100])
@pytest.mark.parametrize("compressor", [name for name in COMPRESSORS if name != "none"])
@pytest.mark.parametrize(
    ("chunks", "shards"),
    [((7, 5), None), ((1, 5), None), ((23, 5), None), ((2, 5), (6, 5)), ((40, 5), None)],
)
def test_pieces_of_fetched_rows_equal_what_zarr_reads(compressor, chunks, shards, n_rows, tmp_path):
    array = stored(tmp_path, chunks=chunks, shards=shards, compressors=COMPRESSORS[compressor])
    for start in range(0, 23, chunks[0]):
        for stop in (23, min(start + chunks[0], 23)):
            np.testing.assert_array_equal(fetched(array, start, stop, n_rows), array[start:stop])


def test_what_cannot_come_in_pieces_is_read_whole(tmp_path):
    assert fetched(stored(tmp_path / "plain", chunks=(7, 5), compressors=None), 0, 7, 2) is None
    assert fetched(stored(tmp_path / "columns", chunks=(7, 3)), 0, 7, 2) is None
    assert fetched(stored(tmp_path / "wider", chunks=(7, 8)), 0, 7, 2) is None
    assert fetched(stored(tmp_path / "zstd", chunks=(7, 5)), 3, 7, 2) is None
    for name, start in (("zstd", 0), ("blosc", 0), ("blosc", 3)):
        array = stored(
            tmp_path / name, chunks=(7, 5), compressors=COMPRESSORS[name], overwrite=True
        )
        assert fetched(array, start, 7, 2, n_bytes=20) is None
        assert fetched(array, start, 7, 2) is not None


@pytest.mark.parametrize("dtype", ["u1", "i2", "f8"])
@pytest.mark.parametrize("clevel", [0, 5])
@pytest.mark.parametrize("blocksize", [0, 1000, 4096])
def test_some_rows_of_a_chunk_of_blosc_are_read_alone(dtype, clevel, blocksize, tmp_path, rng):
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
def test_of_a_large_chunk_of_blosc_only_the_blocks_that_hold_the_rows_are_read(
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


@pytest.mark.parametrize("compressor", [name for name in COMPRESSORS if name != "none"])
def test_fetching_a_file_that_is_not_there_or_damaged_is_an_error(compressor, tmp_path):
    array = stored(tmp_path, (4000, 5), (2000, 5), compressors=COMPRESSORS[compressor])
    path = tmp_path / "c/1/0"
    encoded = bytearray(path.read_bytes())
    encoded[20 : len(encoded) - 8] = bytes(len(encoded) - 28)
    path.write_bytes(encoded)
    with pytest.raises(DamagedChunkError) as damaged:
        fetched(array, 2000, 4000, 100, n_bytes=40_000)
    assert (damaged.value.key, damaged.value.rows) == ("c/1/0", (2000, 4000))
    path.unlink()
    with pytest.raises(MissingChunkError):
        fetched(array, 0, 4000, 100, n_bytes=80_000)


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
    ("blocksize", "small"), [(0, True), (blosc.SMALL_BLOCK_BYTES, True), (blosc.SMALL_BLOCK_BYTES + 1, False)]
)
def test_chunks_with_blocks_as_large_as_chunks_are_not_read_by_rows(
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
    """The same chunk with its blocks in another order, as compressors on several threads write them."""
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
def test_blocks_of_blosc_are_decoded_alone_and_in_any_order(options, n, dtype, values, data):
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
def test_a_header_of_blosc_with_other_sizes_is_an_error_and_nothing_in_it_crashes(place, rng):
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
        # Blosc has no checksum: versions, flags and the size of blocks may be taken for others. Sizes of the whole may not.
        assert place < 4 or 8 <= place < 12 or value == sound[place]
