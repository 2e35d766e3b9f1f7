"""The plan of `train`: its pass, its memory and its solver, as `inspect` prints them."""

from dsoftmax.cli.engine_choice import EngineChoice
from dsoftmax.cli.open_engine import open_engine, plan_choice
from dsoftmax.cli.show import limit_line
from dsoftmax.data.source import n_rows
from dsoftmax.solvers.auto import PROXIMAL, SURROGATE, SURROGATE_ENTRIES
from dsoftmax.solvers.table import AUTO
from dsoftmax.system.process import available_cores
from dsoftmax.system.units import size
from dsoftmax.training.prepare import Prepared
from dsoftmax.training.settings import Settings


def pass_facts(prepared: Prepared, choice: EngineChoice) -> list[tuple[str, str]]:
    """Return the rows, chunks and bytes of a pass, its engine, and its memory.

    Raises
    ------
    MemoryLimitError
        The pass would exceed the memory limit.
    """
    source = prepared.source
    largest = int(source.chunk_bytes.max())
    facts = [
        ("rows", f"{n_rows(source):,}"),
        (
            "chunks",
            f"{len(source.chunk_rows):,}; the largest has {int(source.chunk_rows.max()):,} rows, "
            f"{size(largest)} decoded",
        ),
        ("features", f"{size(int(source.chunk_bytes.sum()))} decoded"),
    ]
    return [*facts, *_engine_facts(prepared, choice)]


def _engine_facts(prepared: Prepared, choice: EngineChoice) -> list[tuple[str, str]]:
    plan = plan_choice(prepared.source, choice, prepared.footprint)
    if plan is None:
        with open_engine(choice) as engine:
            return [
                ("engine", engine.describe()),
                ("memory", "each worker keeps the limit it was started with (--memory-limit)"),
            ]
    each = ""
    threads = f"{plan.threads} {'thread' if plan.threads == 1 else 'threads'}"
    how = f"{choice.engine}: {threads} in this process"
    if choice.engine == "cluster":
        workers = choice.workers or available_cores()
        each = " in each worker"
        how = f"cluster: {workers} worker processes on this machine, {threads} each"
    parts = ", ".join(f"{size(n_bytes)} {name}" for name, n_bytes in plan.parts.items() if n_bytes)
    cached = min(plan.cache / max(plan.needs.total, 1), 1.0)
    return [
        ("engine", how),
        ("blocks", f"{plan.blocks} in flight{each}, {plan.read_ahead} of them read ahead"),
        ("cache", f"{100 * cached:.0f} % of the data stays decoded in memory between passes"),
        (
            "memory",
            f"{size(plan.projected)} projected{each}, {limit_line(plan.needs.allowed)}: {parts}",
        ),
    ]


def training_facts(prepared: Prepared) -> list[tuple[str, str]]:
    """Return the solver, the kernel, the dtype and the size of θ, each with its reason."""
    source, settings, grid = prepared.source, prepared.settings, prepared.grid
    found = prepared.dtype
    if settings.dtype is not None:
        why = f"{settings.dtype}, as asked (--dtype)"
    elif found.itemsize == 4:
        why = (
            f"{found}, which holds every {source.dtype} exactly; sums are float64, and products "
            "become float64 if float32 cannot reach tol"
        )
    else:
        why = f"{found}, because float32 would round the stored {source.dtype}"
    p = source.n_features
    if settings.classes is None:
        theta = (
            f"K × {p + 1:,} float64, {size(8 * (p + 1))} per class; the first pass counts the K "
            "classes"
        )
    else:
        K = len(settings.classes)
        theta = f"{K:,} × {p + 1:,} float64, {size(8 * K * (p + 1))}"
    models = "1"
    if grid.n_folds:
        models = (
            f"{len(grid.models)} in the same passes: {len(grid.Cs)} values of C × "
            f"({grid.n_folds} folds + all rows)"
        )
    return [
        ("solver", _solver_fact(prepared)),
        ("kernel", f"{prepared.kernel.name}: {prepared.kernel.why}"),
        ("stops", f"at max|∇F| ≤ {settings.tol:g}, or after {settings.max_iter} iterations"),
        ("penalty", _penalty(settings)),
        ("models", models),
        ("products", why),
        ("θ", theta),
    ]


def _solver_fact(prepared: Prepared) -> str:
    """Return the solver and the reason for it.

    The first pass counts the classes, and "auto" depends on their number. Without --classes, return
    what "auto" becomes with few and with many classes.
    """
    if prepared.settings.solver != AUTO:
        return f"{prepared.settings.solver}, as asked (--solver)"
    most = max(SURROGATE_ENTRIES // (prepared.source.n_features + 1), 2)
    few: list[int] = []
    small = PROXIMAL if prepared.settings.l1_ratio > 0 else SURROGATE
    if prepared.choice is None and prepared.encoder is None:
        few = [K for K in range(2, most + 1) if prepared.expect_solver(K).solver == small]
    if few:
        more = prepared.expect_solver(few[-1] + 1).solver
        return f"auto: {small} for up to {few[-1]:,} classes, {more} for more"
    known = prepared.encoder
    choice = prepared.expect_solver(most if known is None else len(known.classes))
    return f"auto, which is {choice.solver}: {choice.why}"


def _penalty(settings: Settings) -> str:
    if settings.C == float("inf"):
        return "none (C = inf)"
    kind = {0.0: "L2", 1.0: "L1"}.get(
        float(settings.l1_ratio), f"elastic net with {100 * settings.l1_ratio:g} % L1"
    )
    scaled = "" if settings.scale is None else ", on coefficients of standardised features"
    return f"{kind}, C = {settings.C:g}{scaled}"
