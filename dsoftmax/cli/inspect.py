"""``dsoftmax inspect``: what is stored and what training would do, from metadata alone."""

from typing import TYPE_CHECKING, Any

import click

from dsoftmax.cli.options import (
    EngineChoice,
    data_argument,
    engine_choice,
    engine_options,
    features_option,
    labels_option,
    missing_option,
    objective_options,
    stopping_options,
    weights_option,
)

if TYPE_CHECKING:
    from dsoftmax.blocks import Source
    from dsoftmax.training import Settings


@click.command("inspect")
@data_argument
@features_option
@labels_option
@weights_option
@objective_options
@stopping_options
@missing_option
@engine_options
def command(
    data: str,
    features: str | None,
    labels: str,
    weights: str | None,
    missing_chunks: str,
    engine: str | None,
    workers: int | None,
    scheduler: str | None,
    scheduler_file: str | None,
    memory: int | None,
    **options: Any,
) -> int:
    """Say what the Zarr store DATA holds and what `train` would do with these options.

    Takes the options of `train`, reads metadata only, and starts nothing; with --scheduler it asks that cluster who is there.
    """
    choice = engine_choice(engine, workers, scheduler, scheduler_file, memory)
    from dsoftmax.cli.data import label_dtype, make_settings, open_data
    from dsoftmax.cli.show import output, show_facts

    source = open_data(data, features, labels, weights, missing_chunks)
    settings = make_settings(label_dtype(source), **options)
    console = output()
    console.print("What is stored", style="bold")
    show_facts(console, stored_facts(source))
    console.print("What a pass is", style="bold")
    show_facts(console, pass_facts(source, choice))
    console.print("What training does", style="bold")
    show_facts(console, training_facts(source, settings))
    return 0


def stored_facts(source: "Source") -> list[tuple[str, str]]:
    """Return a line for each array."""
    from dsoftmax.cli.show import size

    facts = []
    names = {"X": source.names.X, "y": source.names.y, "weights": source.names.weights}
    for part, about in source.describe()["arrays"].items():
        shape = " × ".join(f"{n:,}" for n in about["shape"])
        chunks = " × ".join(f"{n:,}" for n in about["chunks"])
        shards = f", shards of {' × '.join(f'{n:,}' for n in about['shards'])}" if about["shards"] else ""
        codecs = ", ".join(about["compressors"]) or "not compressed"
        rows = getattr(source, part)
        decoded = f", {size(rows.dtype.itemsize * _product(about['shape']))} decoded" if rows.dtype.itemsize else ""
        facts.append(
            (names[part], f"{shape} {about['dtype']}{decoded}; chunks of {chunks}{shards}; Zarr v{about['format']}; {codecs}")
        )
    return facts


def _product(shape: list[int]) -> int:
    product = 1
    for n in shape:
        product *= n
    return product


def pass_facts(source: "Source", choice: EngineChoice) -> list[tuple[str, str]]:
    """Return what a pass reads, and where it runs.

    Raises
    ------
    MemoryLimitError
        It would not run within the memory allowed.
    """
    from dsoftmax.blocks import n_rows
    from dsoftmax.cli.show import size

    largest = int(source.chunk_bytes.max())
    facts = [
        ("rows", f"{n_rows(source):,}"),
        ("chunks", f"{len(source.chunk_rows):,}, of up to {int(source.chunk_rows.max()):,} rows, {size(largest)}"),
        ("bytes", f"{size(int(source.chunk_bytes.sum()))} of X decoded, read in every pass"),
    ]
    return facts + (_cluster_facts(source, choice) if choice.engine == "cluster" else _local_facts(source, choice))


def _local_facts(source: "Source", choice: EngineChoice) -> list[tuple[str, str]]:
    from dsoftmax.cli.show import size
    from dsoftmax.engine.memory import PROCESS_BYTES, projected_bytes, require_blocks
    from dsoftmax.engine.threads import ThreadsEngine

    largest = int(source.chunk_bytes.max())
    if choice.engine == "serial":
        require_blocks(1, source.chunk_bytes, choice.memory)
        blocks, how = 1, "serial: one chunk after the other"
    else:
        n_threads, read_ahead = ThreadsEngine(memory_limit=choice.memory).plan(source)
        blocks = n_threads * (2 if read_ahead else 1)
        how = f"threads: {n_threads}, {'each reads one chunk ahead' if read_ahead else 'without reading ahead'}"
    projected = projected_bytes(blocks, largest)
    allowed = "no limit given" if choice.memory is None else f"{size(choice.memory)} allowed"
    detail = f"{size(PROCESS_BYTES)} the process, {blocks} {'block' if blocks == 1 else 'blocks'}"
    return [("engine", how), ("memory", f"{size(projected)} projected ({detail}), {allowed}")]


def _cluster_facts(source: "Source", choice: EngineChoice) -> list[tuple[str, str]]:
    from dsoftmax.cli.data import open_engine
    from dsoftmax.cli.show import size
    from dsoftmax.engine.memory import projected_bytes, require_blocks
    from dsoftmax.engine.threads import available_cores

    if choice.scheduler or choice.scheduler_file:
        with open_engine(choice) as engine:
            return [("engine", engine.describe()), ("memory", "what each worker was started with (--memory-limit)")]
    cores = available_cores()
    workers = choice.workers or cores
    threads = max(cores // workers, 1)
    each = None if choice.memory is None else choice.memory // workers
    require_blocks(1, source.chunk_bytes, each)
    least = projected_bytes(1, int(source.chunk_bytes.max()))
    allowed = "no limit given" if each is None else f"{size(each)} allowed for each"
    return [
        (
            "engine",
            f"cluster: {workers} worker processes of {threads} {'thread' if threads == 1 else 'threads'} on this machine",
        ),
        ("memory", f"at least {size(least)} projected for each worker, {allowed}"),
    ]


def training_facts(source: "Source", settings: "Settings") -> list[tuple[str, str]]:
    """Return the solver, the dtype of the products, and the size of θ, each with its reason."""
    from dsoftmax.cli.show import size
    from dsoftmax.softmax import compute_dtype
    from dsoftmax.solvers import SOLVERS

    if settings.dtype is not None:
        why = f"{settings.dtype}, as asked (--dtype)"
    elif (found := compute_dtype(source.dtype)).itemsize == 4:
        why = f"{found}: it holds every {source.dtype} exactly; sums in float64, and products too if float32 cannot reach tol"
    else:
        why = f"{found}: float32 would round the {source.dtype} that is stored"
    gram = SOLVERS[settings.solver].gram
    step = (
        "needs Σxxᵀ, which the first pass collects for the step length" if gram else "its steps come from the gradients alone"
    )
    p = source.n_features
    if settings.classes is None:
        theta = f"K × {p + 1:,} float64, {size(8 * (p + 1))} a class; K is found in the first pass"
    else:
        K = len(settings.classes)
        theta = f"{K:,} × {p + 1:,} float64, {size(8 * K * (p + 1))}"
    return [
        ("solver", f"{settings.solver}: one pass an iteration where the first step is accepted; {step}"),
        ("stops", f"when max|∇F| ≤ {settings.tol:g}, or after {settings.max_iter} iterations"),
        ("penalty", "none (C = inf)" if settings.C == float("inf") else f"L2, C = {settings.C:g}"),
        ("products", why),
        ("θ", theta),
    ]
