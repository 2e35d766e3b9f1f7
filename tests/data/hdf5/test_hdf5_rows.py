"""HDF5 datasets are read by rows, within the memory allowed, and never as a whole."""

import pickle
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import stored
from estimator_cases import TIGHT, make_data, run_python
from opening import opened

from dsoftmax import SoftmaxRegression
from dsoftmax.errors import DataError, ReadError
from dsoftmax.testing.sources import check_source

h5py = pytest.importorskip("h5py")


@pytest.fixture
def small_chunks(monkeypatch):
    """Stored chunks are read alone."""
    monkeypatch.setattr("dsoftmax.data.zarr.source.GROUP_BYTES", 0)


def written(path, values, **options):
    """Write datasets by name, and return them from a file that is open for reading."""
    with h5py.File(path / "data.h5", "w") as file:
        for name, array in values.items():
            file.create_dataset(name, data=array, **options.get(name, {}))
    return h5py.File(path / "data.h5", "r")


LAYOUTS = {
    "contiguous": ({}, {}),
    "chunked": ({"chunks": (64, 5)}, {"chunks": (64,)}),
    "labels cut otherwise": ({"chunks": (64, 5)}, {"chunks": (41,)}),
    "labels in one chunk": ({"chunks": (64, 5)}, {"chunks": (300,)}),
    "chunks of columns": ({"chunks": (70, 2)}, {}),
    "compressed": (
        {"chunks": (50, 5), "compression": "gzip", "shuffle": True, "fletcher32": True},
        {"chunks": (50,), "compression": "lzf"},
    ),
}


@pytest.mark.parametrize("dtype", ["f4", ">f8", "f2", "u1", "i8", "bool"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_layout_keeps_the_contract_of_a_source(layout, dtype, tmp_path, small_chunks):
    X, y, weights = stored.rows("f8")
    X = X.astype(dtype)
    of_X, of_y = LAYOUTS[layout]
    options = {"X": of_X, "y": of_y, "w": of_y}
    with written(tmp_path, {"X": X, "y": y, "w": weights}, **options) as file:
        source = opened(file["X"], file["y"], file["w"])
        check_source(source, X, y, weights)
        assert (len(source.chunk_rows) > 1) == ("chunks" in of_X)
        assert pickle.loads(pickle.dumps(source)).describe() == source.describe()


MIXED = {
    "labels in memory": lambda file, path, y: (file["X"], y),
    "rows in memory": lambda file, path, y: (file["X"][:], file["y"]),
    "labels in Zarr": lambda file, path, y: (file["X"], stored.array(path, "y", y, (70,))),
    "rows in Zarr": lambda file, path, y: (
        stored.array(path, "X", file["X"][:], (64, 5)),
        file["y"],
    ),
    "labels in dask": lambda file, path, y: (file["X"], da.from_array(y, chunks=70)),
    "rows in dask": lambda file, path, y: (da.from_array(file["X"][:], chunks=(70, 5)), file["y"]),
}


@pytest.mark.parametrize("mixed", MIXED)
def test_datasets_beside_arrays_of_other_kinds(mixed, tmp_path, small_chunks):
    X, y, _ = stored.rows()
    chunks = {"X": {"chunks": (64, 5)}, "y": {"chunks": (41,)}}
    with written(tmp_path, {"X": X, "y": y}, **chunks) as file:
        check_source(opened(*MIXED[mixed](file, tmp_path, y)), X, y)


@pytest.mark.parametrize("kind", ["strings", "fixed", "asstr", "astype"])
def test_text_and_views_are_labels_as_h5py_reads_them(kind, tmp_path):
    X, codes = make_data(3)
    words = np.array(["oak", "fir", "bïrch"])[codes]
    values = {
        "strings": words.astype(object),
        "asstr": words.astype(object),
        "fixed": np.char.encode(words, "utf-8"),
        "astype": codes,
    }[kind]
    options = {"y": {"dtype": h5py.string_dtype()}} if kind in ("strings", "asstr") else {}
    with written(tmp_path, {"X": X, "y": values}, **options) as file:
        y = file["y"]
        y = {"asstr": y.asstr, "astype": lambda: y.astype("f4")}.get(kind, lambda: y)()
        lazy = SoftmaxRegression(**TIGHT).fit(file["X"], y)
        whole = SoftmaxRegression(**TIGHT).fit(X, y[:])
        assert lazy.classes_.tolist() == whole.classes_.tolist()
        np.testing.assert_allclose(lazy.coef_, whole.coef_, rtol=1e-8)
        assert lazy.score(file["X"], y) == whole.score(X, y[:])
        assert lazy.predict(file["X"]).tolist() == whole.predict(X).tolist()
        assert pickle.loads(pickle.dumps(opened(file["X"], y))).load(0).y.tolist() == y[:].tolist()


def test_a_chunk_that_was_never_written_is_a_loss_unless_fill_is_meant(tmp_path):
    X, y = np.ones((300, 5)), np.arange(300) % 3
    with h5py.File(tmp_path / "data.h5", "w") as file:
        rows = file.create_dataset("X", X.shape, "f8", chunks=(50, 5), fillvalue=0.5)
        rows[:100], rows[150:] = X[:100], X[150:]
        file.create_dataset("all", X.shape, "f8")
    with h5py.File(tmp_path / "data.h5", "r") as file:
        with pytest.raises(ReadError, match=r"X rows 100–149: a chunk was never written.*0\.5"):
            opened(file["X"], y)
        with pytest.raises(ReadError, match="X rows 0–299: a chunk was never written"):
            opened(file["all"], y)
        X[100:150] = 0.5
        check_source(opened(file["X"], y, missing_chunks="fill"), X, y)


def test_a_virtual_dataset_without_its_source_is_refused(tmp_path):
    X = np.arange(20.0).reshape(10, 2)
    with h5py.File(tmp_path / "part.h5", "w") as file:
        file["X"] = X
    layout = h5py.VirtualLayout((10, 2), "f8")
    layout[:] = h5py.VirtualSource("part.h5", "X", (10, 2))
    with h5py.File(tmp_path / "data.h5", "w") as file:
        file.create_virtual_dataset("X", layout)
    with h5py.File(tmp_path / "data.h5", "r") as file:
        check_source(opened(file["X"]), X)
    (tmp_path / "part.h5").unlink()
    with (
        h5py.File(tmp_path / "data.h5", "r") as file,
        pytest.raises(ReadError, match=r"its source .*part.h5 is missing"),
    ):
        opened(file["X"])


def test_groups_and_closed_datasets_are_refused_with_a_cure(tmp_path):
    X, y, _ = stored.rows()
    file = written(tmp_path, {"X": X, "rows/A": X})
    with pytest.raises(DataError, match=r"X is a group of HDF5.*It has X\. Pass .*X\['X'\]"):
        opened(file, y)
    with pytest.raises(DataError, match=r"Pass one of them: X\['A'\]"):
        opened(file["rows"], y)
    rows = file["X"]
    file.close()
    with pytest.raises(DataError, match="closed h5py object"):
        opened(rows, y)


@pytest.mark.parametrize("place", ["memory", "writing"])
def test_a_file_that_no_worker_can_open_is_refused_for_workers_only(place, tmp_path):
    X, y, _ = stored.rows()
    options = {"driver": "core", "backing_store": False} if place == "memory" else {}
    with h5py.File(tmp_path / "a.h5", "w", **options) as file:
        file["X"] = X
        source = opened(file["X"], y)
        assert (source.load(0).X == X).all()
        with pytest.raises(DataError, match=r"HDF5 file .*; expected.*engine='threads'"):
            pickle.dumps(source)


def test_smaller_chunks_are_written_by_the_command_that_is_offered(tmp_path):
    X, y, _ = stored.rows()
    with written(tmp_path, {"X": X}, X={"chunks": (200, 5), "compression": "gzip"}) as file:
        command = opened(file["X"], y).smaller_chunks(30)
        subprocess.run(command.replace("python", sys.executable, 1), shell=True, check=True)
    with h5py.File(tmp_path / "data.h5-30-rows.h5", "r") as file:
        assert file["X"].chunks == (30, 5)
        assert file["X"].compression == "gzip"
        assert (file["X"][:] == X).all()


def test_workers_of_a_cluster_open_the_file_and_give_the_same_bits(tmp_path, small_chunks):
    distributed = pytest.importorskip("distributed")
    X, y = make_data(3)
    chunks = {"X": {"chunks": (100, 5)}, "y": {"chunks": (77,)}}
    with written(tmp_path, {"X": X, "y": y}, **chunks) as file:
        here = SoftmaxRegression(engine="threads").fit(file["X"], file["y"])
        with distributed.Client(
            processes=False, n_workers=2, threads_per_worker=1, dashboard_address=":0"
        ) as client:
            there = SoftmaxRegression(engine=client).fit(file["X"], file["y"])
    assert (there.model_.theta == here.model_.theta).all()


MEASURE = """
import h5py, numpy as np
from dsoftmax import SoftmaxRegression
from dsoftmax.system.process import peak_bytes
rows, p, n = 1_500_000, 64, 30
y = np.random.default_rng(1).integers(0, 3, rows).astype(np.int8)
with h5py.File({path!r}, "r") as file:
    SoftmaxRegression(memory_limit="400MiB", max_iter=1, kernel="numpy").fit(file["X"], y)
print(peak_bytes() // 2**20)
"""


def test_the_measured_memory_stays_within_the_limit(tmp_path):
    rows, p = 1_500_000, 64
    with h5py.File(tmp_path / "a.h5", "w") as file:
        X = file.create_dataset("X", (rows, p), "f4", chunks=(rows // 30, p))
        for start in range(0, rows, rows // 30):
            X[start : start + rows // 30] = np.random.default_rng(start).random((rows // 30, p))
        assert X.nbytes > 350 * 2**20
    found = run_python(MEASURE.format(path=str(tmp_path / "a.h5")), "-Wignore")
    assert int(found.split()[-1]) < 400
