"""Every kind of storage gives the rows that were stored, with their labels, weights and groups."""

import pickle

import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import stored
from opening import opened

from dsoftmax.data.columns import STRING_BYTES
from dsoftmax.data.kind import is_lazy
from dsoftmax.data.table import Names
from dsoftmax.errors import DataError, OptionError
from dsoftmax.testing.sources import check_source

NAMES = Names("store/X", "store/y", "store/w", "store/g")


@pytest.fixture(params=["chunks as stored", "small chunks together", "large chunks in parts"])
def grouping(request, monkeypatch):
    """Stored chunks are read alone, several together, or each in parts."""
    if request.param != "small chunks together":
        monkeypatch.setattr("dsoftmax.data.zarr.source.GROUP_BYTES", 0)
        monkeypatch.setattr("dsoftmax.data.memory.CHUNK_BYTES", 2000)
        monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", 2000)
    if request.param == "large chunks in parts":
        monkeypatch.setattr("dsoftmax.data.zarr.source.PART_BYTES", 300)
        monkeypatch.setattr("dsoftmax.data.zarr.source.leaf_rows", lambda p: 8)


@pytest.mark.parametrize("kind", stored.KINDS)
def test_every_storage_keeps_the_contract_of_a_source(kind, tmp_path, grouping):
    data = stored.KINDS[kind](tmp_path)
    source = opened(*data, names=NAMES)
    check_source(source, data.X, data.y, data.weights)
    again = (
        pickle.loads(pickle.dumps(source, 5)).describe()
        if "dask" not in kind
        else opened(*data, names=NAMES).describe()
    )
    assert again == source.describe()


GROUPS = {
    "numbers": np.arange(stored.N) // 7 - 20,
    "words": np.array(["ash", "béé", "oak", "elm"])[np.arange(stored.N) // 9 % 4],
}


def of_any_length(values):
    return values.astype(np.dtypes.StringDType()) if values.dtype.kind == "U" else values


COLUMNS = {
    "numpy": lambda values, path: values,
    "strings of any length": lambda values, path: of_any_length(values),
    "lists": lambda values, path: values.tolist(),
    "objects": lambda values, path: values.astype(object),
    "zarr": lambda values, path: stored.array(path, "g", of_any_length(values), (41,)),
    "zarr v2": lambda values, path: stored.array(path, "g", values, (41,), zarr_format=2),
    "dask": stored.cut(31),
}


@pytest.mark.parametrize("column", COLUMNS)
@pytest.mark.parametrize("groups", GROUPS)
@pytest.mark.parametrize(
    "kind", ["numpy", "csr_array", "zarr v3 sharded", "zarr v2", "dask", "dask csr_array"]
)
def test_groups_travel_with_the_rows_of_every_storage(kind, groups, column, tmp_path, monkeypatch):
    for name in (
        "data.memory.CHUNK_BYTES",
        "data.memory.CSR_CHUNK_BYTES",
        "data.zarr.source.GROUP_BYTES",
    ):
        monkeypatch.setattr(f"dsoftmax.{name}", 2000)
    values, data = GROUPS[groups], stored.KINDS[kind](tmp_path)
    source = opened(*data, names=NAMES, groups=COLUMNS[column](values, tmp_path))
    assert len(source.chunk_rows) > 1 or (kind, column) == ("numpy", "dask")
    check_source(source, data.X, data.y, data.weights, values)
    assert source.describe()["arrays"].keys() == {"X", "y", "groups"} | (
        {"weights"} if data.weights is not None else set()
    )
    assert opened(*data, names=NAMES).describe() != source.describe()
    assert opened(*data, names=NAMES).load(0).groups is None


@pytest.mark.parametrize("column", ["numpy", "zarr", "dask"])
def test_a_missing_group_is_named_with_its_row_in_the_array(column, tmp_path, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.memory.CHUNK_BYTES", 2000)
    values = np.arange(stored.N, dtype=float)
    values[250] = np.nan
    source = opened(np.ones((stored.N, 5)), groups=COLUMNS[column](values, tmp_path), names=NAMES)
    numbers = [chunk for chunk, stop in enumerate(np.cumsum(source.chunk_rows)) if stop > 250]
    with pytest.raises(DataError, match="store/g row 250: the group is nan"):
        source.load(numbers[0])
    assert all(source.load(chunk).groups is not None for chunk in range(numbers[0]))


@pytest.mark.parametrize("weight", [2, 2.5, np.float32(3)])
@pytest.mark.parametrize(
    "kind",
    ["numpy", "csr_array", "lists", "zarr v3 uneven, by columns", "dask", "dask unknown sizes"],
)
def test_one_number_is_the_weight_of_every_row(kind, weight, tmp_path):
    it = stored.KINDS[kind](tmp_path)
    check_source(opened(*it.args[:2], weight), it.X, it.y, np.full(stored.N, float(weight)))


@pytest.mark.parametrize(
    "dtype", ["bool", "i1", "u1", "<i2", ">u2", "<i4", "<i8", "<f2", "<f4", ">f4", "<f8"]
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_blocks_have_the_stored_dtype(tmp_path, dtype, zarr_format):
    X = np.arange(60).reshape(20, 3).astype(dtype)
    source = opened(stored.array(tmp_path, "X", X, (8, 3), zarr_format=zarr_format))
    check_source(source, X)
    assert source.dtype.newbyteorder("=") == X.dtype.newbyteorder("=")


def test_dask_and_zarr_are_lazy_and_arrays_in_memory_are_not(tmp_path):
    assert is_lazy(da.zeros((2, 2)))
    assert is_lazy(stored.array(tmp_path, "X", np.zeros((2, 2)), (2, 2)))
    assert not is_lazy(np.zeros((2, 2)))
    assert not is_lazy(scipy.sparse.csr_array((2, 2)))
    assert not is_lazy([[0.0]])


@pytest.mark.parametrize(
    ("dtypes", "row", "stored_row"),
    [
        (("i8", None, None), 8, 8),
        (("U40", "f4", "i1"), 160 + 8 + 8, 160 + 4 + 1),
        (("S3", None, "U5"), 3 + 8, 3 + 20 + STRING_BYTES),
    ],
)
def test_bytes_of_labels_weights_and_groups_depend_on_their_dtypes(
    dtypes, row, stored_row, tmp_path
):
    columns = [None if dtype is None else np.ones(1000).astype(dtype) for dtype in dtypes]
    X = stored.array(tmp_path, "X", np.zeros((1000, 3)), (100, 3))
    paths = [
        None if c is None else stored.array(tmp_path, f"c{i}", c, (100,), zarr_format=2)
        for i, c in enumerate(columns)
    ]
    y, weights, groups = paths
    found = opened(X, y, weights, groups=groups)
    check_source(found)
    assert (found.columns.row, found.columns.stored, found.columns.units) == (row, stored_row, 0)
    y, weights, groups = columns
    assert opened(np.zeros((1000, 3)), y).columns.row == 0
    assert opened(np.zeros((1000, 3)), y, weights).columns.stored == 0


@pytest.mark.parametrize(
    "kind", ["zarr v3", "numpy", "csr_array", "dask", "numpy with labels in zarr"]
)
def test_missing_chunks_takes_two_values(kind, tmp_path):
    with pytest.raises(OptionError, match=r"missing_chunks='fil' is unknown. Did you mean 'fill'"):
        opened(*stored.KINDS[kind](tmp_path), missing_chunks="fil")
