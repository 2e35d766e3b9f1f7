"""Maps on disk: the predictions of a cube in a Zarr group that xarray reads.

Tiles are written one by one, each as one stored chunk. A list beside them names the tiles that are
complete, so that an interrupted command continues where it stopped. The group gets its name once
all tiles are there.
"""

import json
import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.cubes.reference import Coordinate, coordinates_of
from dsoftmax.data.cubes.rows import CubeRows
from dsoftmax.data.cubes.tiling import lengths
from dsoftmax.data.missing import REASONS
from dsoftmax.data.rows import RowSource
from dsoftmax.engines.base import Engine
from dsoftmax.errors import OutputExistsError
from dsoftmax.first_pass.labels import in_json, is_text
from dsoftmax.results.legend import Legend
from dsoftmax.results.model import Model
from dsoftmax.results.no_data import Predict
from dsoftmax.results.outputs import probabilities, require_features
from dsoftmax.results.predict import each_block, scratch_bytes
from dsoftmax.results.stored_model import METADATA_BYTES
from dsoftmax.system.files import remove, replacing_directory, writing
from dsoftmax.system.interrupts import finished

LABELS, CHANCES, CLASS = "labels", "probabilities", "class"
PROGRESS = ".tiles"
"""File in a draft that names the complete tiles."""
SCALE = 1 / 254
"""Probability of one unit of a byte."""


@dataclass(frozen=True)
class MapOptions:
    """What is written beside the labels.

    Attributes
    ----------
    probabilities : {"float32", "uint8"} or None
        Dtype of the probabilities; None for none. Bytes have the CF attribute scale_factor.
    """

    probabilities: str | None = None


def draft_of(path: Path) -> Path:
    """Return the directory in which a map is written before it is complete."""
    return path.with_name(f".{path.name}.partial")


def write_map(
    model: Model,
    source: RowSource,
    path: Path,
    legend: Legend,
    options: MapOptions = MapOptions(),
    overwrite: bool = False,
    engine: Engine | None = None,
    watch: Callable[[int], None] | None = None,
) -> NDArray[np.int64]:
    """Write the classes of all pixels to a Zarr group.

    Parameters
    ----------
    model : Model
    source : RowSource
        A cube, see `dsoftmax.data.cubes`.
    path : Path
    legend : Legend
    options : MapOptions
    overwrite : bool
        Whether the new group replaces an existing one, once it is complete.
    engine : Engine, optional
        A `ThreadsEngine` sets the number of threads and the memory limit.
    watch : callable, optional
        Called with the number of rows of every complete tile.

    Returns
    -------
    (4,) int64
        Rows that were skipped, in the order of `dsoftmax.data.missing.REASONS`.

    Raises
    ------
    OutputExistsError, DataError, ReadError, WriteError
    """
    if path.exists() and not overwrite:
        raise OutputExistsError(
            f"{path} exists and would be overwritten. Pass overwrite=True (--overwrite), or "
            "another path."
        )
    require_features(model, source.n_features, source.names.X)
    rows: Any = source.table.X
    tiling, K = rows.tiling, len(model.classes)
    wide = 0 if options.probabilities is None else K * np.dtype(options.probabilities).itemsize
    n_bytes = tiling.n_rows * (legend.dtype.itemsize + wide) + METADATA_BYTES
    draft = draft_of(path)
    progress = Progress(draft / PROGRESS, _identity(model, source, legend, options))
    with writing(path, n_bytes):
        if not progress.begun:
            remove(draft)
            finished(lambda: _create(draft, model, rows, legend, options))
            progress.begin()
    group = zarr.open_group(draft, mode="r+", use_consolidated=False)
    found: Any = group[LABELS]
    chances: Any = group[CHANCES] if options.probabilities else None
    as_codes = legend.predict(model)
    as_chances = Predict(probabilities, model, None, np.nan, np.dtype(np.float32), True)
    lock = threading.Lock()
    if watch is not None and progress.done:
        watch(int(tiling.tile_rows[list(progress.done)].sum()))

    def write(block: Block) -> None:
        tile = int(np.searchsorted(tiling.starts, block.first_row))
        window = tiling.window(tile)
        codes, skipped = as_codes(block)
        P = None if chances is None else _stored(as_chances(block)[0], options)

        def store() -> None:
            found[window] = codes.reshape(lengths(window))
            if P is not None:
                chances[(slice(None), *window)] = P.T.reshape(K, *lengths(window))

        with lock:
            with writing(path, n_bytes):
                finished(store)
                progress.add(tile, skipped)
            if watch is not None:
                watch(block.n_rows)

    left = [tile for tile in range(len(tiling.tile_rows)) if tile not in progress.done]
    each_block(write, source, engine, scratch_bytes(model, source, chances is not None), left)
    with replacing_directory(path, n_bytes, overwrite) as whole, writing(path, n_bytes):
        finished(lambda: _complete(draft, whole))
    return progress.counts


def _complete(draft: Path, whole: Path) -> None:
    with warnings.catch_warnings():
        # Consolidated metadata of v3 are no part of the specification yet, and xarray uses them.
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(str(draft))
    (draft / PROGRESS).unlink()
    draft.rename(whole)


def _stored(P: NDArray, options: MapOptions) -> NDArray:
    if options.probabilities != "uint8":
        return P
    missing = np.isnan(P)
    with np.errstate(invalid="ignore"):
        found = np.rint(np.where(missing, 0, P) / SCALE).astype(np.uint8)
    found[missing] = 255
    return found


def _identity(model: Model, source: RowSource, legend: Legend, options: MapOptions) -> str:
    """Return a digest of everything on which the map depends, except stored values."""
    about = [
        model.theta.tolist(),
        in_json(model.classes),
        source.describe(),
        legend.attributes,
        str(legend.fill),
        options.probabilities,
    ]
    return blake2b(json.dumps(about, default=str).encode(), digest_size=16).hexdigest()


class Progress:
    """The list of complete tiles of a draft, with the numbers of their skipped rows.

    Parameters
    ----------
    path : Path
    identity : str
        First line of the list. A list with another one belongs to another map.

    Attributes
    ----------
    begun : bool
        Whether a draft of the same map exists.
    done : set of int
    counts : (4,) int64
    """

    def __init__(self, path: Path, identity: str) -> None:
        self.path, self.identity = path, identity
        self.done: set[int] = set()
        self.counts = np.zeros(len(REASONS), np.int64)
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except OSError:
            lines = [""]
        self.begun = lines[0] == identity
        # What follows the last line end was cut off by a kill.
        for line in lines[1:-1] if self.begun else []:
            tile, *counts = map(int, line.split())
            self.done.add(tile)
            self.counts += np.array(counts, np.int64)
        if self.begun:
            whole = [identity, *lines[1:-1], ""]
            self.path.write_text("\n".join(whole), encoding="utf-8")

    def begin(self) -> None:
        self.path.write_text(f"{self.identity}\n", encoding="utf-8")
        self.begun = True

    def add(self, tile: int, skipped: NDArray[np.int64] | None) -> None:
        counts = np.zeros(len(REASONS), np.int64) if skipped is None else skipped
        with self.path.open("a", encoding="utf-8") as file:
            file.write(" ".join(map(str, [tile, *counts.tolist()])) + "\n")
        self.counts += counts


def _create(draft: Path, model: Model, rows: CubeRows, legend: Legend, options: MapOptions) -> None:
    """Write the metadata and the coordinates of a map."""
    tiling, K = rows.tiling, len(model.classes)
    coordinates, mapping = coordinates_of(rows)
    mapped = {"grid_mapping": mapping} if mapping else {}
    group = zarr.create_group(
        draft,
        zarr_format=3,
        attributes={"Conventions": "CF-1.11", "classes": in_json(model.classes)},
    )
    fill = {} if legend.fill is None else {"_FillValue": legend.fill.item()}
    _array(group, LABELS, tiling.dims, tiling.shape, tiling.steps, legend.dtype,
           {"long_name": "class", **legend.attributes, **fill, **mapped},
           0 if legend.fill is None else legend.fill)  # fmt: skip
    if options.probabilities:
        packed = (
            {"scale_factor": SCALE, "_FillValue": 255} if options.probabilities == "uint8" else {}
        )
        _array(group, CHANCES, (CLASS, *tiling.dims), (K, *tiling.shape), (K, *tiling.steps),
               np.dtype(options.probabilities), {"long_name": "probability", **packed, **mapped},
               255 if packed else np.nan)  # fmt: skip
        text = is_text(model.classes)
        names = np.array(in_json(model.classes), object if text else None)
        _copy(group, CLASS, Coordinate((CLASS,), names))
    for name, one in coordinates.items():
        _copy(group, name, one)


def _array(
    group: zarr.Group,
    name: str,
    dims: tuple[str, ...],
    shape: tuple[int, ...],
    chunks: tuple[int, ...],
    dtype: np.dtype,
    attributes: dict[str, Any],
    fill: Any,
) -> zarr.Array:
    options: Any = {"config": {"write_empty_chunks": True}}
    return group.create_array(
        name, shape=shape, chunks=chunks, dtype=dtype, dimension_names=dims, fill_value=fill,
        attributes=attributes, **options,
    )  # fmt: skip


def _copy(group: zarr.Group, name: str, one: Coordinate) -> None:
    text = one.values.dtype.kind in "OTUS"
    options: Any = {"config": {"write_empty_chunks": True}}
    made = group.create_array(
        name,
        shape=one.values.shape,
        chunks=one.values.shape or (),
        dtype="string" if text else one.values.dtype,
        dimension_names=one.dims,
        attributes=dict(one.attributes),
        **options,
    )
    values = one.values.astype(object) if text else one.values
    made[...] = np.array([str(v) for v in values.tolist()], object) if text and one.dims else values
