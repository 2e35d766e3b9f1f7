"""A synthetic scene, larger than the memory allowed, and the textbook NumPy loop that checks what training finds on it.

The scene is invented: a smooth map of land-cover classes, and for each pixel the spectrum of its class with correlated
noise, in standardised reflectances. Classes overlap, so that no classifier gets every pixel right. Every chunk comes from
its own random generator, so that the scene does not depend on the cores that make it.
"""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from numpy.typing import NDArray
from zarr.codecs import BloscCodec

from dsoftmax.errors import OutputExistsError
from dsoftmax.system.files import remove, writing
from dsoftmax.system.process import available_cores

Float = NDArray[np.float64]

CLASSES = ("water", "forest", "grass", "crops", "soil", "built")
N_BANDS = 32
WIDTH = 2048
"""Pixels of an image row."""
CHUNK_LINES = 16
"""Image rows of a chunk: 4 MiB of float32."""
WAVES = 8
"""Plane waves that make up the field of a class."""
STEP = 2.0**-7
"""Of the reflectances, as a sensor has one: exact in float32, and it lets the chunks be compressed."""
SEED = 2


@dataclass(frozen=True)
class Scene:
    """Where a scene is and how large.

    Attributes
    ----------
    path : Path
        Zarr group with ``X``, ``y`` for training and ``held_out/X``, ``held_out/y``, which lie south of it.
    lines, held_out_lines : int
        Image rows of `WIDTH` pixels.
    """

    path: Path
    lines: int
    held_out_lines: int

    @property
    def n_pixels(self) -> int:
        return self.lines * WIDTH

    @property
    def n_bytes(self) -> int:
        """Bytes of X, decoded, held-out part not counted."""
        return self.n_pixels * N_BANDS * 4


def plan_scene(path: Path, n_bytes: int) -> Scene:
    """Return the scene that takes at least ``n_bytes`` decoded; whole chunks, and a sixteenth of it held out."""
    line = WIDTH * N_BANDS * 4
    chunks = max(-(-n_bytes // (line * CHUNK_LINES)), 4)
    return Scene(path, chunks * CHUNK_LINES, max(chunks // 16, 1) * CHUNK_LINES)


def is_complete(scene: Scene) -> bool:
    """Return whether this scene stands there already.

    Raises
    ------
    OutputExistsError
        Something else does.
    """
    if not scene.path.exists():
        return False
    try:
        about = json.loads((scene.path / "zarr.json").read_text())["attributes"]["dsoftmax_demo"]
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputExistsError(
            f"{scene.path} exists and is not a scene of this demo. Pass another --dir; what is there is not touched."
        ) from None
    if about != _about(scene):
        raise OutputExistsError(
            f"{scene.path} holds a scene of another size ({about.get('lines')} image rows; needed are {scene.lines}). Pass another "
            "--dir, the --size and --memory of that scene, or remove it."
        )
    return True


def _about(scene: Scene) -> dict[str, Any]:
    return {
        "synthetic": True,
        "seed": SEED,
        "bands": N_BANDS,
        "lines": scene.lines,
        "held_out_lines": scene.held_out_lines,
    }


def make_scene(scene: Scene, watch: Callable[[int], None] | None = None) -> None:
    """Write the scene chunk by chunk, on all cores; it appears whole or not at all.

    Parameters
    ----------
    scene : Scene
    watch : callable, optional
        Called with the pixels written, after every chunk.

    Raises
    ------
    WriteError
    """
    n_bytes = (scene.lines + scene.held_out_lines) * WIDTH * (4 * N_BANDS + 1)
    with writing(scene.path, n_bytes):
        _make_scene(scene, watch)


def _make_scene(scene: Scene, watch: Callable[[int], None] | None) -> None:
    draft = scene.path.with_name(f".{scene.path.name}.draft")
    remove(draft)
    try:
        _write_scene(scene, draft, watch)
        draft.rename(scene.path)
    finally:
        remove(draft)


def _write_scene(scene: Scene, path: Path, watch: Callable[[int], None] | None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    attributes = {"dsoftmax_demo": _about(scene), "classes": list(CLASSES)}
    root = zarr.create_group(path, zarr_format=3, attributes=attributes)
    step = CHUNK_LINES * WIDTH
    parts = []
    for group, lines in (
        (root, scene.lines),
        (root.create_group("held_out"), scene.held_out_lines),
    ):
        codec = BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")
        X = group.create_array(
            "X",
            shape=(lines * WIDTH, N_BANDS),
            dtype="float32",
            chunks=(step, N_BANDS),
            compressors=codec,
        )
        # Class 0 is the fill value: a chunk of nothing but water is written all the same.
        y = group.create_array(
            "y",
            shape=(lines * WIDTH,),
            dtype="uint8",
            chunks=(step,),
            compressors=codec,
            config={"write_empty_chunks": True},
        )
        parts.append((X, y))
    maker = _Maker.for_scene()
    inside = scene.lines // CHUNK_LINES

    def write(number: int) -> int:
        (X, y), place = (parts[0], number) if number < inside else (parts[1], number - inside)
        spectra, classes = maker.chunk(number)
        rows = slice(place * step, (place + 1) * step)
        X[rows], y[rows] = spectra, classes
        return step

    with ThreadPoolExecutor(available_cores()) as pool:
        try:
            for done in pool.map(write, range((scene.lines + scene.held_out_lines) // CHUNK_LINES)):
                if watch is not None:
                    watch(done)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


@dataclass(frozen=True)
class _Maker:
    """The laws of the scene.

    Attributes
    ----------
    waves : (K, WAVES, 2) float64
        Angular frequencies along and across the image rows (1/pixel).
    phases : (K, WAVES) float64
    means : (K, bands) float32
        Mean spectra.
    modes : (n, bands) float32
        Smooth curves, times standard normal numbers: what correlates the bands.
    spreads : (K,) float32
        How far the pixels of a class lie from its mean.
    """

    waves: Float
    phases: Float
    means: NDArray[np.float32]
    modes: NDArray[np.float32]
    spreads: NDArray[np.float32]

    @classmethod
    def for_scene(cls) -> "_Maker":
        rng = np.random.default_rng(SEED)
        K = len(CLASSES)
        angle = rng.uniform(0, 2 * np.pi, (K, WAVES))
        directions = np.stack([np.cos(angle), np.sin(angle)], axis=-1)
        return cls(
            2 * np.pi / rng.uniform(150, 900, (K, WAVES, 1)) * directions,
            rng.uniform(0, 2 * np.pi, (K, WAVES)),
            _curves(rng, K, 0.25),
            _curves(rng, 4, 0.1),
            rng.uniform(0.7, 1.3, K).astype(np.float32),
        )

    def chunk(self, number: int) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """Return the spectra and classes of a chunk's pixels."""
        rng = np.random.default_rng([SEED, number])
        classes = self.classes(number * CHUNK_LINES, CHUNK_LINES).ravel()
        spectra = rng.standard_normal((len(classes), N_BANDS), np.float32)
        spectra += rng.standard_normal((len(classes), len(self.modes)), np.float32) @ self.modes
        spectra *= self.spreads[classes, None]
        spectra += self.means[classes]
        spectra *= np.float32(1 / STEP)
        np.rint(spectra, out=spectra)
        spectra *= np.float32(STEP)
        return spectra, classes

    def classes(self, first_line: int, lines: int) -> NDArray[np.uint8]:
        """Return the map of classes: where the field of a class, a sum of plane waves, is the highest of all."""
        down = np.arange(first_line, first_line + lines)[:, None]
        along = np.arange(WIDTH)[:, None]
        fields = []
        for waves, phases in zip(self.waves, self.phases, strict=True):
            a, b = down * waves[:, 0] + phases, along * waves[:, 1]
            fields.append(np.cos(a) @ np.cos(b).T - np.sin(a) @ np.sin(b).T)  # Σ cos(a + b)
        return np.argmax(fields, axis=0).astype(np.uint8)


def _curves(rng: np.random.Generator, n: int, height: float) -> NDArray[np.float32]:
    """Smooth curves over the bands, (n, bands)."""
    cosines = np.cos(np.pi * np.arange(1, 9)[:, None] * np.linspace(0, 1, N_BANDS))
    return (height * rng.standard_normal((n, 8)) @ cosines).astype(np.float32)
