"""Check what training found on the scene: with plain NumPy, and on pixels that it did not see."""

from dataclasses import dataclass

import numpy as np

from dsoftmax.cli.demo.scene import CLASSES, N_BANDS, WIDTH, Scene
from dsoftmax.cli.demo.textbook import TextbookPass, textbook_pass
from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.cli.open_data import open_data
from dsoftmax.cli.open_engine import open_engine, plan_choice
from dsoftmax.cli.show import memory_line, output, progress_bar, show_facts
from dsoftmax.cli.training_run import Outcome
from dsoftmax.data.source import Source
from dsoftmax.results.evaluate import evaluate
from dsoftmax.results.metrics import Metrics, Score
from dsoftmax.results.model import Model
from dsoftmax.solvers.protocol import Query
from dsoftmax.system.units import size
from dsoftmax.training.budget import solver_bytes
from dsoftmax.training.objectives import make_objective
from dsoftmax.training.settings import Settings

NEXT = (
    "dsoftmax inspect data.zarr --features X --labels y --memory 2GiB",
    "dsoftmax train data.zarr --features X --labels y --memory 2GiB --out run",
    "dsoftmax evaluate run data.zarr --features X --labels y",
    "dsoftmax predict run new.zarr --features X --out labels.zarr",
)
"""Commands that the demo suggests."""


@dataclass(frozen=True)
class Comparison:
    """The checks of a run on the scene.

    Attributes
    ----------
    textbook : TextbookPass
        F and ∇F at the model's θ, by plain NumPy.
    seconds : float or None
        Duration of a pass of dsoftmax that computes the same; None on a cluster.
    held_out : Metrics
        Score of the model on the pixels that training did not see.
    """

    textbook: TextbookPass
    seconds: float | None
    held_out: Metrics

    def show(self, scene: Scene, choice: EngineChoice, outcome: Outcome) -> None:
        """Print the scene, the differences, and the commands for the user's own data."""
        console = output()
        console.print("\nThe scene", style="bold")
        show_facts(console, self._scene_facts(scene, choice))
        console.print("\nPlain NumPy at the same θ, in one process", style="bold")
        show_facts(console, self._textbook_facts(outcome))
        console.print("\nNext, on your own data", style="bold")
        for line in NEXT:
            console.print(f"  {line}", soft_wrap=True)

    def _scene_facts(self, scene: Scene, choice: EngineChoice) -> list[tuple[str, str]]:
        assert choice.memory is not None
        times = scene.n_bytes / choice.memory
        held_out = self.held_out
        return [
            (
                "data",
                f"synthetic: {scene.lines:,} × {WIDTH:,} pixels, {N_BANDS} bands, "
                f"{len(CLASSES)} classes",
            ),
            ("size", f"{size(scene.n_bytes)} decoded, {times:.1f} times the memory limit"),
            ("peak memory", f"{memory_line(choice)} (making the scene, training and NumPy)"),
            (
                "held out",
                f"accuracy {100 * held_out.accuracy:.2f} %, log loss {held_out.log_loss:.4f} on "
                f"{held_out.n_rows:,} pixels that training did not see",
            ),
        ]

    def _textbook_facts(self, outcome: Outcome) -> list[tuple[str, str]]:
        run, found = outcome.result.run, self.textbook
        difference = float(np.abs(found.gradient - run.gradient).max())
        speed = f"{found.seconds:.2f} s"
        if self.seconds is not None:
            speed += (
                f"; dsoftmax needs {self.seconds:.2f} s for the same F and ∇F, and is "
                f"{found.seconds / self.seconds:.1f} times as fast"
            )
        return [
            ("F", f"{found.value:.10g}; difference {abs(found.value - run.state.value):.1e}"),
            ("∇F", f"largest difference {difference:.1e}; max|∇F| is {run.gradient_max:.1e}"),
            ("one pass", speed),
        ]


def open_scene(scene: Scene) -> Source:
    """Open the pixels to train on."""
    return open_data(str(scene.path), "X", "y")


def _open_held_out(scene: Scene) -> Source:
    return open_data(str(scene.path), "held_out/X", "held_out/y")


def _held_out_memory(choice: EngineChoice) -> int | None:
    """Return the memory limit of the pass over the held-out pixels, which runs in this process."""
    return None if choice.engine == "cluster" else choice.memory


def require_memory(scene: Scene, choice: EngineChoice) -> None:
    """Raise if the pass over the held-out pixels would exceed the memory limit.

    Raises
    ------
    MemoryLimitError
    """
    untrained = Model(np.zeros((len(CLASSES), N_BANDS + 1)), np.arange(len(CLASSES)))
    work = Score(untrained).footprint(N_BANDS, False)
    here = EngineChoice("threads", memory=_held_out_memory(choice))
    plan_choice(_open_held_out(scene), here, work)


def compare(
    scene: Scene, source: Source, settings: Settings, choice: EngineChoice, outcome: Outcome
) -> Comparison:
    """Check the model of a run on the scene."""
    run = outcome.result.run
    seconds = (
        None if choice.engine == "cluster" else _pass_seconds(source, settings, choice, outcome)
    )
    with progress_bar("F and ∇F by plain NumPy", scene.n_pixels, "pixels") as advance:
        textbook = textbook_pass(scene, run.theta, settings.C, advance)
    here = EngineChoice("threads", memory=_held_out_memory(choice))
    with open_engine(here) as engine:
        held_out = evaluate(outcome.result.model, _open_held_out(scene), engine)
    return Comparison(textbook, seconds, held_out)


def _pass_seconds(
    source: Source, settings: Settings, choice: EngineChoice, outcome: Outcome
) -> float:
    """Return the seconds of a pass that computes F and ∇F at one point, as plain NumPy does.

    A solver's pass may compute more.
    """
    run = outcome.result.run
    with open_engine(choice) as engine:
        # The state of the run is still in memory.
        engine.reserve(solver_bytes(run.solver, run.statistics))
        objective = make_objective(source, engine, settings, run.statistics, False, run.kernel)
        return objective.answer(Query(run.theta))[1].seconds
