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
    from dsoftmax.training.prepare import Prepared
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
        from dsoftmax.cli.data import (
            label_dtype,
            make_settings,
            open_data,
            open_validation,
            process_limit,
        )
        from dsoftmax.cli.show import output, show_facts
        from dsoftmax.training.prepare import prepare

    source = open_data(data, features, labels, weights, missing_chunks, groups)
    judging = open_validation(validation, source, features, labels, weights, missing_chunks)
    grouped, validated = groups is not None, judging is not None
    settings, grid = make_settings(
        label_dtype(source), grouped=grouped, validated=validated, **options
    )
    limit = process_limit(choice)
    prepared = prepare(source, settings, grid, memory_limit=limit, validation=judging)
    console = output()
    console.print("What is stored", style="bold")
    show_facts(console, stored_facts(source) + ([] if judging is None else stored_facts(judging)))
    console.print("What a pass is", style="bold")
    show_facts(console, pass_facts(prepared, choice))
    console.print("What training does", style="bold")
    show_facts(console, training_facts(prepared))
    return 0


def stored_facts(source: "Source") -> list[tuple[str, str]]:
    """Return a line for each array."""
    from dsoftmax.system.units import size

    facts = []
    names, dtypes = vars(source.names), dict(source.dtypes.items())
    for part, about in source.describe()["arrays"].items():
        shape = " × ".join(f"{n:,}" for n in about["shape"])
        chunks = " × ".join(f"{n:,}" for n in about["chunks"])
        shards = (
            f", shards of {' × '.join(f'{n:,}' for n in about['shards'])}"
            if about["shards"]
            else ""
        )
        codecs = ", ".join(about["compressors"]) or "not compressed"
        dtype = dtypes[part]
        decoded = (
            f", {size(dtype.itemsize * _product(about['shape']))} decoded" if dtype.itemsize else ""
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


def pass_facts(prepared: "Prepared", choice: EngineChoice) -> list[tuple[str, str]]:
    """Return what a pass reads, and where it runs.

    Raises
    ------
    MemoryLimitError
        It would not run within the memory allowed.
    """
    from dsoftmax.data.source import n_rows
    from dsoftmax.system.units import size

    source = prepared.source
    largest = int(source.chunk_bytes.max())
    facts = [
        ("rows", f"{n_rows(source):,}"),
        (
            "chunks",
            f"{len(source.chunk_rows):,}, of up to {int(source.chunk_rows.max()):,} rows, {size(largest)}",
        ),
        ("bytes", f"{size(int(source.chunk_bytes.sum()))} of X decoded, read in every pass"),
    ]
    return [*facts, *_engine_facts(prepared, choice)]


def _engine_facts(prepared: "Prepared", choice: EngineChoice) -> list[tuple[str, str]]:
    from dsoftmax.cli.data import open_engine, plan_choice
    from dsoftmax.system.process import available_cores
    from dsoftmax.system.units import size

    plan = plan_choice(prepared.source, choice, prepared.footprint)
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


def training_facts(prepared: "Prepared") -> list[tuple[str, str]]:
    """Return the solver, the kernel, the dtype of the products, and the size of θ, each with its reason."""
    from dsoftmax.system.units import size

    source, settings, grid = prepared.source, prepared.settings, prepared.grid
    found = prepared.dtype
    if settings.dtype is not None:
        why = f"{settings.dtype}, as asked (--dtype)"
    elif found.itemsize == 4:
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
    if grid.n_folds:
        models = f"{len(grid.models)} in the same passes: {len(grid.Cs)} values of C × {grid.n_folds} folds, and all rows"
    return [
        ("solver", _solver_fact(prepared)),
        ("kernel", f"{prepared.kernel.name}: {prepared.kernel.why}"),
        ("stops", f"when max|∇F| ≤ {settings.tol:g}, or after {settings.max_iter} iterations"),
        ("penalty", _penalty(settings)),
        ("models", models),
        ("products", why),
        ("θ", theta),
    ]


def _solver_fact(prepared: "Prepared") -> str:
    """Return the solver and the reason for it; for "auto" by the number of classes, if this is not known yet."""
    from dsoftmax.solvers.auto import SURROGATE, SURROGATE_ENTRIES
    from dsoftmax.solvers.table import AUTO

    if prepared.settings.solver != AUTO:
        return f"{prepared.settings.solver}, as asked (--solver)"
    most = max(SURROGATE_ENTRIES // (prepared.source.n_features + 1), 2)
    few: list[int] = []
    if prepared.choice is None and prepared.encoder is None:
        few = [K for K in range(2, most + 1) if prepared.expect_solver(K).solver == SURROGATE]
    if few:
        more = prepared.expect_solver(few[-1] + 1).solver
        return f"auto: {SURROGATE} for up to {few[-1]:,} classes, {more} for more"
    known = prepared.encoder
    choice = prepared.expect_solver(most if known is None else len(known.classes))
    return f"auto, which is {choice.solver}: {choice.why}"


def _penalty(settings: "Settings") -> str:
    if settings.C == float("inf"):
        return "none (C = inf)"
    kind = {0.0: "L2", 1.0: "L1"}.get(
        float(settings.l1_ratio), f"elastic net, {100 * settings.l1_ratio:g} % of it L1"
    )
    return f"{kind}, C = {settings.C:g}"
