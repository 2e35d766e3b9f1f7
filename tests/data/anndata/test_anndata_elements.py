"""Elements of AnnData are read as what they mean, and their parts are refused."""

import pickle

import cells
import dask.array as da
import numpy as np
import pytest
import scipy.sparse
import zarr
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax.data.anndata.columns import CategoricalRows
from dsoftmax.data.open import admitted
from dsoftmax.errors import DataError, ReadError
from dsoftmax.testing.sources import check_source

N, P = 400, 7
NAMES = np.array(["B", "NK", "T"])


@pytest.fixture
def X(rng):
    return rng.normal(size=(N, P)).astype("f4") * (rng.random((N, P)) < 0.4)


@pytest.fixture
def root(tmp_path):
    return cells.root(tmp_path / "a.zarr")


def parts(source):
    """The rows of all blocks, one after the other."""
    blocks = [source.load(chunk) for chunk in range(len(source.chunk_rows))]
    return scipy.sparse.vstack([b.X for b in blocks]), np.concatenate([b.y for b in blocks])


def test_sorted_codes_and_masks_without_a_missing_value_are_read_although_not_stored(root, X):
    y = NAMES[np.sort(np.arange(N) % 3)]
    kind = cells.categorical(root, "kind", y, (40,))
    count = cells.nullable(root, "count", np.arange(N) // 200, np.zeros(N), chunks=(40,))
    assert kind["codes"].nchunks_initialized == 7  # of 10: three hold the code 0 alone
    assert count["values"].nchunks_initialized == 5
    assert count["mask"].nchunks_initialized == 0
    flag = cells.put(root, "flag", np.arange(N) // 200, (40,))
    matrix = cells.csr(root, "X", X)
    check_source(opened(matrix, kind), X, y)
    check_source(opened(matrix, count), X, np.arange(N) // 200)
    check_source(opened(matrix, flag), X, np.arange(N) // 200)


@pytest.mark.parametrize("part", ["data", "indices"])
def test_a_lost_chunk_of_values_is_an_error(root, X, part, tmp_path):
    matrix = cells.csr(root, "X", X)
    (tmp_path / "a.zarr" / "X" / part / "c" / "2").unlink()
    with pytest.raises(ReadError, match=r"X rows 200–299: the chunk .*2 is not in .*X/"):
        parts(opened(matrix, NAMES[np.arange(N) % 3]))
    filled, _ = parts(opened(matrix, NAMES[np.arange(N) % 3], missing_chunks="fill"))
    expected = scipy.sparse.csr_array(X)
    getattr(expected, part)[200:300] = 0
    assert_array_equal(filled.toarray(), expected.toarray())


def skipped(source):
    """The number of skipped rows by reason, over all blocks."""
    counts = [source.load(chunk).counted()[1] for chunk in range(len(source.chunk_rows))]
    return sum(count for count in counts if count is not None).tolist()


@pytest.mark.parametrize("missing", [None, np.nan])
def test_rows_without_a_category_are_skipped_and_counted(root, X, missing):
    y = NAMES[np.arange(N) % 3].astype(object)
    y[[150, 151, 399]] = missing
    column = cells.categorical(root.create_group("obs"), "kind", y, (40,))
    for features in (cells.csr(root, "X", X), X, da.from_array(X, chunks=(90, -1))):
        source = opened(features, column)
        assert skipped(source) == [0, 3, 0, 0]
        assert source.columns.copied > 0


def test_rows_that_a_mask_hides_are_skipped_and_counted(root, X):
    mask = np.isin(np.arange(N), [30, 77])
    column = cells.nullable(root, "count", np.arange(N) % 3, mask, chunks=(40,))
    source = opened(cells.csr(root, "X", X), NAMES[np.arange(N) % 3], column)
    assert skipped(source) == [0, 0, 2, 0]


def test_the_rows_without_a_category_are_masked(root):
    y = NAMES[np.arange(N) % 3].astype(object)
    y[7] = None
    rows = admitted(cells.categorical(root, "kind", y, (40,)), "y").rows("y", "error")
    assert isinstance(rows, CategoricalRows)
    found = rows.read(0, 20)
    assert_array_equal(np.flatnonzero(found.mask), [7])
    assert_array_equal(found.compressed(), np.delete(y[:20], 7).astype(str))
    assert not isinstance(rows.read(8, 20), np.ma.MaskedArray)


def test_a_category_without_a_name_is_an_error(root, X):
    column = cells.categorical(root, "kind", NAMES[np.arange(N) % 3], (40,))
    del column["categories"]
    mask = np.array([False, True, False])
    cells.nullable(column, "categories", np.array([1, 2, 3]), mask)
    with pytest.raises(DataError, match="kind/categories has rows without a value"):
        opened(cells.csr(root, "X", X), column)


@pytest.mark.parametrize(
    ("path", "whole"),
    [
        ("obs/kind/codes", "obs/kind"),
        ("obs/kind/categories", "obs/kind"),
        ("obs/count/mask", "obs/count"),
        ("obs/count/values", "obs/count"),
        ("layers/counts/data", "layers/counts"),
        ("layers/counts/indices", "layers/counts"),
    ],
)
@pytest.mark.parametrize("memory", [False, True])
def test_a_part_of_an_element_is_refused_and_the_element_named(path, whole, memory, tmp_path, X):
    root = cells.root(zarr.storage.MemoryStore() if memory else tmp_path / "a.zarr")
    obs, layers = root.create_group("obs"), root.create_group("layers")
    cells.categorical(obs, "kind", NAMES[np.arange(N) % 3])
    cells.nullable(obs, "count", np.arange(N), np.zeros(N))
    cells.csr(layers, "counts", X)
    with pytest.raises(DataError, match=rf"y is a part of {whole}, .*Pass {whole}\."):
        opened(X, root[path])
    if not memory:  # opened by its own path
        with pytest.raises(DataError, match=rf"y is a part of {whole}, .*Pass {whole}\."):
            opened(X, zarr.open_array(tmp_path / "a.zarr" / path, mode="r"))


def test_arrays_with_such_names_elsewhere_are_arrays(tmp_path, X):
    group = zarr.create_group(tmp_path)
    y = np.arange(N) % 3
    codes = group.create_array("codes", data=y)
    check_source(opened(group.create_array("data", data=X, chunks=(100, P)), codes), X, y)


def test_a_matrix_by_columns_is_refused(root, X):
    matrix = cells.csr(root.create_group("layers"), "counts", X)
    matrix.attrs["encoding-type"] = "csc_matrix"
    with pytest.raises(DataError, match=r"X is a CSC matrix .* adata.layers\['counts'\].tocsr\(\)"):
        opened(matrix)


def test_a_sparse_column_is_refused(root, X):
    matrix = cells.csr(root, "X", X)
    with pytest.raises(DataError, match=r"y is sparse, of shape \(400, 7\); .* one of obs"):
        opened(X, matrix)


@pytest.mark.parametrize(
    ("part", "place", "value", "message"),
    [
        ("indptr", 0, 1, "whose pointers do not fit"),
        ("indptr", -1, 5, "whose pointers do not fit"),
        ("indptr", 3, 10**6, "whose pointers do not fit"),
        ("indices", 17, P, f"a stored value has column {P}; expected columns from 0 to {P - 1}"),
        ("indices", 17, -1, "a stored value has column -1"),
    ],
)
def test_damaged_matrices_are_named(root, X, part, place, value, message):
    matrix = cells.csr(root, "X", X)
    matrix[part][place] = value
    with pytest.raises((DataError, ReadError), match=message):
        parts(opened(matrix, NAMES[np.arange(N) % 3]))


def test_a_code_without_a_category_is_named(root, X):
    column = cells.categorical(root, "kind", NAMES[np.arange(N) % 3])
    column["codes"][5] = 3
    with pytest.raises(ReadError, match="y row 5: the code is 3; expected −1, or one of the 3"):
        parts(opened(cells.csr(root, "X", X), column))


def test_a_group_without_its_parts_is_named(root, X):
    group = cells.encoded(root, "kind", cells.CATEGORICAL)
    with pytest.raises(DataError, match="kind is encoded as categorical, and has no codes"):
        opened(cells.csr(root, "X", X), group)


def test_rows_of_empty_matrices_and_rows_without_values(root):
    X = np.zeros((N, P), "f4")
    check_source(opened(cells.csr(root, "empty", X, (8,))), X)
    X[200] = 1
    check_source(opened(cells.csr(root, "one", X, (8,))), X)


def test_float16_becomes_float32_as_in_memory(root, X):
    half = X.astype("f2")
    source = opened(cells.csr(root, "X", half))
    check_source(source, half.astype("f4"))
    assert source.dtype == np.float32


def test_a_share_holds_the_pointers_of_its_rows_alone(root, rng, monkeypatch):
    monkeypatch.setattr("dsoftmax.data.memory.CSR_CHUNK_BYTES", 2000)
    X = rng.normal(size=(20_000, 3)) * (rng.random((20_000, 3)) < 0.3)
    source = opened(cells.csr(root, "X", X, (1000,)))
    assert len(source.chunk_rows) > 8
    all_chunks = len(pickle.dumps(source.share(range(len(source.chunk_rows)))))
    assert len(pickle.dumps(source.share([1]))) < all_chunks / 4
    check_source(source, X)


def test_elements_mix_with_arrays_in_memory_and_in_dask(root, X):
    y = NAMES[np.arange(N) % 3]
    column, matrix = cells.categorical(root, "kind", y), cells.csr(root, "X", X)
    check_source(opened(X, column), X, y)
    check_source(opened(matrix, y), X, y)
    check_source(opened(matrix, da.from_array(y, chunks=90)), X, y)
    check_source(opened(da.from_array(X, chunks=(90, -1)), column), X, y)
