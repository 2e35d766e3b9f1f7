"""``dsoftmax demo``: train on a synthetic scene, and check the result with plain NumPy."""

import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.engine_choice import ENGINES, EngineChoice, engine_choice
from dsoftmax.cli.exit_codes import STOPPED
from dsoftmax.cli.parameters import Bytes, Known
from dsoftmax.cli.sections import SectionedCommand

if TYPE_CHECKING:
    from dsoftmax.cli.demo.scene import Scene

MEMORY = 384 * 2**20
"""Default memory limit of each process, in bytes."""
LARGEST_SIZE = 1000
"""Largest size of a scene, in memory limits."""


@click.command("demo", cls=SectionedCommand)
@click.option(
    "--memory", type=Bytes(), help="Memory limit, such as 2GiB.  [default: 384MiB per process]"
)
@click.option(
    "--size",
    type=float,
    default=3.0,
    show_default=True,
    help="Size of the decoded scene, as a multiple of the memory limit.",
)
@click.option(
    "--engine",
    type=Known(ENGINES),
    help="Where the passes run.  [default: threads; cluster with --workers]",
)
@click.option(
    "--workers",
    type=int,
    metavar="N",
    help="Start a dask cluster of N worker processes on this machine.",
)
@click.option(
    "--dir",
    "directory",
    metavar="DIRECTORY",
    type=click.Path(path_type=Path),
    default=Path("dsoftmax-demo"),
    show_default=True,
    help="Directory for the scene. A scene that is already there is used again.",
)
@click.option(
    "--out",
    metavar="DIRECTORY",
    type=click.Path(path_type=Path),
    help="Run directory.  [default: DIR/run]",
)
@click.pass_context
def command(
    ctx: click.Context,
    /,
    memory: int | None,
    size: float,
    engine: str | None,
    workers: int | None,
    directory: Path,
    out: Path | None,
) -> int:
    """Make a synthetic scene larger than the memory limit, train on it, and compare with NumPy.

    The scene is a satellite image that is invented: spectra of six land-cover classes. Plain NumPy
    then computes F and ∇F at the same θ, and the command prints the differences.
    """
    choice = engine_choice(engine, workers, None, None, memory)
    with interrupts.shielded():
        from dsoftmax.cli.demo.scene import plan_scene
        from dsoftmax.cli.demo_check import compare, open_scene, require_memory
        from dsoftmax.cli.show_run import summary
        from dsoftmax.cli.training_run import say_interrupted, train_in
        from dsoftmax.errors import OptionError
        from dsoftmax.runs.directory import RunDirectory
        from dsoftmax.training.settings import Settings

    if not 0 < size <= LARGEST_SIZE:
        raise OptionError(
            f"--size is {size:g}; expected a number above 0 and at most {LARGEST_SIZE}."
        )
    choice, allowed = _limited(choice)
    scene = plan_scene(directory / "scene.zarr", int(size * allowed))
    run = RunDirectory(out or directory / "run")
    _require_ours(directory)
    run.require_free()
    _provide(scene)
    require_memory(scene, choice)
    source, settings = open_scene(scene), Settings()
    try:
        outcome = train_in(run, source, settings, choice, {"missing_chunks": "error"}, ctx.obj)
        summary(run, outcome, choice)
        compare(scene, source, settings, choice, outcome).show(scene, choice, outcome)
    except KeyboardInterrupt:
        say_interrupted(run, ctx.obj)
        return STOPPED
    return outcome.exit_code


def _limited(choice: EngineChoice) -> tuple[EngineChoice, int]:
    """Return the choice with its number of workers and its memory limit, and this limit."""
    from dsoftmax.system.process import available_cores

    if choice.engine != "cluster":
        allowed = choice.memory or MEMORY
        return EngineChoice(choice.engine, memory=allowed), allowed
    n_workers = choice.workers or available_cores()
    allowed = choice.memory or MEMORY * (n_workers + 1)
    return EngineChoice(choice.engine, n_workers, memory=allowed), allowed


def _provide(scene: "Scene") -> None:
    """Make the scene, unless it is already there."""
    from dsoftmax.cli.demo.scene import WIDTH, is_complete, make_scene
    from dsoftmax.cli.show import diagnostics, progress_bar

    if is_complete(scene):
        diagnostics().print(f"Using the synthetic scene in {scene.path}.", soft_wrap=True)
        return
    started = time.perf_counter()
    n_pixels = scene.n_pixels + scene.held_out_lines * WIDTH
    with progress_bar("making the synthetic scene", n_pixels, "pixels") as advance:
        make_scene(scene, advance)
    seconds = time.perf_counter() - started
    diagnostics().print(
        f"Made a synthetic scene in {scene.path} in {seconds:.1f} s.", soft_wrap=True
    )


def _require_ours(directory: Path) -> None:
    """Raise if the directory holds anything but a demo.

    Raises
    ------
    OutputExistsError
    """
    from dsoftmax.errors import OutputExistsError

    if not directory.exists():
        return
    if not directory.is_dir():
        raise OutputExistsError(f"{directory} is a file, and stays as it is. Pass another --dir.")
    ours = ("scene.zarr", ".scene.zarr.draft", "run")
    foreign = sorted(entry.name for entry in directory.iterdir() if entry.name not in ours)
    if foreign and not (directory / "scene.zarr").is_dir():
        raise OutputExistsError(
            f"{directory} already holds something else ({foreign[0]}), and stays as it is. "
            "Pass another --dir."
        )
