"""The options that name the features of a cube, as one value."""

from dataclasses import dataclass


@dataclass(frozen=True)
class CubeChoice:
    """Features of a cube, as typed.

    Attributes
    ----------
    names : tuple of str
        Paths of variables; empty if DATA is an array.
    dims : tuple of str
        Dimensions whose entries are features.
    known : tuple of str
        Those of a model's training, which stand for ``dims`` as far as the cube has them.
    """

    names: tuple[str, ...]
    dims: tuple[str, ...] = ()
    known: tuple[str, ...] = ()


def features_choice(features: str | None, feature_dim: str | None) -> str | CubeChoice | None:
    """Return the features of option values: those of a cube if a comma or a dimension says so."""
    if feature_dim is None and (features is None or "," not in features):
        return features
    return CubeChoice(_split(features), _split(feature_dim))


def _split(text: str | None) -> tuple[str, ...]:
    parts = () if text is None else text.split(",")
    return tuple(part.strip() for part in parts if part.strip())
