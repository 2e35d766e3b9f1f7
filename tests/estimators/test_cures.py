"""Every message that says "pass X.…" is followed, on the very input that it refuses."""

import re

import dask.array as da
import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import zarr
from estimator_cases import TIGHT, make_data

import dsoftmax
from dsoftmax import SoftmaxRegression
from dsoftmax.errors import DataError, ReadError

X, Y = make_data(4, n=300, p=4)
WEIGHTS = np.linspace(0.5, 2, len(Y))
FIRST = np.ascontiguousarray(X.T).reshape(4, 10, 30)
"""The features in the first dimension, as the bands of an image."""
LAST = X.reshape(10, 30, 4)
"""The features in the last dimension."""
MARKS = np.eye(4)[Y]
"""One-hot labels."""


def in_zarr(path, name, values):
    return zarr.create_array(
        path / name, data=values, chunks=values.shape, config={"write_empty_chunks": True}
    )


def in_hdf5(path, name, values):
    h5py = pytest.importorskip("h5py")
    with h5py.File(path / f"{name}.h5", "w") as file:
        file.create_dataset("values", data=values, chunks=values.shape)
    return h5py.File(path / f"{name}.h5", "r")["values"]


STORAGES = {
    "numpy": lambda path, name, values: values,
    "lists": lambda path, name, values: values.tolist(),
    "zarr": in_zarr,
    "hdf5": in_hdf5,
    "dask": lambda path, name, values: da.from_array(values, chunks=values.shape),
}


def bag(values):
    import dask.bag

    return dask.bag.from_sequence(values.tolist(), npartitions=2)


def reader(values):
    arrow = pytest.importorskip("pyarrow")
    return arrow.Table.from_pandas(pd.DataFrame(values)).to_reader()


def arrow_dataset(values):
    arrow = pytest.importorskip("pyarrow")
    datasets = pytest.importorskip("pyarrow.dataset")
    return datasets.dataset(arrow.Table.from_pandas(pd.DataFrame(values)))


def csv_pieces(values):
    from io import StringIO

    return pd.read_csv(StringIO(pd.DataFrame(values).to_csv(index=False)), chunksize=100)


CASES = {
    "labels as a row": lambda path, store: (X, store(path, "y", Y[None, :])),
    "labels as an image": lambda path, store: (X, store(path, "y", Y.reshape(10, 30))),
    "one-hot labels": lambda path, store: (X, store(path, "y", MARKS)),
    "features last": lambda path, store: (store(path, "X", LAST), Y),
    "features first": lambda path, store: (store(path, "X", FIRST), Y),
    "rows first": lambda path, store: (store(path, "X", X.reshape(300, 2, 2)), Y),
    "weights as a column": lambda path, store: (X, Y, store(path, "w", WEIGHTS[:, None])),
    "weights as an image": lambda path, store: (X, Y, store(path, "w", WEIGHTS.reshape(10, 30))),
}
CONTAINERS = {
    "Arrow reader": lambda path: (reader(X), Y),
    "Arrow dataset": lambda path: (arrow_dataset(X), Y),
    "pieces of a CSV file": lambda path: (csv_pieces(X), Y),
    "dict of columns": lambda path: ({f"x{j}": X[:, j] for j in range(4)}, Y),
    "generator of rows": lambda path: ((row for row in X), Y),
    "zip of columns": lambda path: (zip(*X.T, strict=True), Y),
    "sparse one-hot labels": lambda path: (X, scipy.sparse.csr_array(MARKS)),
    "sparse column of weights": lambda path: (X, Y, scipy.sparse.csr_array(WEIGHTS[:, None])),
    "words and numbers": lambda path: (X, np.array([*Y[:-1].astype(str), Y[-1]], object)),
}


def cure_of(message):
    """Return the expression after "pass", and the argument that it replaces."""
    text = message.partition("(one-hot), ")[2] or message
    found = re.search(r"[Pp]ass (.*?)(?:\.?$|\. |, or | if )", text)
    if found is None and "astype(str)" in message:
        return "y", "y.astype(str)"
    line = found.group(1)
    name = re.search(r"\b(X|y|sample_weight)\b", line).group(1)
    return name, line


def follow(arrays, message):
    """Return the arrays after the cure."""
    import dask

    table = dict(zip(("X", "y", "sample_weight"), arrays, strict=False))
    name, line = cure_of(message)
    names = {"numpy": np, "dask": dask, "pandas": pd, "zarr": zarr, **table}
    table[name] = eval(line, names)
    return tuple(table.values())


def assert_cured(arrays):
    """Fit after each cure until there is no error, with the coefficients of the plain arrays."""
    with pytest.raises(DataError) as error:
        SoftmaxRegression(**TIGHT).fit(*arrays)
    arrays = follow(arrays, str(error.value))
    found = SoftmaxRegression(**TIGHT).fit(*arrays)
    expected = SoftmaxRegression(**TIGHT).fit(X, Y, WEIGHTS if len(arrays) > 2 else None)
    np.testing.assert_allclose(found.coef_, expected.coef_, rtol=1e-6, atol=1e-9)
    assert found.classes_.astype(float).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("case", CASES)
def test_arrays_of_other_shapes_are_cured(case, storage, tmp_path):
    assert_cured(CASES[case](tmp_path, STORAGES[storage]))


@pytest.mark.parametrize("storage", ["zarr", "hdf5"])
def test_a_stored_column_of_labels_is_cured(storage, tmp_path):
    assert_cured((X, STORAGES[storage](tmp_path, "y", Y[:, None])))
    assert_cured((da.from_array(X), STORAGES[storage](tmp_path, "z", Y[:, None])))


@pytest.mark.filterwarnings("ignore:Dask currently has limited support")
@pytest.mark.parametrize("container", CONTAINERS)
def test_containers_are_cured(container, tmp_path):
    arrays = CONTAINERS[container](tmp_path)
    assert_cured(arrays)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("values", [FIRST, LAST, X.reshape(300, 2, 2), X[0]])
def test_predictions_of_other_shapes_are_cured(values, storage, tmp_path):
    model = SoftmaxRegression(**TIGHT).fit(X, Y)
    rows = STORAGES[storage](tmp_path, "X", values)
    expected = model.predict_proba(X[:1] if values.ndim == 1 else X)
    for owner in (model, model.model_):
        with pytest.raises(DataError) as error:
            owner.predict_proba(rows)
        (cured,) = follow((rows,), str(error.value))
        np.testing.assert_allclose(np.asarray(owner.predict_proba(cured)), expected, atol=1e-12)


@pytest.mark.parametrize("door", ["predict", "predict_proba", "score", "uncertainty"])
def test_every_door_has_the_same_cures(door):
    model = SoftmaxRegression(**TIGHT).fit(X, Y)
    arrays = [bag(X), bag(Y)]
    for _ in range(2 if door in ("score", "uncertainty") else 1):
        given = arrays if door in ("score", "uncertainty") else arrays[:1]
        with pytest.raises(DataError, match="expected a dask array") as error:
            getattr(model, door)(*given)
        arrays = list(follow(arrays, str(error.value)))
    given = arrays if door in ("score", "uncertainty") else arrays[:1]
    assert getattr(model, door)(*given) is not None


@pytest.mark.parametrize("broken", ["X", "y", "sample_weight"])
def test_the_array_whose_graph_fails_is_named_and_computed_alone(broken):
    def fails(block):
        if len(block) and block.ravel()[0] == good[broken][200:201].ravel()[0]:
            raise ZeroDivisionError
        return block

    good = {"X": X, "y": np.arange(300), "sample_weight": WEIGHTS}
    arrays = {
        name: da.from_array(values, chunks=100 if values.ndim == 1 else (100, -1))
        for name, values in good.items()
    }
    arrays["y"] = arrays["y"].rechunk(50)
    arrays[broken] = arrays[broken].map_blocks(fails, dtype=arrays[broken].dtype)
    with pytest.raises(ReadError, match=rf"^{broken} rows 200–299: the dask graph") as error:
        SoftmaxRegression().fit(*arrays.values())
    line = re.search(r"see where: (.*)\.$", str(error.value)).group(1)
    with pytest.raises(ZeroDivisionError):
        eval(line, dict(arrays))


def test_a_path_is_cured_by_the_line_that_opens_it(tmp_path):
    group = zarr.create_group(tmp_path / "data.zarr")
    group.create_array("X", data=X, chunks=(100, 4))
    in_zarr(tmp_path, "alone", X)
    np.save(tmp_path / "X.npy", X)
    pd.DataFrame(X).to_csv(tmp_path / "X.csv", index=False)
    paths = ["data.zarr", "data.zarr/X", "alone", "X.npy", "X.csv"]
    names = {"zarr": zarr, "numpy": np, "pandas": pd}
    with_hdf5 = pytest.importorskip("h5py")
    with with_hdf5.File(tmp_path / "X.h5", "w") as file:
        file["X"] = X
    names["h5py"] = with_hdf5
    for path in [*paths, "X.h5"]:
        with pytest.raises(DataError) as error:
            SoftmaxRegression().fit(str(tmp_path / path), Y)
        line = re.search(r"open it: (.*)\.$", str(error.value)).group(1)
        assert len(SoftmaxRegression().fit(eval(line, names), Y).classes_) == 4


def test_a_stored_array_of_another_library_is_read_through_dask():
    class Variable:
        """A variable of a file, as netCDF4 and PyTables have them."""

        shape, dtype, ndim = X.shape, X.dtype, 2
        chunking = None

        def __getitem__(self, index):
            return X[index]

        def __array__(self, dtype=None, copy=None):
            raise AssertionError("read as a whole")

    assert_cured((Variable(), Y))


def test_a_run_directory_and_its_model_are_loaded(tmp_path):
    model = SoftmaxRegression(**TIGHT).fit(X, Y).model_
    dsoftmax.save_model(model, tmp_path / "run" / "model.zarr")
    for path in (tmp_path / "run", tmp_path / "run" / "model.zarr", str(tmp_path / "run")):
        assert (dsoftmax.load_model(path).theta == model.theta).all()


def test_nullable_weights_are_numbers():
    weights = pd.Series(WEIGHTS, dtype="Float64")
    found = SoftmaxRegression(**TIGHT).fit(X, Y, weights)
    assert (found.coef_ == SoftmaxRegression(**TIGHT).fit(X, Y, WEIGHTS).coef_).all()
    assert found.score(X, Y, weights) == found.score(X, Y, WEIGHTS)
