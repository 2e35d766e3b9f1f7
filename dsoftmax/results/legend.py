"""The legend of a map: the code of each class in a file, its name and its colour."""

import colorsys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.errors import DataError, OptionError
from dsoftmax.first_pass.labels import in_json
from dsoftmax.results.no_data import Predict, skipped_label
from dsoftmax.results.outputs import Coefficients, most_probable

NOTHING: Mapping[str, Any] = MappingProxyType({})
BYTE_NODATA = 255
"""Code of pixels without data in a map of bytes."""


@dataclass(frozen=True)
class Legend:
    """The classes of a map.

    Attributes
    ----------
    codes : (K,) ndarray
        Value of each class in the map: the class itself if it is an integer, else its number.
    fill : scalar
        Value of pixels without data; None if the codes leave none.
    names : list of str
        Name of each class, as its labels give it.
    colors : list of str
        Colour of each class, ``#rrggbb``.
    """

    codes: NDArray
    fill: Any
    names: list[str]
    colors: list[str]

    @property
    def dtype(self) -> np.dtype:
        return self.codes.dtype

    @property
    def attributes(self) -> dict[str, Any]:
        """CF attributes. Blanks in names become underscores, because blanks separate names."""
        return {
            "flag_values": self.codes.tolist(),
            "flag_meanings": " ".join("_".join(name.split()) or "_" for name in self.names),
            "flag_colors": " ".join(self.colors),
        }

    def predict(self, model: Coefficients, products: np.dtype | None = None) -> Predict:
        """Return the function from a block to the codes of its most probable classes."""
        return Predict(CodesOf(self.codes), model, products, self.fill, self.dtype, False)


@dataclass(frozen=True)
class CodesOf:
    """An output of a model: the code of the most probable class of each row."""

    codes: NDArray

    def __call__(self, model: Coefficients, X: Any, dtype: np.dtype | None = None) -> NDArray:
        found: NDArray = self.codes[most_probable(model, X, dtype)]
        return found


def legend_of(classes: NDArray, about: Mapping[str, Any] = NOTHING, nodata: Any = None) -> Legend:
    """Return the legend of a model's maps.

    Codes are bytes if they can be: integer classes from 0 to 254 with 255 for no data, and up to
    255 classes of other kinds.

    Parameters
    ----------
    classes : (K,) ndarray
        Classes of a model.
    about : mapping
        Record of the model, which may have names and colours of classes.
    nodata : label, optional
        Value of pixels without data.

    Raises
    ------
    OptionError
        ``nodata`` is a class, or no integer in the range of the codes.
    """
    if classes.dtype.kind not in "iu":
        codes = np.arange(len(classes))
    else:
        codes = classes.astype(np.int64)
    fill: Any
    small = codes.min() >= 0 and codes.max() < BYTE_NODATA
    if small and (nodata is None or (_is_byte(nodata) and int(nodata) not in codes)):
        fill = np.uint8(BYTE_NODATA if nodata is None else int(nodata))
        codes = codes.astype(np.uint8)
    elif classes.dtype.kind in "iu":
        codes = classes
        fill = skipped_label(classes, nodata)
    elif nodata is None:
        codes, fill = codes.astype(np.int32), np.int32(-1)
    else:
        raise OptionError(
            f"nodata={nodata!r}; expected a number that is no class. The classes are no integers, "
            f"so the map has their numbers, 0 to {len(classes) - 1}. Pass for example 255."
        )
    labels = [str(one) for one in in_json(classes)]
    names, colors = (about.get(part) or {} for part in ("class_names", "class_colors"))
    return Legend(
        codes,
        fill,
        [str(names.get(label, label)) for label in labels],
        [str(colors.get(label, hue)) for label, hue in zip(labels, hues(len(labels)), strict=True)],
    )


def _is_byte(value: Any) -> bool:
    try:
        return 0 <= int(value) <= 255 and float(value) == int(value)
    except (TypeError, ValueError):
        return False


def hues(n: int) -> list[str]:
    """Return n colours whose neighbours differ, ``#rrggbb``: hues by the golden ratio."""
    found = []
    for i in range(n):
        rgb = colorsys.hls_to_rgb((i * 0.618034) % 1.0, (0.5, 0.38, 0.66)[i % 3], 0.65)
        found.append("#" + "".join(f"{round(255 * part):02x}" for part in rgb))
    return found


def rgb(color: str) -> tuple[int, int, int]:
    """Return the bytes of a colour ``#rrggbb``.

    Raises
    ------
    DataError
    """
    text = color.lstrip("#")
    try:
        if len(text) != 6:
            raise ValueError
        return int(text[:2], 16), int(text[2:4], 16), int(text[4:], 16)
    except ValueError:
        raise DataError(
            f"The colour {color!r} of a class is no colour; expected #rrggbb. Correct flag_colors "
            "of the labels, and train again."
        ) from None
