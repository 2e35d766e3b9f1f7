"""A Zarr group is no array: the error names its arrays, or how to read its sparse matrix."""

import numpy as np
import pytest
import scipy.sparse
import zarr
from numpy.testing import assert_array_equal
from opening import opened

from dsoftmax.errors import DataError


def test_a_group_is_refused_with_the_names_of_its_arrays(tmp_path):
    group = zarr.create_group(tmp_path)
    X, y = group.create_array("X", data=np.ones((4, 2))), group.create_array("y", data=np.arange(4))
    group.create_group("more")
    with pytest.raises(
        DataError,
        match=r"X is a Zarr group; expected one array. It has X, y, more/. Pass .*group\['X'\]",
    ):
        opened(group, y)
    with pytest.raises(DataError, match=r"y is a Zarr group; .*group\['y'\]"):
        opened(X, group)
    with pytest.raises(DataError, match=r"sample_weight is a Zarr group"):
        opened(X, y, group)
    with pytest.raises(DataError, match=r"X is a Zarr group; .* It has no arrays"):
        opened(group["more"])
    above = zarr.create_group(tmp_path / "above")
    above.create_group("below")
    with pytest.raises(
        DataError, match=r"It has below/. Pass an array of one of them: group\['below'\]"
    ):
        opened(above)


@pytest.mark.parametrize("kind", ["csr", "csc"])
def test_the_line_that_reads_a_sparse_group_works_as_printed(kind, tmp_path, rng):
    X = rng.normal(size=(20, 6)) * (rng.random((20, 6)) < 0.3)
    matrix = getattr(scipy.sparse, f"{kind}_array")(X)
    # AnnData's own CSR is read as it is: see tests/data/anndata.
    encoding = {"csr": {}, "csc": {"encoding-type": "csc_matrix"}}[kind]
    g = zarr.create_group(tmp_path, attributes={**encoding, "shape": [20, 6]})
    for name in ("data", "indices", "indptr"):
        g.create_array(name, data=getattr(matrix, name))
    with pytest.raises(DataError, match=r"X is a Zarr group that holds a sparse matrix") as error:
        opened(g)
    line = str(error.value).split("pass ")[1].split(", which reads")[0]
    assert_array_equal(eval(line, {"scipy": scipy, "g": g}).toarray(), X)
