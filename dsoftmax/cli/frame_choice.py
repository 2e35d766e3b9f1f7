"""The options that say how columns of Parquet are coded, as one value."""

from dataclasses import dataclass
from typing import Any

from dsoftmax.errors import OptionError

CATEGORICAL, UNKNOWN = "--categorical", "--handle-unknown"
FROM_DTYPE = "from_dtype"


@dataclass(frozen=True)
class FrameChoice:
    """The coding of a frame, as typed.

    Attributes
    ----------
    categorical : str or None
        "from_dtype", or columns separated by commas.
    unknown : str or None
        "error" or "ignore"; None for that of the model, or "error".
    """

    categorical: str | None = None
    unknown: str | None = None

    def columns(self) -> Any:
        """Return the value of ``categorical_features``."""
        if self.categorical in (None, FROM_DTYPE):
            return self.categorical
        return split(self.categorical)

    def require_none(self) -> None:
        """Raise if an option is given though the data are no frame.

        Raises
        ------
        OptionError
        """
        for option, value in ((CATEGORICAL, self.categorical), (UNKNOWN, self.unknown)):
            if value is not None:
                raise OptionError(
                    f"{option} is for columns of Parquet, and DATA is another store. Leave it out, "
                    "or pass Parquet files."
                )


AS_NUMBERS = FrameChoice()
"""Every column is a number."""


def split(names: str | None) -> list[str]:
    """Return names that commas separate."""
    return [] if names is None else [name.strip() for name in names.split(",")]
