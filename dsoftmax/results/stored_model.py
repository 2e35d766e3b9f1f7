"""Models on disk: a Zarr group without pickle."""

import json
import math
from collections.abc import Mapping
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import OutputExistsError, ReadError
from dsoftmax.results.model import Model
from dsoftmax.system.files import replacing_directory, writing
from dsoftmax.system.interrupts import finished
from dsoftmax.system.regular import open_regular, read_json
from dsoftmax.system.spans import read_into

Float = NDArray[np.float64]

FORMAT = 2
"""Version of the layout on disk."""
MODEL = "model.zarr"
"""Name of the model in the directory of a run."""
DIGEST = "sha256"
"""Name of the attribute with the digest of all other attributes and of the arrays."""
SCALING = "scaling"
"""Name of the array of means and scales, which a model of raw features does not have."""
METADATA_BYTES = 4096
"""Estimate for the metadata of a group of a few arrays, in bytes."""


def save_model(model: Model, path: Path | str, overwrite: bool = False) -> None:
    """Write a model as a Zarr group, which appears whole or not at all.

    Parameters
    ----------
    model : Model
        ``model_`` of an estimator, or what `load_model` returned.
    path : path
        Directory of the group. Those above it are made if they do not exist.
    overwrite : bool, default False
        Whether the model replaces what exists at ``path``, once it is complete.

    Raises
    ------
    OutputExistsError
        Something exists at ``path``, and ``overwrite`` is false.
    WriteError

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> model = Model(np.array([[-1.0, 0.5], [1.0, -0.5]]), np.array(["no", "yes"]))
    >>> with tempfile.TemporaryDirectory() as place:
    ...     save_model(model, f"{place}/model.zarr")
    ...     load_model(f"{place}/model.zarr").predict([[0.0], [2.0]]).tolist()
    ['no', 'yes']
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"{path} exists and would be overwritten. Pass overwrite=True (--overwrite), or "
            "another path."
        )
    about = json.loads(json.dumps(model.about))
    n_bytes = model.theta.nbytes + METADATA_BYTES
    n_bytes += 0 if model.scaling is None else model.scaling.nbytes
    if model.feature_names is not None:
        n_bytes += sum(len(str(name).encode()) + 4 for name in model.feature_names)
    with replacing_directory(path, n_bytes, overwrite) as draft, writing(path, n_bytes):
        finished(partial(_write, draft, model, about))


def _write(draft: Path, model: Model, about: dict[str, Any]) -> None:
    import zarr

    names = model.feature_names
    attributes = {
        "dsoftmax_model": FORMAT,
        "classes": _as_json(model.classes),
        "classes_dtype": model.classes.dtype.str,
        "about": about,
        **({} if names is None else {"feature_names": [str(name) for name in names]}),
    }
    arrays = {"coef": model.theta[:, :-1], "intercept": model.theta[:, -1]}
    if model.scaling is not None:
        arrays[SCALING] = model.scaling
    digest = _digest(attributes, arrays)
    group = zarr.create_group(draft, zarr_format=3, attributes={**attributes, DIGEST: digest})
    for name, values in arrays.items():
        data = np.ascontiguousarray(values)
        # With nan as the fill value, a lost chunk is noticed when the model is read.
        group.create_array(
            name, data=data, chunks=values.shape, compressors=None, fill_value=np.nan
        )


def _as_json(classes: NDArray) -> list[Any]:
    return (
        [label.decode("latin-1") for label in classes.tolist()]
        if classes.dtype.kind == "S"
        else classes.tolist()
    )


def _from_json(classes: Any, dtype: np.dtype) -> NDArray:
    return np.array(
        [label.encode("latin-1") for label in classes] if dtype.kind == "S" else classes,
        dtype=dtype,
    )


def _digest(attributes: Mapping[str, Any], arrays: Mapping[str, Float]) -> str:
    """Return a digest of attributes in JSON types, and of arrays in their order."""
    digest = sha256(json.dumps(attributes, sort_keys=True).encode())
    for name, values in arrays.items():
        digest.update(f"{name}{values.shape}".encode())
        for row in values if values.ndim > 1 else [values]:  # no copy of a large array
            digest.update(np.ascontiguousarray(row, "<f8").data)
    return digest.hexdigest()


def _classes(attributes: Mapping[str, Any]) -> NDArray:
    """Return the classes, after a check that they ascend."""
    dtype = np.dtype(str(attributes["classes_dtype"]))
    if dtype.kind not in "biufUS":
        raise ValueError(f"the classes have dtype {dtype}")
    classes = _from_json(attributes["classes"], dtype)
    if classes.ndim != 1 or len(classes) < 2 or not (classes[1:] > classes[:-1]).all():
        raise ValueError("the classes are not two or more different labels in ascending order")
    return classes


def _shape(path: Path, n_rows: int, ndim: int) -> tuple[int, ...]:
    """Return the shape of an array of the model: one chunk without a codec, as `_write` writes it.

    Its size is compared with the file before memory is taken, and no codec is run.
    """
    shape = tuple(read_json(path / "zarr.json")["shape"])
    file = _file(path, ndim)
    if len(shape) != ndim or shape[0] != n_rows or file.stat().st_size != 8 * math.prod(shape):
        raise ValueError(f"{file} does not hold {n_rows} rows of {path.name}")
    return shape


def _file(path: Path, ndim: int) -> Path:
    return path.joinpath("c", *["0"] * ndim)


def _read(path: Path, out: Float) -> Float:
    """Fill ``out``, whose rows are contiguous, with the array at ``path``, and return it."""
    with open_regular(_file(path, out.ndim), buffering=0) as file:
        for row in out if out.ndim > 1 else [out]:
            read_into(file, row.view(np.uint8).data)
            if not np.little_endian:
                row.byteswap(inplace=True)
    return out


def load_model(path: Path | str) -> Model:
    """Read a model that `save_model` or ``dsoftmax train`` wrote.

    Parameters
    ----------
    path : path
        Directory of a run that has ended, or of the Zarr group: the ``model.zarr`` of a run.

    Returns
    -------
    Model
        Predicts as the estimator that trained it: lazily for dask arrays, chunk by chunk for Zarr.

    Raises
    ------
    ReadError
        There is no model at ``path``, or it is damaged.
    """
    path = _group(path)
    try:
        attributes, theta = _sketch(path)
        classes, theta = _classes(attributes), np.empty(theta.shape)
        arrays = {
            "coef": _read(path / "coef", theta[:, :-1]),
            "intercept": _read(path / "intercept", np.empty(len(theta))),
        }
        theta[:, -1] = arrays["intercept"]
        if (path / SCALING).exists():
            arrays[SCALING] = _read(path / SCALING, np.empty(_shape(path / SCALING, 2, 2)))
        if attributes.pop(DIGEST, None) != _digest(attributes, arrays):
            raise ValueError("the content is not what was written: its digest is another")
        if not all(np.isfinite(row).all() for values in arrays.values() for row in values):
            raise ValueError("coefficients are not finite")
    except Exception as error:  # a stranger's file raises almost anything
        raise _no_model(path, error) from error
    return _model(attributes, theta, classes, arrays.get(SCALING))


def sketch_model(path: Path | str) -> Model:
    """Return a model as `load_model`, whose coefficients are all zero and take no memory.

    Raises
    ------
    ReadError
        There is no model at ``path``. Damage of its coefficients is not noticed.
    """
    path = _group(path)
    try:
        attributes, theta = _sketch(path)
        classes = _classes(attributes)
    except Exception as error:  # a stranger's file raises almost anything
        raise _no_model(path, error) from error
    return _model(attributes, theta, classes)


def _group(path: Path | str) -> Path:
    """Return the group of a model, also from the directory of its run."""
    return Path(path) / MODEL if (Path(path) / MODEL).is_dir() else Path(path)


def _sketch(path: Path) -> tuple[dict[str, Any], Float]:
    """Return the attributes, and zeros in the shape of θ that take no memory."""
    attributes = dict(read_json(path / "zarr.json")["attributes"])
    if attributes.get("dsoftmax_model") != FORMAT:
        found = attributes.get("dsoftmax_model")
        raise ValueError(f"the format is {found!r}, and this version reads {FORMAT}")
    K = len(attributes["classes"])
    _shape(path / "intercept", K, 1)
    n_features = _shape(path / "coef", K, 2)[1]
    return attributes, np.broadcast_to(np.float64(0), (K, n_features + 1))


def _no_model(path: Path, error: Exception) -> ReadError:
    return ReadError(
        f"{path} does not hold a model ({type(error).__name__}: {error}); expected the "
        "model.zarr of a run that has ended. To end it, run `dsoftmax train` again with the "
        "same options."
    )


def _model(
    attributes: Mapping[str, Any], theta: Float, classes: NDArray, scaling: Float | None = None
) -> Model:
    about, names = attributes.get("about"), attributes.get("feature_names")
    return Model(
        theta,
        classes,
        about if isinstance(about, dict) else {},
        None if not isinstance(names, list) else np.array(names, object),
        scaling,
    )
