"""Stores as AnnData writes them, by hand: their encodings in Zarr, without AnnData."""

import numpy as np
import scipy.sparse
import zarr

CSR, CATEGORICAL = "csr_matrix", "categorical"


def encoded(group, name, kind, **more):
    """Make a group of an encoding, with more attributes."""
    attributes = {"encoding-type": kind, "encoding-version": "0.2.0", **more}
    return group.create_group(name, attributes=attributes)


def put(group, name, values, chunks=None, **options):
    """Write one array as AnnData does: chunks of nothing but the fill value are left out."""
    values = np.asarray(values)
    text = values.dtype.kind in "UTO"
    chunks = (max(len(values), 1), *values.shape[1:]) if chunks is None else chunks
    made = group.create_array(
        name,
        shape=values.shape,
        dtype=str if text else values.dtype,
        chunks=chunks,
        attributes={"encoding-type": "string-array" if text else "array"},
        **options,
    )
    made[...] = values.astype(object) if text else values
    return made


def root(path, **options):
    """Make an empty AnnData."""
    attributes = {"encoding-type": "anndata", "encoding-version": "0.1.0"}
    return zarr.create_group(path, attributes=attributes, **options)


def csr(group, name, X, chunks=(100,), index="i4", **options):
    """Write a matrix in CSR, and return its group."""
    dtype = X.dtype
    # SciPy has neither float16 nor other byte orders.
    matrix = scipy.sparse.csr_array(
        X.astype("f4" if dtype == "f2" else dtype.newbyteorder("="), copy=False)
    )
    made = encoded(group, name, CSR, shape=list(matrix.shape))
    for part, values in (
        ("data", matrix.data.astype(dtype)),
        ("indices", matrix.indices.astype(index)),
        ("indptr", matrix.indptr.astype(index)),
    ):
        made.create_array(part, data=values, chunks=chunks, **options)
    return made


def categorical(group, name, values, chunks=None):
    """Write a categorical column, and return its group. None, and NaN, have the code −1."""
    values = np.asarray(values, object)
    missing = np.array([value is None or value != value for value in values])
    categories = np.unique(values[~missing].tolist())
    codes = np.full(len(values), -1, np.int8)
    codes[~missing] = np.searchsorted(categories, values[~missing].tolist())
    made = encoded(group, name, CATEGORICAL, ordered=False)
    put(made, "codes", codes, chunks)
    put(made, "categories", categories)
    return made


def nullable(group, name, values, mask, kind="integer", chunks=None):
    """Write values beside a mask, and return their group."""
    made = encoded(group, name, f"nullable-{kind}")
    put(made, "values", values, chunks)
    put(made, "mask", np.asarray(mask, bool), chunks)
    return made


def table(group, name, index):
    """Write a table that has an index alone."""
    options = {"_index": "_index", "column-order": []}
    made = encoded(group, name, "dataframe", **options)
    put(made, "_index", index)
    return made
