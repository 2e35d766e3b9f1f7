"""``dsoftmax inspect``: what is stored and what training would do, from metadata alone."""

from typing import TYPE_CHECKING, Any

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.options import (
    EngineChoice,
    data_argument,
    engine_choice,
    engine_options,
    features_option,
    groups_option,
    labels_option,
    missing_option,
    objective_options,
    stopping_options,
    validation_option,
    weights_option,
)

if TYPE_CHECKING:
    from dsoftmax.data.source import Source
    from dsoftmax.training.grid import Grid
    from dsoftmax.training.settings import Settings


@click.command("inspect")
@data_argument
@features_option
@labels_option
@weights_option
@groups_option
@validation_option
@objective_options
@stopping_options
@missing_option
@engine_options
def command(
    data: str,
    features: str | None,
    labels: str,
    weights: str | None,
    groups: str | None,
    validation: str | None,
    missing_chunks: str,
    engine: str | None,
    workers: int | None,
    scheduler: str | None,
    scheduler_file: str | None,
    memory: int | None,
    spool: str | None,
    spool_limit: int | None,
    **options: Any,
) -> int:
    """Say what the Zarr store DATA holds and what `train` would do with these options.

    Takes the options of `train`, reads metadata only, and starts nothing; with --scheduler it asks that cluster who is there.
    """
    choice = engine_choice(engine, workers, scheduler, scheduler_file, memory, spool, spool_limit)
    with interrupts.shielded():
        from dsoftmax.cli.data import label_dtype, make_settings, open_data, open_validation
        from dsoftmax.cli.show import output, show_facts
        from dsoftmax.data.validation import with_validation

    source = open_data(data, features, labels, weights, missing_chunks, groups)
    judging = open_validation(validation, source, features, labels, weights, missing_chunks)
    grouped, validated = groups is not None, judging is not None
    settings, grid = make_settings(
        label_dtype(source), grouped=grouped, validated=validated, **options
    )
    console = output()
    console.print("What is stored", style="bold")
    show_facts(console, stored_facts(source) + ([] if judging is None else stored_facts(judging)))
    console.print("What a pass is", style="bold")
    show_facts(
        console,
        pass_facts(
            source if judging is None else with_validation(source, judging), choice, settings
        ),
    )
    console.print("What training does", style="bold")
    show_facts(console, training_facts(source, settings, choice, grid))
    return 0


def stored_facts(source: "Source") -> list[tuple[str, str]]:
    """Return a line for each array."""
    from dsoftmax.system.units import size

    facts = []
    names = vars(source.names)
    for part, about in source.describe()["arrays"].items():
        shape = " × ".join(f"{n:,}" for n in about["shape"])
        chunks = " × ".join(f"{n:,}" for n in about["chunks"])
        shards = (
            f", shards of {' × '.join(f'{n:,}' for n in about['shards'])}"
            if about["shards"]
            else ""
        )
        codecs = ", ".join(about["compressors"]) or "not compressed"
        rows = getattr(source, part)
        decoded = (
            f", {size(rows.dtype.itemsize * _product(about['shape']))} decoded"
            if rows.dtype.itemsize
            else ""
        )
        facts.append(
            (
                names[part],
                f"{shape} {about['dtype']}{decoded}; chunks of {chunks}{shards}; Zarr v{about['format']}; {codecs}",
            )
        )
    return facts


def _product(shape: list[int]) -> int:
    product = 1
    for n in shape:
        product *= n
    return product


def pass_facts(
    source: "Source", choice: EngineChoice, settings: "Settings"
) -> list[tuple[str, str]]:
    """Return what a pass reads, and where it runs.

    Raises
    ------
    MemoryLimitError
        It would not run within the memory allowed.
    """
    from dsoftmax.data.source import n_rows
    from dsoftmax.system.units import size

    largest = int(source.chunk_bytes.max())
    facts = [
        ("rows", f"{n_rows(source):,}"),
        (
            "chunks",
            f"{len(source.chunk_rows):,}, of up to {int(source.chunk_rows.max()):,} rows, {size(largest)}",
        ),
        ("bytes", f"{size(int(source.chunk_bytes.sum()))} of X decoded, read in every pass"),
    ]
    return [*facts, *_engine_facts(source, choice, settings)]


def _engine_facts(
    source: "Source", choice: EngineChoice, settings: "Settings"
) -> list[tuple[str, str]]:
    from dsoftmax.cli.data import open_engine, plan_choice, process_limit
    from dsoftmax.system.process import available_cores
    from dsoftmax.system.units import size
    from dsoftmax.training.budget import expected_footprint

    limit = process_limit(choice)
    plan = plan_choice(source, choice, expected_footprint(source, settings, limit))
    if plan is None:
        with open_engine(choice) as engine:
            return [
                ("engine", engine.describe()),
                ("memory", "what each worker was started with (--memory-limit)"),
            ]
    each = ""
    how = f"{choice.engine}: {plan.threads}"
    if choice.engine == "cluster":
        workers = choice.workers or available_cores()
        how, each = (
            f"cluster: {workers} worker processes on this machine, threads in each: {plan.threads}",
            " in each worker",
        )
    ahead = f"{plan.read_ahead} read ahead" if plan.read_ahead else "none read ahead"
    allowed = (
        "no limit given" if plan.needs.allowed is None else f"{size(plan.needs.allowed)} allowed"
    )
    parts = ", ".join(f"{size(n_bytes)} {name}" for name, n_bytes in plan.parts.items() if n_bytes)
    kept = min(plan.cache / max(plan.needs.total, 1), 1.0)
    return [
        ("engine", how),
        (
            "blocks",
            f"{plan.blocks} in flight{each}, {ahead}; {100 * kept:.0f} % of the data stays in memory from pass to pass",
        ),
        ("memory", f"{size(plan.projected)} projected{each}, {allowed}: {parts}"),
    ]


def training_facts(
    source: "Source", settings: "Settings", choice: EngineChoice, grid: "Grid | None"
) -> list[tuple[str, str]]:
    """Return the solver, the dtype of the products, and the size of θ, each with its reason."""
    from dsoftmax.cli.data import process_limit
    from dsoftmax.kernels.tiles import compute_dtype
    from dsoftmax.system.units import size
    from dsoftmax.training.budget import room

    if settings.dtype is not None:
        why = f"{settings.dtype}, as asked (--dtype)"
    elif (found := compute_dtype(source.dtype)).itemsize == 4:
        why = f"{found}: it holds every {source.dtype} exactly; sums in float64, and products too if float32 cannot reach tol"
    else:
        why = f"{found}: float32 would round the {source.dtype} that is stored"
    p = source.n_features
    if settings.classes is None:
        theta = f"K × {p + 1:,} float64, {size(8 * (p + 1))} a class; K is found in the first pass"
    else:
        K = len(settings.classes)
        theta = f"{K:,} × {p + 1:,} float64, {size(8 * K * (p + 1))}"
    models = "1"
    if grid is not None:
        models = f"{len(grid.models)} in the same passes: {len(grid.Cs)} values of C × {grid.n_folds} folds, and all rows"
    return [
        ("solver", _solver_fact(source, settings, room(process_limit(choice)))),
        ("stops", f"when max|∇F| ≤ {settings.tol:g}, or after {settings.max_iter} iterations"),
        ("penalty", _penalty(settings)),
        ("models", models),
        ("products", why),
        ("θ", theta),
    ]


def _solver_fact(source: "Source", settings: "Settings", left: int | None) -> str:
    """Return the solver and why it is that one; of "auto" what it becomes by the number of classes, where that is not known."""
    from dsoftmax.data.source import n_rows
    from dsoftmax.first_pass.sample import plan_draw
    from dsoftmax.first_pass.visit import MAX_GRAM_FEATURES
    from dsoftmax.solvers.auto import SURROGATE, SURROGATE_ENTRIES
    from dsoftmax.solvers.table import AUTO, L1_SOLVER, Choice, choose, solver_entry
    from dsoftmax.training.budget import sizes_of

    if settings.solver != AUTO:
        return f"{settings.solver}, as asked (--solver)"
    if settings.l1_ratio > 0:
        return f"auto, which is {L1_SOLVER}: the penalty has an L1 part"
    n, p, gram = (
        n_rows(source),
        source.n_features,
        not source.sparse and source.n_features < MAX_GRAM_FEATURES,
    )
    draw = plan_draw(source, left)
    rows, whole = (0, False) if draw is None else (int(draw.share * n), draw.share >= 1)

    def chosen(K: int) -> Choice:
        sizes = sizes_of(n, K, p, gram, 0 if draw is None else draw.n_bytes)
        needed = solver_entry(SURROGATE).held_bytes(sizes)
        return choose(n, p, K, rows, whole, gram, needed, left, source.resident)

    if settings.classes is not None:
        choice = chosen(len(settings.classes))
        return f"auto, which is {choice.solver}: {choice.why}"
    most = max(SURROGATE_ENTRIES // (p + 1), 2)
    few = [K for K in range(2, most + 1) if chosen(K).solver == SURROGATE]
    if not few:
        choice = chosen(most)
        return f"auto, which is {choice.solver}: {choice.why}"
    return f"auto: {SURROGATE} for up to {few[-1]:,} classes, {chosen(few[-1] + 1).solver} for more"


def _penalty(settings: "Settings") -> str:
    if settings.C == float("inf"):
        return "none (C = inf)"
    kind = {0.0: "L2", 1.0: "L1"}.get(
        float(settings.l1_ratio), f"elastic net, {100 * settings.l1_ratio:g} % of it L1"
    )
    return f"{kind}, C = {settings.C:g}"
