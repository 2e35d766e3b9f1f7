"""F and ∇F by a textbook NumPy loop, to check what training finds."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray

from dsoftmax.cli.demo.scene import Scene
from dsoftmax.errors import OptionError

Float = NDArray[np.float64]


@dataclass(frozen=True)
class TextbookPass:
    """F and ∇F at one point, by plain NumPy.

    Attributes
    ----------
    value : float
        F.
    gradient : (K, p+1) float64
        ∇F.
    seconds : float
        Duration of the pass, with reading.
    """

    value: float
    gradient: Float
    seconds: float


def textbook_pass(
    scene: Scene, theta: Float, C: float, watch: Callable[[int], None] | None = None
) -> TextbookPass:
    """Compute F and ∇F over the scene by the textbook formula, with products in float32.

    The loop reads one chunk after the other, because the whole scene exceeds the memory limit.

    Parameters
    ----------
    scene : Scene
    theta : (K, p+1) float64
        Weights and intercepts of K ≥ 3 classes.
    C : float
        Inverse strength of the L2 penalty.
    watch : callable, optional
        Called with the number of pixels of each chunk that was read.

    Raises
    ------
    OptionError
        ``theta`` has fewer than three rows.
    """
    if len(theta) < 3:
        raise OptionError(
            f"theta has {len(theta)} rows; the textbook formula expects three classes or more."
        )
    root = zarr.open_group(scene.path, mode="r", use_consolidated=False)
    stored: Any = root["X"]
    labels: Any = root["y"]
    T, b = theta[:, :-1].T.astype(np.float32), theta[:, -1].astype(np.float32)
    identity = np.eye(len(theta), dtype=np.float32)
    loss, sums, n, step = 0.0, np.zeros(theta.shape), stored.shape[0], stored.chunks[0]
    started = time.perf_counter()
    for start in range(0, n, step):
        X, y = stored[start : start + step], labels[start : start + step]
        Z = X @ T + b
        Z -= Z.max(axis=1, keepdims=True)
        P = np.exp(Z)
        P /= P.sum(axis=1, keepdims=True)
        Y = identity[y]
        loss -= np.log((P * Y).sum(axis=1)).sum(dtype=np.float64)
        sums[:, :-1] += (X.T @ (P - Y)).T
        sums[:, -1] += (P - Y).sum(axis=0, dtype=np.float64)
        if watch is not None:
            watch(len(y))
    seconds = time.perf_counter() - started
    W = theta[:, :-1]
    gradient = sums / n
    gradient[:, :-1] += W / (C * n)
    return TextbookPass(float(loss / n + np.sum(W * W) / (2 * C * n)), gradient, seconds)
