"""Features of a cube by the names that a model knows, in its order."""

from collections.abc import Iterable
from difflib import get_close_matches

from dsoftmax.data.cubes.cube import Cube
from dsoftmax.errors import DataError

SHOWN = 5
"""Most names that a message lists."""


def with_names(X: Cube, wanted: Iterable[str], name: str) -> Cube:
    """Return the cube with these features, in this order.

    Parameters
    ----------
    X : Cube
    wanted : p strings
    name : str
        Name of the cube in messages.

    Raises
    ------
    DataError
        A feature is absent.
    """
    wanted, found = [str(one) for one in wanted], X.names
    if found == wanted:
        return X
    missing = [one for one in wanted if one not in set(found)]
    if missing:
        near = get_close_matches(missing[0], found, n=1, cutoff=0.6)
        hint = f" Did you mean {near[0]}?" if near else ""
        more = f" and {len(missing) - SHOWN:,} more" if len(missing) > SHOWN else ""
        raise DataError(
            f"{name} lacks {len(missing):,} of the {len(wanted):,} features of the model: "
            f"{', '.join(missing[:SHOWN])}{more}.{hint} Its features are "
            f"{', '.join(found[:SHOWN])}{', …' if len(found) > SHOWN else ''}. Pass a cube that "
            "has them, or rename its variables or coordinates."
        )
    return X.named(wanted)
