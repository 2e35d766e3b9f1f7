"""The textbook NumPy loop that checks what training finds."""

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
    """F and ∇F at a point, by plain NumPy.

    Attributes
    ----------
    value : float
    gradient : (K, p+1) float64
    seconds : float
        Reading included.
    """

    value: float
    gradient: Float
    seconds: float


def textbook_pass(
    scene: Scene, theta: Float, C: float, watch: Callable[[int], None] | None = None
) -> TextbookPass:
    """Evaluate F and ∇F over the whole scene as a textbook would, chunk by chunk so that it fits; float32 products.

    Parameters
    ----------
    scene : Scene
    theta : (K, p+1) float64
        K ≥ 3.
    C : float
    watch : callable, optional
        Called with the pixels read, after every chunk.
    """
    if len(theta) < 3:
        raise OptionError("The textbook formula is for three classes or more.")
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
