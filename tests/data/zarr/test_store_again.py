"""The commands that store an array again, in smaller chunks or another shape, work as printed."""

import shlex
import subprocess
import sys

import dask.array as da
import numpy as np
import pytest
import stored
import zarr
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax.data.table import Names
from dsoftmax.errors import DataError
from dsoftmax.testing.sources import check_source


@pytest.mark.parametrize(
    "options",
    [
        {"chunks": (100, 4)},
        {"chunks": (64, 3), "zarr_format": 2, "dtype": ">i2"},
        {"chunks": (10, 4), "shards": (50, 4)},
        {"chunks": (1000, 1)},
    ],
    ids=str,
)
@pytest.mark.parametrize("folder", ["plain", "with 'quotes', \"more\" & $paces é"])
def test_the_command_for_smaller_chunks_works_as_printed(options, folder, tmp_path):
    X = np.arange(130 * 4).reshape(130, 4).astype(options.pop("dtype", "f4"))
    X[:40] = 0
    array = stored.array(tmp_path / folder, "X", X, **options)
    line = opened(array).smaller_chunks(7)
    command = line.replace("python", shlex.quote(sys.executable), 1)
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    again = zarr.open_array(tmp_path / folder / "X-7-rows", mode="r")
    assert again.chunks == (7, 4)
    check_source(opened(again), X)


def test_dask_arrays_have_a_line_of_python_and_arrays_in_memory_have_none():
    X = da.zeros((40, 2), chunks=(20, 2))
    namespace = {"X": X}
    exec(opened(X).smaller_chunks(7), namespace)
    assert namespace["X"].chunks[0] == (7, 7, 7, 7, 7, 5)
    assert opened(np.zeros((4, 2))).smaller_chunks(2) == ""
    assert (
        opened(zarr.create_array(zarr.storage.MemoryStore(), data=np.ones((4, 2)))).smaller_chunks(
            2
        )
        == ""
    )


def test_a_remote_array_is_copied_to_the_working_directory(tmp_path):
    array = stored.array(tmp_path, "X", np.ones((9, 2)), (9, 2))
    url = f"file://{tmp_path}/X"
    remote = zarr.open_array(zarr.storage.FsspecStore.from_url(url), mode="r", zarr_format=3)
    assert f'zarr.open_array("{url}", mode="r")' in opened(remote).smaller_chunks(3)
    assert '"X-3-rows"' in opened(remote).smaller_chunks(3)
    assert_array_equal(opened(remote).load(0).X, array[:])


@pytest.mark.parametrize(
    ("values", "X", "options"),
    [
        (np.arange(7 * 3 * 2, dtype="i2").reshape(7, 3, 2), None, {"chunks": (2, 2, 2)}),
        (np.zeros((4, 2, 3, 5), "f4"), None, {"chunks": (3, 2, 3, 5)}),
        (np.arange(6.0), None, {"chunks": (4,)}),
        (np.arange(15).reshape(5, 3) % 4, (15, 2), {"chunks": (2, 2), "shards": (4, 4)}),
        (np.array([["a"], ["béé"], ["a"]], np.dtypes.StringDType()), (3, 2), {"chunks": (2, 1)}),
        (np.array([["a"], ["b"], ["a"]], "U1"), (3, 2), {"chunks": (2, 1), "zarr_format": 2}),
    ],
    ids=lambda value: str(getattr(value, "shape", value)),
)
def test_the_command_for_another_shape_works_as_printed(values, X, options, tmp_path):
    folder = tmp_path / "with 'quotes' & $paces é"
    array = stored.array(folder, "it", values, **options)
    names = Names(str(folder / "it"), str(folder / "it"))
    with pytest.raises(
        DataError, match=r"Store it .*, for example beside it as it-rows:\n"
    ) as error:
        opened(*((array,) if X is None else (np.ones(X), array)), names=names)
    assert "it.r" not in str(error.value)
    command = (
        str(error.value).splitlines()[-1].strip().replace("python", shlex.quote(sys.executable), 1)
    )
    subprocess.run(command, shell=True, check=True, cwd=tmp_path, capture_output=True)
    again = zarr.open_array(folder / "it-rows", mode="r")
    if X is None:
        check_source(opened(again), values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1))
    else:
        assert_array_equal(opened(np.ones(X), again).load(0).y, values.ravel())
