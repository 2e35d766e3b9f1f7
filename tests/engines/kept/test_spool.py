"""Spooled blocks equal those of the source, also if files are damaged, and no file is left."""

import errno
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse
import stored
from opening import opened
from spooled import Counting, equal, files

from dsoftmax.data.block import Block
from dsoftmax.data.open import open_source
from dsoftmax.data.soft import as_column
from dsoftmax.data.table import Table
from dsoftmax.engines.kept import block_file, spool
from dsoftmax.engines.kept.directory import PREFIX, SpoolDirectory, remove_leftovers
from dsoftmax.engines.kept.spool import Spool

ROOT = Path(__file__).parents[3]
MIB = 2**20


@pytest.mark.parametrize("kind", stored.KINDS)
def test_every_storage_comes_back_bit_for_bit(kind, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.zarr.source.GROUP_BYTES", 0)
    monkeypatch.setattr("dsoftmax.data.memory.CHUNK_BYTES", 2000)
    monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", 2000)
    source = opened(*stored.KINDS[kind](tmp_path))
    spooled, chunks = Spool(source, tmp_path / "spool", 10 * MIB), range(len(source.chunk_rows))
    for _ in range(3):
        for chunk in chunks:
            equal(spooled.load(chunk), source.load(chunk))
    left = (
        len(chunks) if kind in ("numpy strided", "numpy big-endian, Fortran order") else 0
    )  # views that a file cannot restore
    assert spooled.n_blocks == len(chunks) - left
    assert spooled.n_read == 2 * spooled.n_blocks
    spooled.close()


LABELS = {
    "objects": np.array(["a", "bé", "c" * 9] * 10, object),
    "strings": np.array(["a", "bé", ""] * 10, np.dtypes.StringDType()),
    "fixed": np.array(["a", "bé", "ccc"] * 10),
    "bytes": np.array([b"a", b"bb"] * 15),
    "big-endian": np.arange(30, dtype=">i2"),
    "bool": np.arange(30) % 2 == 0,
    "several": np.array([("a", 1, True), ("bé", 2, False)] * 15, "O,i2,?"),
    "soft": as_column(np.random.default_rng(0).dirichlet(np.ones(3), 30).astype("f4")),
}


@pytest.mark.parametrize("labels", LABELS)
def test_labels_of_any_kind_come_back_in_their_dtype(labels, tmp_path):
    share = Counting(
        y=LABELS[labels],
        weights=np.arange(30.0),
        groups=np.arange(30, dtype=np.uint64) << np.uint64(59),
    )
    spooled = Spool(share, tmp_path, MIB)
    for _ in range(2):
        for chunk in range(3):
            equal(spooled.load(chunk), Counting.load(share, chunk))
    assert spooled.n_read == 3
    assert not any(b"object" in file.read_bytes().split(b"parts")[1] for file in files(tmp_path))


@pytest.mark.parametrize(
    "y",
    [
        np.array(["a", None, 3] * 10, object),
        np.array(["ends in a null\0"] * 30, object),
        np.array([(1, None)] * 30, [("0", "i4"), ("1", object)]),
        np.array(["a"] * 30, np.dtypes.StringDType(na_object=None)),
    ],
    ids=["mixed", "null", "several columns", "strings that may be missing"],
)
def test_labels_that_would_not_come_back_are_left_to_the_source(y, tmp_path):
    share = Counting(y=y)
    spooled = Spool(share, tmp_path, MIB)
    for _ in range(2):
        assert spooled.load(1).y.dtype == y.dtype
    assert share.loads == [1, 1]
    assert not files(tmp_path)


@pytest.mark.parametrize(
    "convert",
    [np.asfortranarray, scipy.sparse.csr_array, scipy.sparse.csr_matrix, lambda X: X.astype(">f8")],
)
def test_features_keep_their_order_dtype_and_class(convert, tmp_path):
    share = Counting()
    plain, share.load = share.load, lambda chunk, buffer=None: converted(plain(chunk), convert)
    spooled = Spool(share, tmp_path, MIB)
    for _ in range(2):
        equal(spooled.load(2), share.load(2))
    assert spooled.n_read == 1


def converted(block, convert):
    return Block(convert(block.X), block.y, block.weights, block.first_row, block.names)


def test_blocks_are_read_into_the_buffer(tmp_path):
    share, buffer = Counting(), np.zeros(1000, np.uint8)
    spooled = Spool(share, tmp_path, MIB)
    for _ in range(2):
        block = spooled.load(1, buffer)
        assert np.shares_memory(block.X, buffer)
        np.testing.assert_array_equal(block.X, share.X[10:20])
    assert share.loads == [1]
    assert not np.shares_memory(spooled.load(1).X, buffer)
    small = spooled.load(1, buffer[:10])
    np.testing.assert_array_equal(small.X, share.X[10:20])


def test_the_files_stay_within_the_limit(tmp_path):
    share = Counting()
    alone = Spool(share, tmp_path / "a", MIB)
    alone.load(0)
    one = files(tmp_path / "a")[0].stat().st_size
    spooled = Spool(share, tmp_path / "b", 2 * one + 10)
    for _ in range(2):
        for chunk in range(3):
            equal(spooled.load(chunk), Counting().load(chunk))
    sizes = [file.stat().st_size for file in files(tmp_path / "b")]
    assert (spooled.n_blocks, spooled.n_bytes) == (2, sum(sizes))
    assert sum(sizes) <= 2 * one + 10
    assert share.loads == [0, 0, 1, 2, 2]
    assert not spooled.full


# --- damage ---


def flip(place):
    def change(file, other):
        content = bytearray(file.read_bytes())
        content[place] ^= 1
        file.write_bytes(content)

    return change


def keep(n_bytes):
    return lambda file, other: file.write_bytes(file.read_bytes()[:n_bytes])


DAMAGE = {
    f"a bit of byte {place}": flip(place)
    for place in (0, 16, 20, 24, 32, 36, 41, 60, 150, -1, -200)
} | {
    "nothing left": keep(0),
    "cut in the head": keep(20),
    "cut in the description": keep(60),
    "cut in the data": keep(-1),
    "longer": lambda file, other: file.write_bytes(file.read_bytes() + b"x"),
    "deleted": lambda file, other: file.unlink(),
    "another chunk's": lambda file, other: file.write_bytes(other.read_bytes()),
    "a directory": lambda file, other: (file.unlink(), file.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_damaged_file_is_passed_over_in_silence_and_counted(damage, tmp_path):
    share, buffer = Counting(weights=np.arange(30.0)), np.empty(1000, np.uint8)
    spooled = Spool(share, tmp_path, MIB)
    for chunk in range(3):
        spooled.load(chunk)
    first, second, _ = files(tmp_path)
    DAMAGE[damage](second, first)
    for _ in range(2):
        equal(spooled.load(1, buffer), Counting(weights=np.arange(30.0)).load(1))
        equal(spooled.load(0), Counting(weights=np.arange(30.0)).load(0))
    assert share.loads == [0, 1, 2, 1, 1]  # the file is not tried again
    assert (spooled.n_damaged, spooled.n_blocks) == (1, 2)
    assert spooled.n_bytes == sum(file.stat().st_size for file in files(tmp_path) if file.is_file())


# --- a full disk ---


@pytest.mark.parametrize(
    ("number", "full"),
    [(errno.ENOSPC, True), (errno.EDQUOT, True), (errno.EFBIG, True), (errno.EIO, False)],
)
def test_a_full_disk_ends_the_writing_and_nothing_else(number, full, tmp_path, monkeypatch):
    share = Counting()
    spooled = Spool(share, tmp_path, MIB)
    spooled.load(0)

    def fail(path, *args):
        path.write_bytes(b"some of it")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(spool, "write_block", fail)
    equal(spooled.load(1), Counting().load(1))
    monkeypatch.undo()
    equal(
        spooled.load(2), Counting().load(2)
    )  # the disk may have free bytes again; it is not tried
    equal(spooled.load(0), Counting().load(0))
    assert share.loads == [0, 1, 2]
    assert (spooled.full, spooled.error.errno, spooled.n_blocks) == (full, number, 1)
    assert [file.name for file in files(tmp_path)] == ["0.block"]
    assert spooled.n_bytes == files(tmp_path)[0].stat().st_size


def run(code, *args, **options):
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (ROOT, ROOT / "tests" / "support")))
    }
    command = [sys.executable, "-c", code, *map(str, args)]
    return subprocess.run(
        command, capture_output=True, text=True, env=environment, cwd=ROOT, **options
    )


def test_a_limit_on_file_sizes_ends_the_writing(tmp_path):
    code = """
import resource, sys
import numpy as np
from dsoftmax.engines.kept.spool import Spool
from spooled import Counting, equal, files
from pathlib import Path
resource.setrlimit(resource.RLIMIT_FSIZE, (500_000, 500_000))
share = Counting(X=np.arange(300_000.0).reshape(30, 10_000))
spooled = Spool(share, sys.argv[1], 2**30)
for chunk in (0, 1, 2, 0):
    equal(spooled.load(chunk), Counting(X=share.X).load(chunk))
print(share.loads, spooled.full, spooled.n_blocks, spooled.n_bytes, files(Path(sys.argv[1])))
"""
    done = run(code, tmp_path, check=True)
    assert done.stdout.strip() == "[0, 1, 2, 0] True 0 0 []"


# --- what is left ---


def test_closing_removes_all_and_loads_go_on(tmp_path):
    share = Counting()
    spooled = Spool(share, tmp_path / "deep/er", MIB)
    spooled.load(0)
    spooled.close()
    spooled.close()
    equal(spooled.load(0), Counting().load(0))
    assert share.loads == [0, 0]
    assert list((tmp_path / "deep/er").iterdir()) == []


def test_letting_go_of_a_spool_removes_its_folder(tmp_path):
    spooled = Spool(Counting(), tmp_path, MIB)
    spooled.load(0)
    assert len(files(tmp_path)) == 1
    del spooled
    assert list(tmp_path.iterdir()) == []


MAKE = (
    "import os, sys; from dsoftmax.engines.kept.spool import Spool; from spooled import Counting; "
    "s = Spool(Counting(), sys.argv[1], 2**20); s.load(0); "
)


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "raise ValueError", "os.fork() or os.kill(os.getpid(), 0)"]
)
def test_the_end_of_a_process_removes_its_folder(end, tmp_path):
    run(MAKE + end, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_by_the_next_one_and_what_lives_stays(tmp_path):
    run(MAKE + "os.kill(os.getpid(), 9)", tmp_path)
    assert len(files(tmp_path)) == 1
    alive = Spool(Counting(), tmp_path, MIB)
    alive.load(1)
    assert [file.name for file in files(tmp_path)] == ["1.block"]
    done = run(MAKE + "print(sum(1 for _ in os.scandir(sys.argv[1])))", tmp_path, check=True)
    assert done.stdout.strip() == "4"  # two folders, two locks
    equal(alive.load(1), Counting().load(1))
    assert alive.n_read == 1


def test_a_forked_child_that_ends_leaves_the_folder_to_its_parent(tmp_path):
    # The child runs its exit handlers.
    code = f"{MAKE}pid = os.fork() or sys.exit()\nos.waitpid(pid, 0)\n"
    code += "s.load(0)\nprint(s.n_read, s.n_damaged)"
    assert run(code, tmp_path, check=True).stdout.strip() == "1 0"
    assert list(tmp_path.iterdir()) == []


def test_folders_of_others_are_not_touched(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / f"{PREFIX}without-a-lock").mkdir()
    assert remove_leftovers(tmp_path) == []
    SpoolDirectory(tmp_path).remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"{PREFIX}without-a-lock", "mine"]


# --- threads ---


def test_many_threads_load_the_same_chunks(tmp_path):
    share = Counting()
    expected = [Counting().load(chunk) for chunk in range(3)]
    spooled = Spool(share, tmp_path, MIB)
    together = threading.Barrier(8)

    def work(number):
        buffer = np.empty(1000, np.uint8)
        together.wait()
        for i in range(60):
            chunk = (i + number) % 3
            equal(spooled.load(chunk, buffer), expected[chunk])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert (spooled.n_blocks, spooled.n_damaged) == (3, 0)
    assert len(files(tmp_path)) == 3
    assert spooled.n_read + len(share.loads) == 8 * 60


def test_closing_while_others_load_breaks_nothing(tmp_path):
    for _ in range(20):
        share = Counting()
        spooled = Spool(share, tmp_path, MIB)
        with ThreadPoolExecutor(4) as pool:
            loading = [pool.submit(spooled.load, i % 3) for i in range(40)]
            spooled.close()
            for i, done in enumerate(loading):
                equal(done.result(), Counting().load(i % 3))
        assert list(tmp_path.iterdir()) == []


def test_a_spool_is_not_pickled(tmp_path):
    with pytest.raises(TypeError, match="pickle the share that it wraps"):
        pickle.dumps(Spool(Counting(), tmp_path, MIB))


def test_a_block_of_no_rows_is_spooled_too(tmp_path):
    description, parts = block_file.describe_block(4, Block(np.empty((0, 3)), np.empty(0, "i8")))
    block_file.write_block(tmp_path / "x", description, parts)
    assert block_file.read_block(tmp_path / "x", 4, None).X.shape == (0, 3)


def test_the_reasons_of_skipped_rows_are_spooled(tmp_path):
    rng = np.random.default_rng(6)
    X, reasons = rng.normal(size=(60, 2)), rng.integers(0, 5, 60).astype(np.uint8)
    source = open_source(Table(X, np.arange(60), skipped=reasons))
    spool = Spool(source.share([0]), tmp_path, 2**20)
    first, again = spool.load(0), spool.load(0)
    spool.close()
    assert spool.n_read == 1
    assert again.reasons.tolist() == first.reasons.tolist() == reasons.tolist()
    assert again.counted()[0].row_numbers.tolist() == np.flatnonzero(reasons == 0).tolist()
