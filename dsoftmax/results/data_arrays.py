"""Predictions of cubes of xarray: a DataArray on the same grid, lazy if the cube is."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.cubes.cube import Cube
from dsoftmax.data.cubes.match import with_names
from dsoftmax.data.cubes.variable import Variable, marks_in
from dsoftmax.data.cubes.xarrays import FeatureDim, as_cube, dims_of, is_dataset
from dsoftmax.data.missing import Missing, missing_rows
from dsoftmax.data.scaling import Scaling
from dsoftmax.data.table import Names, Table
from dsoftmax.first_pass.labels import in_json, is_text
from dsoftmax.kernels.tiles import compute_dtype
from dsoftmax.results.legend import Legend
from dsoftmax.results.no_data import Predict, Skips
from dsoftmax.results.outputs import Coefficients, Output, require_features

CLASS = "class"
"""Dimension of the classes in probabilities."""


@dataclass(frozen=True)
class OnPixels:
    """A function from blocks of variables to the predictions of their pixels.

    Attributes
    ----------
    predict : Predict
    n_inner : tuple of int
        Number of feature dimensions of each variable; they are its last.
    marks : tuple of tuple
        Missing values of each variable, in its dtype.
    columns : (p,) int64 or None
        Features that are used; all of them when None.
    scaling : Scaling or None
    dtype : numpy dtype
        Dtype of the rows.
    """

    predict: Predict
    n_inner: tuple[int, ...]
    marks: tuple[tuple[Any, ...], ...]
    columns: NDArray[np.int64] | None
    scaling: Scaling | None
    dtype: np.dtype

    def __call__(self, *values: NDArray) -> NDArray:
        """Return predictions, (*pixels) or (*pixels, K), of arrays (*pixels, *features)."""
        outer = np.broadcast_shapes(*(
            one.shape[: one.ndim - n] for one, n in zip(values, self.n_inner, strict=True)
        ))  # fmt: skip
        n = math.prod(outer)
        parts, missing = [], np.zeros(n, bool)
        for one, inner, marks in zip(values, self.n_inner, self.marks, strict=True):
            features = one.shape[one.ndim - inner :]
            rows = np.broadcast_to(one, (*outer, *features)).reshape(n, math.prod(features))
            hits = missing_rows(rows, marks)
            if hits is not None:
                missing |= hits
            parts.append(rows)
        X = np.concatenate([part.astype(self.dtype, copy=False) for part in parts], axis=1)
        X = np.ascontiguousarray(X if self.columns is None else X[:, self.columns])
        masked = np.ma.MaskedArray(X, np.broadcast_to(missing[:, None], X.shape))
        # A lazy block does not know its position, so a message counts its rows from 0.
        table: Table[Any] = Table(
            masked if missing.any() else X, names=Names(X="In a block of X,"), missing=Missing()
        )
        found = self.predict(Block.of(table, 0, self.scaling))[0]
        return found.reshape(*outer, *found.shape[1:])


def predict_cube(
    output: Output | None,
    model: Coefficients,
    X: Any,
    feature_dim: FeatureDim,
    feature_names: Any,
    legend: Legend,
    skips: Skips,
    dtype: np.dtype | None = None,
) -> Any:
    """Return the predictions of a DataArray or Dataset as a DataArray.

    Nothing is computed if a variable is a dask array or lies in a file.

    Parameters
    ----------
    output : callable or None
        One of the functions of `dsoftmax.results.outputs`; None for the classes.
    model : Coefficients
    X : DataArray or Dataset
    feature_dim : str or sequence of str, or None
    feature_names : p strings, or None
        Features of the model, which are found by their names.
    legend : Legend
    skips : Skips
    dtype : numpy dtype, optional
        Dtype of the products.

    Returns
    -------
    DataArray
        Classes have the codes of the legend, with its CF attributes, and its value for no data is
        in ``encoding["_FillValue"]``. Other outputs have the dimension "class" first.
    """
    import xarray

    dims = dims_of(feature_dim)
    arrays = list(X.data_vars.values()) if is_dataset(X) else [X]
    if is_dataset(X):
        there = {d for one in arrays for d in one.dims}
        dims = tuple(d for d in dims if d in there)
    cube: Cube = as_cube(X, dims or None, "X")
    if feature_names is not None:
        cube = with_names(cube, feature_names, "X")
    require_features(model, cube.shape[1])
    wide = output is not None
    products = np.dtype(dtype or compute_dtype(cube.dtype))
    predict = (
        legend.predict(model, products)
        if output is None
        else Predict(output, model, products, np.nan, products, True)
    )
    inner = [[d for d in dims if d in one.dims] for one in arrays]
    function = OnPixels(
        predict,
        tuple(map(len, inner)),
        tuple(
            marks_in((*one.missing, *skips.values(one.values.dtype).X), one.values.dtype)
            for one in cube.variables
        ),
        cube.columns,
        cube.scaling,
        cube.dtype,
    )
    found = xarray.apply_ufunc(
        function,
        *_lazy(arrays, cube.variables),
        input_core_dims=inner,
        output_core_dims=[[CLASS]] if wide else [[]],
        exclude_dims=set(),
        dask="parallelized",
        output_dtypes=[predict.dtype],
        dask_gufunc_kwargs={
            "allow_rechunk": True,
            "output_sizes": {CLASS: len(model.classes)} if wide else {},
        },
        keep_attrs="override",  # of coordinates
        join="exact",
    )
    order = [d for d in cube.sizes if d in found.dims]
    found = found.transpose(CLASS, *order) if wide else found.transpose(*order)
    mappings = [{**one.attrs, **one.encoding}.get("grid_mapping") for one in arrays]
    usual = "spatial_ref" if "spatial_ref" in found.coords else None
    mapping = next(filter(None, mappings), usual)
    found.encoding = {"grid_mapping": mapping} if mapping else {}
    if wide:
        names = in_json(model.classes)
        text = is_text(model.classes)
        found.attrs = {"long_name": "probability"}
        found = found.assign_coords({CLASS: np.array(names, str if text else None)})
        return found.rename("probabilities")
    found.attrs = {"long_name": "class", **legend.attributes}
    if legend.fill is not None:
        found.encoding["_FillValue"] = legend.fill
    return found.rename("labels")


def _lazy(arrays: list[Any], variables: tuple[Variable, ...]) -> Iterator[Any]:
    """Yield DataArrays of which those in files are dask arrays, cut along their stored chunks."""
    from dsoftmax.compat.xarray import is_loaded

    for array, variable in zip(arrays, variables, strict=True):
        if array.chunks is not None or is_loaded(array) or not array.dims:
            yield array
        else:
            yield array.chunk(dict(variable.steps))
