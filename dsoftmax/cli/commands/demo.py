"""``dsoftmax demo``: a synthetic scene, trained on as any data would be, and checked against plain NumPy."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import rich.progress

from dsoftmax.cli import interrupts
from dsoftmax.cli.options import ENGINES, Bytes, EngineChoice, Known, engine_choice
from dsoftmax.cli.program import STOPPED

if TYPE_CHECKING:
    from dsoftmax.cli.demo.scene import Scene
    from dsoftmax.cli.show import Outcome
    from dsoftmax.data.source import Source
    from dsoftmax.runs.directory import RunDirectory
    from dsoftmax.training.settings import Settings


MEMORY = 384 * 2**20
"""Allowed for this process; on a cluster for each worker."""


@click.command("demo")
@click.option("--memory", type=Bytes(), help="Memory allowed.  [default: 384MiB for each process]")
@click.option(
    "--size",
    type=float,
    default=3.0,
    show_default=True,
    help="Size of the scene, in units of the memory allowed.",
)
@click.option(
    "--engine", type=Known(ENGINES), help="Where passes run; threads, or cluster with --workers."
)
@click.option(
    "--workers", type=int, metavar="N", help="Start a dask cluster of N processes on this machine."
)
@click.option(
    "--dir",
    "directory",
    metavar="DIRECTORY",
    type=click.Path(path_type=Path),
    default=Path("dsoftmax-demo"),
    show_default=True,
    help="Where the scene is kept; a scene that is there is used again.",
)
@click.option(
    "--out",
    metavar="DIRECTORY",
    type=click.Path(path_type=Path),
    help="Where the run is kept.  [default: DIR/run]",
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
    """Make a synthetic scene several times larger than the memory allowed, train on it, and compare with plain NumPy."""
    choice = engine_choice(engine, workers, None, None, memory)
    with interrupts.shielded():
        from dsoftmax.cli.commands.train import interrupted, train_in
        from dsoftmax.cli.data import open_data
        from dsoftmax.cli.demo import scene as demo
        from dsoftmax.cli.demo.textbook import textbook_pass
        from dsoftmax.cli.show import diagnostics
        from dsoftmax.errors import OptionError
        from dsoftmax.runs.directory import RunDirectory
        from dsoftmax.system.process import available_cores
        from dsoftmax.training.settings import Settings

    if not 0 < size <= 1000:
        raise OptionError(f"--size {size:g}: needed is a positive number of at most 1000.")
    n_workers = (choice.workers or available_cores()) if choice.engine == "cluster" else 1
    allowed = memory or MEMORY * (n_workers + (choice.engine == "cluster"))
    choice = EngineChoice(
        choice.engine, n_workers if choice.engine == "cluster" else None, memory=allowed
    )
    scene = demo.plan_scene(directory / "scene.zarr", int(size * allowed))
    run = RunDirectory(out or directory / "run")
    _require_ours(directory)
    run.require_free()
    console = diagnostics()
    started = time.perf_counter()
    if demo.is_complete(scene):
        console.print(f"Using the synthetic scene in {scene.path}.", soft_wrap=True)
    else:
        with _bar(
            "making the synthetic scene", scene.n_pixels + scene.held_out_lines * demo.WIDTH
        ) as advance:
            demo.make_scene(scene, advance)
        console.print(
            f"Made a synthetic scene in {scene.path}: {time.perf_counter() - started:.1f} s.",
            soft_wrap=True,
        )
    source = open_data(str(scene.path), "X", "y")
    settings = Settings()
    try:
        outcome = train_in(run, source, settings, choice, {"missing_chunks": "error"}, ctx.obj)
    except KeyboardInterrupt:
        interrupted(run, ctx.obj)
        return STOPPED
    ours = None if choice.engine == "cluster" else _pass_seconds(source, settings, choice, outcome)
    with _bar("the same F and ∇F by plain NumPy", scene.n_pixels) as advance:
        textbook = textbook_pass(scene, outcome.result.run.state.theta, settings.C, advance)
    _show(scene, run, outcome, choice, textbook, ours)
    return 0 if outcome.result.converged else STOPPED


def _pass_seconds(
    source: "Source", settings: "Settings", choice: EngineChoice, outcome: "Outcome"
) -> float:
    """Return the seconds of a pass that finds F and ∇F at one point, as plain NumPy does; a solver's pass may find more."""
    from dsoftmax.cli.data import open_engine
    from dsoftmax.solvers.protocol import Query
    from dsoftmax.training.budget import solver_bytes
    from dsoftmax.training.objectives import make_objective

    run = outcome.result.run
    with open_engine(choice) as engine:
        engine.reserve(solver_bytes(run.solver, run.statistics))  # the run is still here
        objective = make_objective(source, engine, settings, run.statistics, False, run.kernel)
        return objective.answer(Query(run.state.theta))[1].seconds


def _require_ours(directory: Path) -> None:
    from dsoftmax.errors import OutputExistsError

    if not directory.exists():
        return
    if not directory.is_dir():
        raise OutputExistsError(f"{directory} is a file. Pass another --dir; it is not touched.")
    foreign = [
        entry.name
        for entry in directory.iterdir()
        if entry.name not in ("scene.zarr", ".scene.zarr.draft", "run")
    ]
    if foreign and not (directory / "scene.zarr").is_dir():
        raise OutputExistsError(
            f"{directory} exists and holds other things ({sorted(foreign)[0]}). Pass another --dir; what is there is not touched."
        )


@contextmanager
def _bar(what: str, pixels: int) -> Iterator[Callable[[int], None]]:
    from dsoftmax.cli.show import diagnostics

    console = diagnostics()
    columns = (
        rich.progress.TextColumn("{task.description}", markup=False),
        rich.progress.BarColumn(),
        rich.progress.TaskProgressColumn(),
        rich.progress.TimeRemainingColumn(),
    )
    with rich.progress.Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as progress:
        task = progress.add_task(what, total=pixels)
        yield lambda done: progress.advance(task, done)


def _show(
    scene: "Scene",
    run: "RunDirectory",
    outcome: "Outcome",
    choice: EngineChoice,
    textbook: object,
    ours: float | None,
) -> None:
    import numpy as np

    from dsoftmax.cli.data import open_data
    from dsoftmax.cli.demo import scene as demo
    from dsoftmax.cli.demo.textbook import TextbookPass
    from dsoftmax.cli.show import memory_line, output, show_facts, summary
    from dsoftmax.engines.threads import ThreadsEngine
    from dsoftmax.results.evaluate import evaluate
    from dsoftmax.system.units import size

    assert isinstance(textbook, TextbookPass)
    result, console = outcome.result, output()
    held_out = evaluate(
        result.model,
        open_data(str(scene.path), "held_out/X", "held_out/y"),
        ThreadsEngine(memory_limit=None if choice.engine == "cluster" else choice.memory),
    )
    summary(run, outcome, choice)
    difference = float(np.abs(textbook.gradient - result.run.state.gradient).max())
    assert choice.memory is not None
    times = scene.n_bytes / choice.memory
    facts = [
        (
            "the data",
            f"synthetic: {scene.lines:,} × {demo.WIDTH:,} pixels × {demo.N_BANDS} bands, {len(demo.CLASSES)} classes",
        ),
        ("size", f"{size(scene.n_bytes)} decoded, {times:.1f} times the memory allowed"),
        ("memory", f"peak {memory_line(choice)}: making the scene, training and NumPy together"),
        (
            "held out",
            f"{100 * held_out.accuracy:.2f} % of {held_out.n_rows:,} pixels right, log loss {held_out.log_loss:.4f}",
        ),
    ]
    console.print("\nThe scene", style="bold")
    show_facts(console, facts)
    facts = [
        (
            "F",
            f"{textbook.value:.10g}; differs by {abs(textbook.value - result.run.state.value):.1e}",
        ),
        ("∇F", f"differs by {difference:.1e} at most; max|∇F| = {result.run.gradient_max:.1e}"),
        ("a pass", f"{textbook.seconds:.2f} s"),
    ]
    if ours is not None:
        faster = f"{textbook.seconds / ours:.1f} times as fast"
        facts[-1] = (
            "a pass",
            f"{textbook.seconds:.2f} s; dsoftmax {ours:.2f} s for F and ∇F alone, as here, {faster}",
        )
    console.print("\nPlain NumPy at the same θ, one process, chunk by chunk", style="bold")
    show_facts(console, facts)
    console.print("\nNext, on your own data", style="bold")
    for line in (
        "dsoftmax inspect data.zarr --features X --labels y --memory 2GiB",
        "dsoftmax train data.zarr --features X --labels y --memory 2GiB --out run",
        "dsoftmax evaluate run data.zarr --features X --labels y",
        "dsoftmax predict run new.zarr --features X --out labels.zarr",
    ):
        console.print(f"  {line}", soft_wrap=True)
