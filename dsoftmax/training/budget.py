"""What is decided before and after the first pass: memory, solver, kernel, sample."""

import time

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.source import Source, n_rows
from dsoftmax.engines.base import Engine
from dsoftmax.engines.plan import MARGIN, PROCESS_BYTES
from dsoftmax.engines.visit import Footprint
from dsoftmax.errors import MemoryLimitError
from dsoftmax.first_pass.held_out import Held
from dsoftmax.first_pass.labels import Encoder, given_classes
from dsoftmax.first_pass.sample import Draw, plan_draw
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.first_pass.visit import MAX_GRAM_FEATURES, Collect, finish, gram_part
from dsoftmax.kernels.choose import choose_kernel
from dsoftmax.kernels.tiles import compute_dtype, scratch_bytes
from dsoftmax.objective.class_weights import class_weight_vector
from dsoftmax.objective.objective import Cost, Objective
from dsoftmax.objective.visit import Evaluate, Question
from dsoftmax.solvers.auto import HESSIAN_BYTES, HESSIAN_PART, SURROGATE
from dsoftmax.solvers.protocol import Query, Sizes
from dsoftmax.solvers.table import AUTO, L1_SOLVER, Choice, Entry, choose, solver_entry
from dsoftmax.system.process import free_bytes
from dsoftmax.system.units import size
from dsoftmax.training.settings import Settings, product_dtype


def collect_statistics(
    engine: Engine,
    source: Source,
    classes: NDArray | None,
    gram: str = "",
    draw: Draw | None = None,
    helds: tuple[Held, ...] = (),
    kernel: str = "numpy",
) -> tuple[Statistics, Cost]:
    """Make the first pass.

    Parameters
    ----------
    engine : Engine
    source : Source
    classes : (K,) ndarray, optional
    gram : {"", "exact", "estimate"}
        Whether to collect the Gram matrix, from all rows or from enough of them; not for CSR or very many features, and not
        where memory is tight: steps do without.
    draw : Draw, optional
        The sample to draw.
    helds : tuple of Held
        Disjoint parts that some model will not learn from.
    kernel : str

    Raises
    ------
    DataError
        What the data hold is not what training needs.
    """
    started = time.perf_counter()
    most, left = MAX_GRAM_FEATURES, room(engine.process_limit)
    if left is not None:
        most = min(most, int((left / HESSIAN_PART / HESSIAN_BYTES) ** 0.5))
    wanted = bool(gram) and not source.sparse and source.n_features < most
    part = (
        (1.0 if gram == "exact" else gram_part(source.n_features, n_rows(source)))
        if wanted
        else 0.0
    )
    encoder = None if classes is None else Encoder(given_classes(classes))
    totals = engine.total(Collect(part, encoder, draw, helds, kernel), source)
    sums = totals.result()
    statistics = finish(sums, classes)
    statistics.require_held(helds, sums.get("marks"))
    return statistics, Cost(
        time.perf_counter() - started, totals.n_rows, totals.n_bytes, totals.work
    )


def room(allowed: int | None) -> int | None:
    """Return what is left of the bytes that a process may take, beside what one takes that holds no data; None for no limit.

    What is chosen by it shapes the run, so that it follows from the limit alone, not from what this process takes at the moment.
    """
    return None if allowed is None else max(allowed - PROCESS_BYTES - MARGIN, 0)


def expected_footprint(source: Source, settings: Settings, allowed: int | None) -> Footprint:
    """Return what a pass takes beside the rows, before the classes are counted: see `Collect.footprint`."""
    kernel = choose_kernel(settings.kernel, None, allowed)
    if settings.classes is None:
        return Collect(kernel=kernel).footprint(source.n_features, source.sparse)
    encoder = Encoder(given_classes(settings.classes))
    query = Query(np.zeros((len(encoder.classes), source.n_features + 1)))
    question = Question(query, None, _first_dtype(source, settings))
    visit = Evaluate((question,), encoder, kernel)
    return visit.footprint(source.n_features, source.sparse)


def make_objective(
    source: Source,
    engine: Engine,
    settings: Settings,
    statistics: Statistics,
    double: bool,
    kernel: str,
    held: Held | None = None,
    number: int | None = None,
) -> Objective:
    """Return F for these settings, over the rows that are not held out.

    Parameters
    ----------
    source : Source
    engine : Engine
    settings : Settings
    statistics : Statistics
    double : bool
        Whether products are in float64.
    kernel : str
    held : Held, optional
        What is held out.
    number : int, optional
        Of the part in the statistics, where its rows are among theirs.
    """
    dtype = np.dtype(np.float64) if double else _first_dtype(source, settings)
    of_rows = statistics if held is None or number is None else statistics.without(number, held)
    weights = class_weight_vector(settings.class_weight, of_rows)
    C, l1_ratio = float(settings.C), float(settings.l1_ratio)
    return Objective(
        engine, source, of_rows, C, weights, settings.fit_intercept, dtype, kernel, held, l1_ratio
    )


def _first_dtype(source: Source, settings: Settings) -> np.dtype:
    return compute_dtype(source.dtype) if settings.dtype is None else product_dtype(settings.dtype)


def first_pass(
    source: Source, engine: Engine, settings: Settings, kernel: str, helds: tuple[Held, ...] = ()
) -> tuple[Statistics, Cost]:
    """Make the pass that collects what the solver of the settings will want to know."""
    auto = settings.solver == AUTO
    sample, gram = (
        (True, "estimate")
        if auto
        else (solver_entry(settings.solver).sample, solver_entry(settings.solver).gram)
    )
    draw = plan_draw(source, room(engine.process_limit)) if sample else None
    if sample and draw is None and not auto:
        raise MemoryLimitError(
            f"solver={settings.solver!r} works on a sample in memory, and the memory allowed has no room for one. Allow more, or "
            f"pass solver={AUTO!r}."
        )
    return collect_statistics(engine, source, settings.classes, gram, draw, helds, kernel)


def resolve(
    settings: Settings, statistics: Statistics, left: int | None, resident: bool, n_models: int = 1
) -> Choice:
    """Return the solver of a run, or of so many models, and why it is that one: see `dsoftmax.solvers.auto.choose`."""
    if settings.solver != AUTO:
        return Choice(settings.solver, "as asked")
    if settings.l1_ratio > 0:
        return Choice(L1_SOLVER, "the penalty has an L1 part")
    K, d = statistics.class_sums.shape
    sample, n = statistics.sample, int(statistics.class_rows.sum())
    needed = held_bytes(solver_entry(SURROGATE), statistics, n_models)
    return choose(
        n, d - 1, K, sample.n_rows, sample.whole, bool(statistics.gram.size), needed, left, resident
    )


def sizes_of(n_rows: int, n_classes: int, n_features: int, gram: bool, sample_bytes: int) -> Sizes:
    """Return the sizes of a problem, with the scratch bytes of the kernel that evaluates its sample."""
    scratch = scratch_bytes(n_features, n_classes, np.dtype(np.float64), False)
    return Sizes(n_rows, n_classes, n_features, gram, sample_bytes, scratch)


def held_bytes(entry: Entry, statistics: Statistics, n_models: int = 1) -> int:
    """Return the bytes that the solvers of `n_models` models and the statistics hold in this process."""
    K, d = statistics.class_sums.shape
    n, gram = int(statistics.class_rows.sum()), bool(statistics.gram.size)
    sizes = sizes_of(n, K, d - 1, gram, statistics.sample.n_bytes)
    return entry.held_bytes(sizes, n_models)


def require_room(choice: Choice, needed: int) -> None:
    """Raise if a solver would hold more than this machine has to give.

    Raises
    ------
    MemoryLimitError
    """
    free = free_bytes()
    if 0 < free < needed:
        raise MemoryLimitError(
            f"solver={choice.solver!r} would hold {size(needed)} between passes, and {size(free)} are free. Pass solver={AUTO!r}, "
            "which takes one that needs less, or fewer classes or features."
        )
