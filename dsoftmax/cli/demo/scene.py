"""A synthetic satellite scene that is larger than the memory limit.

The scene is invented: a smooth map of land-cover classes, with a spectrum in every pixel. A
spectrum is the mean of its class plus correlated noise, in standardised reflectances. Classes
overlap, so no classifier gets every pixel right. Every chunk has a random generator of its own, so
the scene does not depend on the number of cores.
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
"""Pixels in an image row."""
CHUNK_LINES = 16
"""Image rows in a chunk, which then holds 4 MiB of float32."""
WAVES = 8
"""Number of plane waves whose sum is the field of a class."""
STEP = 2.0**-7
"""Resolution of the reflectances, as of a sensor. It is exact in float32, and chunks compress."""
SEED = 2
"""Seed of all random generators."""


@dataclass(frozen=True)
class Scene:
    """Path and size of a scene.

    Attributes
    ----------
    path : Path
        Zarr group with ``X`` and ``y`` for training. ``held_out/X`` and ``held_out/y`` are the
        pixels to the south, which training does not see.
    lines, held_out_lines : int
        Number of image rows of `WIDTH` pixels in each part.
    """

    path: Path
    lines: int
    held_out_lines: int

    @property
    def n_pixels(self) -> int:
        return self.lines * WIDTH

    @property
    def n_bytes(self) -> int:
        """Decoded size of ``X`` in bytes, without the held-out part."""
        return self.n_pixels * N_BANDS * 4


def plan_scene(path: Path, n_bytes: int) -> Scene:
    """Return the smallest scene of whole chunks with at least ``n_bytes`` decoded bytes.

    The held-out part has one sixteenth of its size.
    """
    line = WIDTH * N_BANDS * 4
    chunks = max(-(-n_bytes // (line * CHUNK_LINES)), 4)
    return Scene(path, chunks * CHUNK_LINES, max(chunks // 16, 1) * CHUNK_LINES)


def is_complete(scene: Scene) -> bool:
    """Return whether this scene already exists.

    Raises
    ------
    OutputExistsError
        Something else has its path.
    """
    if not scene.path.exists():
        return False
    try:
        about = json.loads((scene.path / "zarr.json").read_text())["attributes"]["dsoftmax_demo"]
    except (OSError, ValueError, KeyError, TypeError):
        raise OutputExistsError(
            f"{scene.path} exists, is not a scene of this demo, and stays as it is. "
            "Pass another --dir."
        ) from None
    if about != _about(scene):
        raise OutputExistsError(
            f"{scene.path} holds a scene of another size: {about.get('lines')} image rows; "
            f"expected {scene.lines}. Pass another --dir, or the --size and --memory of that "
            "scene, or remove it."
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
    """Write the scene chunk by chunk, on all cores. It appears complete or not at all.

    Parameters
    ----------
    scene : Scene
    watch : callable, optional
        Called with the number of pixels of each chunk that was written.

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
        # Class 0 is the fill value, and a chunk may be all water. Such a chunk must be stored too.
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
    """The random parameters of the scene, and the pixels that follow from them.

    Attributes
    ----------
    waves : (K, WAVES, 2) float64
        Angular frequencies of the waves down and along the image rows, in 1/pixel.
    phases : (K, WAVES) float64
        Phases of the waves.
    means : (K, bands) float32
        Mean spectra.
    modes : (n, bands) float32
        Smooth curves that correlate the bands. The noise of a pixel is their random combination.
    spreads : (K,) float32
        Scale of the noise of a class.
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
        """Return the spectra and the classes of the pixels of a chunk."""
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
        """Return the class of each pixel: the class whose sum of plane waves is the largest."""
        down = np.arange(first_line, first_line + lines)[:, None]
        along = np.arange(WIDTH)[:, None]
        fields = []
        for waves, phases in zip(self.waves, self.phases, strict=True):
            a, b = down * waves[:, 0] + phases, along * waves[:, 1]
            fields.append(np.cos(a) @ np.cos(b).T - np.sin(a) @ np.sin(b).T)  # Σ cos(a + b)
        return np.argmax(fields, axis=0).astype(np.uint8)


def _curves(rng: np.random.Generator, n: int, height: float) -> NDArray[np.float32]:
    """Return smooth random curves over the bands, (n, bands)."""
    cosines = np.cos(np.pi * np.arange(1, 9)[:, None] * np.linspace(0, 1, N_BANDS))
    return (height * rng.standard_normal((n, 8)) @ cosines).astype(np.float32)
