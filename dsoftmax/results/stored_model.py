"""Models on disk: a Zarr group without pickle."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import OutputExistsError, ReadError
from dsoftmax.results.model import Model
from dsoftmax.system.files import replacing_directory, writing
from dsoftmax.system.interrupts import finished

FORMAT = 1
"""Version of the layout on disk."""
MODEL = "model.zarr"
"""Name of the model in the directory of a run."""
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
    with replacing_directory(path, n_bytes) as draft, writing(path, n_bytes):
        finished(partial(_write, draft, model, about))


def _write(draft: Path, model: Model, about: dict[str, Any]) -> None:
    import zarr

    names = model.feature_names
    group = zarr.create_group(
        draft,
        zarr_format=3,
        attributes={
            "dsoftmax_model": FORMAT,
            "classes": _as_json(model.classes),
            "classes_dtype": model.classes.dtype.str,
            "about": about,
            **({} if names is None else {"feature_names": [str(name) for name in names]}),
        },
    )
    arrays = {"coef": model.theta[:, :-1], "intercept": model.theta[:, -1]}
    if model.scaling is not None:
        arrays["scaling"] = model.scaling
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
    import zarr

    if (Path(path) / MODEL).is_dir():
        path = Path(path) / MODEL
    try:
        group = zarr.open_group(path, mode="r")
        attributes = dict(group.attrs)
        coef = np.asarray(group["coef"][:])  # type: ignore[index]
        intercept = np.asarray(group["intercept"][:])  # type: ignore[index]
        classes = _from_json(attributes["classes"], np.dtype(str(attributes["classes_dtype"])))
        scaling = np.asarray(group["scaling"][:]) if "scaling" in group else None  # type: ignore[index]
        theta = np.hstack([coef, intercept[:, None]]).astype(np.float64)
        if theta.shape[0] != len(classes):
            raise ValueError(f"{len(classes)} classes, but {theta.shape[0]} rows of coefficients")
        if not (np.isfinite(theta).all() and (scaling is None or np.isfinite(scaling).all())):
            raise ValueError("coefficients are missing or not finite")
    except Exception as error:
        raise ReadError(
            f"{path} does not hold a model ({type(error).__name__}: {error}); expected the "
            "model.zarr of a run that has ended. To end it, run `dsoftmax train` again with the "
            "same options."
        ) from error
    about, names = attributes.get("about"), attributes.get("feature_names")
    return Model(
        theta,
        classes,
        about if isinstance(about, dict) else {},
        None if not isinstance(names, list) else np.array(names, object),
        scaling,
    )
