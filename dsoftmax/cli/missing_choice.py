"""The options that name missing values, as one value."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from dsoftmax.errors import OptionError

NODATA, UNLABELLED = "--nodata", "--unlabelled"


@dataclass(frozen=True)
class MissingChoice:
    """Values that skip a row, as typed.

    Attributes
    ----------
    nodata : tuple of str
        Values of features.
    unlabelled : tuple of str
        Labels.
    """

    nodata: tuple[str, ...] = ()
    unlabelled: tuple[str, ...] = ()

    @classmethod
    def typed(cls, nodata: str | None, unlabelled: str | None = None) -> "MissingChoice":
        """Return the choice of option values, several separated by commas."""
        return cls(_split(nodata), _split(unlabelled))

    def otherwise(self, about: Mapping[str, Any]) -> "MissingChoice":
        """Return the choice, with that of a model's training for an option that is not given."""
        return MissingChoice(
            self.nodata or tuple(about.get("nodata") or ()),
            self.unlabelled or tuple(about.get("unlabelled") or ()),
        )

    def as_dict(self) -> dict[str, list[str] | None]:
        """Return the values by option in JSON types; None for an option without values."""
        return {name: list(found) or None for name, found in vars(self).items()}

    def features(self) -> list[float]:
        """Return the values of features.

        Raises
        ------
        OptionError
        """
        return [_number(text, self.nodata) for text in self.nodata]

    def labels(self, dtype: np.dtype, option: str = UNLABELLED) -> list[Any]:
        """Return the labels in the kind of the stored ones; ``option`` is named in messages.

        Raises
        ------
        OptionError
        """
        if dtype.kind in "OTUS":
            return [text.encode() if dtype.kind == "S" else text for text in self.unlabelled]
        if dtype.kind == "b":
            known = {"true": True, "false": False}
            return [known.get(text.lower(), text) for text in self.unlabelled]
        return [_number(text, self.unlabelled, option) for text in self.unlabelled]


NONE = MissingChoice()
"""No value is named."""


def _split(text: str | None) -> tuple[str, ...]:
    return () if text is None else tuple(part.strip() for part in text.split(","))


def _number(text: str, all_texts: tuple[str, ...], option: str = NODATA) -> float:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    raise OptionError(
        f"{option} is {','.join(all_texts)}; expected numbers, as the stored values are. Pass for "
        "example 0, nan, or 0,65535."
    )
