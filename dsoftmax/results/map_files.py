"""A stored map as a picture or as a GeoTIFF, read tile by tile.

matplotlib and rasterio are optional, and imported where they are used.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from dsoftmax.data.cubes.tiling import Tiling
from dsoftmax.errors import DataError, OptionError
from dsoftmax.results.legend import Legend, rgb
from dsoftmax.system.files import replacing, writing

MOST_PIXELS = 1600
"""Most pixels of a picture along each dimension. Larger maps are thinned."""
X_NAMES = ("x", "lon", "longitude", "easting")
"""Names of the horizontal dimension, if it is not the last one."""


@dataclass(frozen=True)
class MapFile:
    """A map that is stored, of two dimensions.

    Attributes
    ----------
    path : Path
        Group with the array "labels".
    legend : Legend
    """

    path: Path
    legend: Legend

    @property
    def group(self) -> zarr.Group:
        return zarr.open_group(self.path, mode="r", use_consolidated=False)

    @property
    def labels(self) -> Any:
        return self.group["labels"]

    @property
    def axes(self) -> tuple[int, int]:
        """Axes of the vertical and of the horizontal dimension."""
        return vertical_first(self.labels.metadata.dimension_names)

    def coordinate(self, axis: int) -> NDArray[np.float64] | None:
        """Return the coordinate along an axis; None if there is none."""
        found: Any = self.group.get(self.labels.metadata.dimension_names[axis])
        return None if found is None else np.asarray(found[...], np.float64)

    def upside_down(self) -> bool:
        """Whether the vertical coordinate grows with its index, so that north is at the end."""
        values = self.coordinate(self.axes[0])
        return values is not None and len(values) > 1 and bool(values[-1] > values[0])

    def tiles(self) -> Iterator[tuple[slice, slice, NDArray]]:
        """Yield stored chunks with their rows and columns in the picture, north first."""
        labels, (v, h), turned = self.labels, self.axes, self.upside_down()
        n, steps = [labels.shape[axis] for axis in (v, h)], [labels.chunks[i] for i in (v, h)]
        for top, left in itertools.product(
            *(range(0, a, b) for a, b in zip(n, steps, strict=True))
        ):
            rows, columns = (
                slice(low, min(low + step, size))
                for low, step, size in zip((top, left), steps, n, strict=True)
            )
            window = [rows, columns] if v == 0 else [columns, rows]
            values = np.asarray(labels[tuple(window)])
            values = values if v == 0 else values.T
            if turned:
                rows, values = slice(n[0] - rows.stop, n[0] - rows.start), values[::-1]
            yield rows, columns, values


def vertical_first(dims: tuple[str, ...]) -> tuple[int, int]:
    """Return the axes of the vertical and of the horizontal dimension of two."""
    return (1, 0) if dims[0].lower() in X_NAMES and dims[1].lower() not in X_NAMES else (0, 1)


def require_drawable(tiling: Tiling, legend: Legend, geotiff: bool) -> None:
    """Raise unless a map can be drawn, and what draws it is installed.

    Raises
    ------
    OptionError
    """
    if len(tiling.dims) != 2:
        raise OptionError(
            f"The map has the dimensions {', '.join(tiling.dims)}; expected two for --png and "
            "--geotiff. Leave them out, or make further dimensions features (--feature-dim)."
        )
    if not geotiff:
        _matplotlib()
        return
    _rasterio()
    if legend.dtype != np.uint8:
        raise OptionError(
            f"The classes need {legend.dtype}; expected labels from 0 to 254 for a GeoTIFF with "
            "colours. Train with such labels."
        )


def _matplotlib() -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError:
        raise OptionError(
            "--png needs matplotlib; expected it to be installed. Run pip install 'dsoftmax[maps]'."
        ) from None
    return Figure


def _rasterio() -> Any:
    try:
        import rasterio
        import rasterio.errors
        import rasterio.shutil
    except ImportError:
        raise OptionError(
            "--geotiff needs rasterio; expected it to be installed. Run "
            "pip install 'dsoftmax[geotiff]'."
        ) from None
    return rasterio


def thinned(file: MapFile, most: int = MOST_PIXELS) -> NDArray:
    """Return every i-th pixel of a map along both dimensions, so that at most ``most`` remain."""
    n = [file.labels.shape[axis] for axis in file.axes]
    step = max(-(-max(n) // most), 1)
    found = np.empty([len(range(0, size, step)) for size in n], file.legend.dtype)
    for rows, columns, values in file.tiles():
        top, left = -rows.start % step, -columns.start % step
        some = values[top::step, left::step]
        at = (rows.start + top) // step, (columns.start + left) // step
        found[at[0] : at[0] + some.shape[0], at[1] : at[1] + some.shape[1]] = some
    return found


def write_png(file: MapFile, path: Path) -> None:
    """Draw a map with its legend into a PNG.

    Raises
    ------
    OptionError, WriteError
    """
    figure_of = _matplotlib()
    legend, values = file.legend, thinned(file)
    picture = np.full((*values.shape, 3), 255, np.uint8)
    for code, color in zip(legend.codes, legend.colors, strict=True):
        picture[values == code] = rgb(color)
    height = 7 * values.shape[0] / max(values.shape)
    width = 7 * values.shape[1] / max(values.shape)
    figure = figure_of(figsize=(width + 2.2, max(height, 0.24 * len(legend.names)) + 0.4))
    axes = figure.add_subplot()
    axes.imshow(picture, interpolation="nearest")
    axes.set_axis_off()
    from matplotlib.patches import Patch

    patches = [
        Patch(color=c, label=name) for name, c in zip(legend.names, legend.colors, strict=True)
    ]
    axes.legend(handles=patches, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
    with replacing(path, picture.nbytes) as target:
        figure.savefig(target, format="png", dpi=200, bbox_inches="tight")


def write_geotiff(file: MapFile, path: Path) -> None:
    """Write a map as a Cloud Optimized GeoTIFF with colours, tile by tile.

    Raises
    ------
    OptionError, WriteError
    """
    rasterio = _rasterio()
    legend, labels = file.legend, file.labels
    height, width = (labels.shape[axis] for axis in file.axes)
    profile = {
        "driver": "GTiff", "height": height, "width": width, "count": 1, "dtype": "uint8",
        "nodata": int(legend.fill), "tiled": True, "blockxsize": 512, "blockysize": 512,
        "compress": "deflate", **_place(file, rasterio),
    }  # fmt: skip
    draft = path.with_name(f".{path.name}.draft.tif")
    whole = path.with_name(f".{path.name}.whole.tif")
    try:
        with writing(path, height * width):
            with rasterio.open(draft, "w", **profile) as target:
                for rows, columns, values in file.tiles():
                    window = rasterio.windows.Window.from_slices(rows, columns)
                    target.write(np.ascontiguousarray(values), 1, window=window)
                colors = {
                    int(code): (*rgb(color), 255)
                    for code, color in zip(legend.codes, legend.colors, strict=True)
                }
                target.write_colormap(1, {**colors, int(legend.fill): (0, 0, 0, 0)})
                target.set_band_description(1, "class")
                target.update_tags(1, **{
                    name: value if isinstance(value, str) else " ".join(map(str, value))
                    for name, value in legend.attributes.items()
                })  # fmt: skip
            rasterio.shutil.copy(draft, whole, driver="COG", compress="deflate")
            whole.replace(path)
    finally:
        draft.unlink(missing_ok=True)
        whole.unlink(missing_ok=True)


def _place(file: MapFile, rasterio: Any) -> dict[str, Any]:
    """Return the transform and the CRS of a map, as far as its coordinates say them."""
    v, h = file.axes
    y, x = file.coordinate(v), file.coordinate(h)
    found: dict[str, Any] = {}
    if x is not None and y is not None and len(x) > 1 and len(y) > 1:
        dx, dy = (x[-1] - x[0]) / (len(x) - 1), abs(y[-1] - y[0]) / (len(y) - 1)
        top = max(y[0], y[-1]) + dy / 2
        found["transform"] = rasterio.Affine(dx, 0.0, x[0] - dx / 2, 0.0, -dy, top)
    mapping = file.labels.attrs.get("grid_mapping")
    about = dict(file.group[mapping].attrs) if mapping and mapping in file.group else {}
    text = about.get("crs_wkt") or about.get("spatial_ref")
    if text:
        try:
            found["crs"] = rasterio.crs.CRS.from_user_input(text)
        except rasterio.errors.CRSError as error:
            raise DataError(
                f"{file.path}: the attribute crs_wkt of {mapping} is no coordinate system that "
                f"GDAL knows ({error}); expected WKT. The map itself is complete. Correct the "
                "attribute of the cube, or leave out --geotiff."
            ) from error
    return found
