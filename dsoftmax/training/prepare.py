"""All that is decided before the first pass.

Settings, metadata of the source and the memory limit decide it. No chunk is read, and no engine is
asked. `dsoftmax inspect` shows the same value that `train` follows.
"""

from dataclasses import dataclass, replace

import numpy as np

from dsoftmax.data.soft import is_soft
from dsoftmax.data.source import Source, n_rows
from dsoftmax.data.validation import with_validation
from dsoftmax.engines.visit import Footprint
from dsoftmax.errors import MemoryLimitError, OptionError
from dsoftmax.first_pass.held_out import VALIDATION, HeldOut, folds
from dsoftmax.first_pass.labels import Encoder, given_classes
from dsoftmax.first_pass.sample import Draw, kept_rows, plan_draw
from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.first_pass.visit import MAX_GRAM_FEATURES, Collect, gram_part
from dsoftmax.kernels.choose import KernelChoice, choose_kernel
from dsoftmax.kernels.tiles import compute_dtype, product_dtype
from dsoftmax.objective.visit import Evaluate, Question
from dsoftmax.solvers.auto import HESSIAN_BYTES, HESSIAN_PART, MATRIX_FREE, SURROGATE
from dsoftmax.solvers.protocol import Query
from dsoftmax.solvers.table import AUTO, Choice, choose, solver_entry
from dsoftmax.training.budget import Drawn, memory_budget, problem_sizes
from dsoftmax.training.grid import Grid
from dsoftmax.training.separation import may_search, search_bytes, searched_entries
from dsoftmax.training.settings import Settings


@dataclass(frozen=True)
class Member:
    """One model of a grid.

    Attributes
    ----------
    settings : Settings
        Settings of this model, with its C.
    held_out : HeldOut, optional
        Rows that score the model, and that it does not learn from.
    part : int, optional
        Number of these rows among the parts of the statistics; None for a validation source,
        which the statistics do not count.
    """

    settings: Settings
    held_out: HeldOut | None = None
    part: int | None = None


@dataclass(frozen=True)
class Resumed:
    """What a run being resumed has decided already.

    Attributes
    ----------
    kernel : str or None
        Kernel of the run; None if the settings name it.
    solver : Choice or None
        Solver of the run, and the reason for it; None if the run is not loaded yet.
    """

    kernel: str | None = None
    solver: Choice | None = None


@dataclass(frozen=True)
class Prepared:
    """All that is decided before the first pass.

    Attributes
    ----------
    source : Source
        All rows of a pass, those of a validation source included.
    settings : Settings
    grid : Grid
        Models to train: `Grid.single` for one.
    members : tuple of Member
        The models, in the order of ``grid.models``.
    budget : int or None
        Bytes that each process may use for data and solvers; None without a limit.
    kernel : KernelChoice
    dtype : numpy dtype
        Dtype of the products at first; a solver may ask for float64.
    encoder : Encoder or None
        Encoder of the given classes; None if the first pass finds the classes.
    gram : float
        Part of the rows from which the first pass collects the Gram matrix, 0 … 1.
    draw : Draw or None
        Sample that the first pass draws.
    n_rows : int
        Rows to train on, those of folds included and those of a validation source not.
    choice : Choice or None
        Solver and reason; None if the choice must wait for the number of classes.
    """

    source: Source
    settings: Settings
    grid: Grid
    members: tuple[Member, ...]
    budget: int | None
    kernel: KernelChoice
    dtype: np.dtype
    encoder: Encoder | None
    gram: float
    draw: Draw | None
    n_rows: int
    choice: Choice | None = None

    @property
    def unpenalised(self) -> bool:
        """Whether a model has no penalty, so that its optimum may be infinite."""
        return any(not np.isfinite(one.settings.C) for one in self.members)

    @property
    def visit(self) -> Collect:
        """The visit of the first pass."""
        parts = [one.held_out for one in self.members if one.part is not None]
        held_out = tuple(dict.fromkeys(part for part in parts if part is not None))
        scaled = self.settings.scale is not None
        soft = is_soft(self.source.dtypes.y)
        return Collect(self.gram, self.encoder, self.draw, held_out, self.kernel.name, scaled, soft)

    @property
    def footprint(self) -> Footprint:
        """Memory of a pass beside the rows, without Gram matrix and sample.

        These two grow with the budget. A memory limit that is named as sufficient would not be
        sufficient if it counted them. The footprint is that of the first pass, or that of F and ∇F
        if the classes are given and it is larger.
        """
        p, sparse = self.source.n_features, self.source.sparse
        first = replace(self.visit, gram=0.0, draw=None).footprint(p, sparse)
        if self.encoder is None:
            return first
        later = self.later(len(self.encoder.classes))
        both = {name: max(value, getattr(later, name)) for name, value in vars(first).items()}
        return Footprint(**both)

    def later(self, n_classes: int) -> Footprint:
        """Return the memory of a pass of F and ∇F with this many classes, beside the rows."""
        query = Query(np.zeros((n_classes, self.source.n_features + 1)))
        encoder = self.encoder or Encoder(np.arange(n_classes))
        visit = Evaluate((Question(query, None, self.dtype),), encoder, self.kernel.name)
        return visit.footprint(self.source.n_features, self.source.sparse)

    def choose_solver(self, statistics: Statistics) -> Choice:
        """Return the solver of all models, once the first pass has counted the classes."""
        sample, n = statistics.sample, int(statistics.class_rows.sum())
        K, gram = len(statistics.classes), bool(statistics.gram.size)
        return self._choose(K, n, gram, Drawn.of(sample))

    def expect_solver(self, n_classes: int) -> Choice:
        """Return the solver that this number of classes would lead to."""
        sample = self._expected_sample(n_classes)
        return self._choose(n_classes, self.n_rows, self.gram > 0, sample)

    def expect_bytes(self, n_classes: int) -> int:
        """Return the bytes that the solver and its sample would take with this many classes."""
        sample, choice = self._expected_sample(n_classes), self.expect_solver(n_classes)
        p, gram = self.source.n_features, self.gram > 0
        sizes = problem_sizes(self.n_rows, n_classes, p, gram, sample)
        names = {choice.solver, choice.otherwise or choice.solver}
        n_bytes = max(solver_entry(name).n_bytes(sizes, len(self.members)) for name in names)
        looks = self.unpenalised and may_search(sizes, self.budget)
        return n_bytes + (search_bytes(sizes) if looks else 0)

    def _expected_sample(self, n_classes: int) -> Drawn:
        if self.draw is None:
            return Drawn()
        drawn = int(self.draw.share * self.n_rows)
        rows = kept_rows(drawn, drawn >= self.n_rows, self.source.n_features + 1, n_classes)
        kept = rows / max(drawn, 1)
        return Drawn(
            rows,
            rows >= self.n_rows,
            int(kept * self.draw.double_bytes),
            int(kept * self.draw.n_bytes),
        )

    def _choose(self, K: int, n: int, gram: bool, sample: Drawn) -> Choice:
        if self.choice is not None:
            return self.choice
        p = self.source.n_features
        sizes = problem_sizes(n, K, p, gram, sample)
        needed = {
            name: solver_entry(name).n_bytes(sizes, len(self.members))
            for name in (SURROGATE, MATRIX_FREE)
        }
        resident = self.source.resident
        l1 = self.settings.l1_ratio > 0
        return choose(p, K, sample.n_rows, sample.whole, needed, self.budget, resident, l1)


def prepare(
    source: Source,
    settings: Settings,
    grid: Grid | None = None,
    *,
    memory_limit: int | None = None,
    validation: Source | None = None,
    resumed: Resumed | None = None,
) -> Prepared:
    """Return all that is decided before the first pass.

    Parameters
    ----------
    source : Source
        Rows with labels.
    settings : Settings
    grid : Grid, optional
        Models to train together; one model when None.
    memory_limit : int, optional
        Memory limit of each process that computes, in bytes.
    validation : Source, optional
        Validation set.
    resumed : Resumed, optional
        Kernel and solver of the run being resumed; None for a new run.

    Raises
    ------
    OptionError
        An option is unknown, out of its range, or contradicts another one.
    DataError
        The columns of the validation set are not those of the source.
    MemoryLimitError
        Every solver that is allowed works on a sample, and the memory limit is too small for one.
    """
    if grid is not None:
        grid.check()
    settings.check()
    _check_held_out(settings, grid, validation)
    if is_soft(source.dtypes.y):
        _check_soft(settings, grid)
    everything = source if validation is None else with_validation(source, validation)
    members = _members(settings, grid, validation)
    budget, used = memory_budget(memory_limit), resumed or Resumed()
    n_values = _stored_values(everything) * len(members)
    classes = settings.classes
    draw = None if resumed is not None else _draw(everything, settings, budget, members)
    return Prepared(
        everything,
        settings,
        grid or Grid.single(settings.C),
        members,
        budget,
        choose_kernel(settings.kernel, used.kernel, memory_limit, n_values),
        first_dtype(everything, settings),
        None if classes is None else Encoder(given_classes(classes)),
        _gram_share(everything, settings, budget, draw),
        draw,
        n_rows(source),
        used.solver or _settled_solver(settings),
    )


def _check_held_out(settings: Settings, grid: Grid | None, validation: Source | None) -> None:
    """Raise if two options hold out rows."""
    fraction = settings.validation_fraction is not None
    if validation is not None and fraction:
        raise OptionError(
            "validation_fraction does nothing if a validation set is given. Leave one of them out."
        )
    if grid is not None and (fraction or validation is not None):
        which = "validation_fraction" if fraction else "a validation set"
        raise OptionError(f"{which} does nothing if folds are held out. Leave one of them out.")


def _check_soft(settings: Settings, grid: Grid | None) -> None:
    """Raise if an option has no meaning for soft labels."""
    if settings.class_weight is not None:
        raise OptionError(
            f"class_weight={settings.class_weight!r} and soft labels are given; expected only one "
            "of them, because a row has no single class. Multiply sample weights instead, or pass "
            "hard labels."
        )
    if grid is not None and callable(grid.scoring):
        raise OptionError(
            "scoring is a function of hard labels, and the labels are soft. Pass 'neg_log_loss', "
            "or 'accuracy', which takes the most probable class."
        )


def _members(
    settings: Settings, grid: Grid | None, validation: Source | None
) -> tuple[Member, ...]:
    if validation is not None:
        return (Member(settings, VALIDATION),)
    if grid is None:
        held_out = settings.held_out
        return (Member(settings, held_out, None if held_out is None else 0),)
    parts = folds(grid.n_folds, grid.given)
    return tuple(
        Member(replace(settings, C=C), None if fold is None else parts[fold], fold)
        for fold, C in grid.models
    )


def _stored_values(source: Source) -> int:
    """Return the number of stored values of X."""
    if not source.sparse:
        return n_rows(source) * source.n_features
    return int(source.chunk_bytes.sum()) // (source.dtype.itemsize + INDEX_BYTES)


INDEX_BYTES = 4
"""Bytes of a column number of CSR; row pointers are few beside them."""


def first_dtype(source: Source, settings: Settings) -> np.dtype:
    """Return the dtype of the products at first: as asked, or by the stored dtype."""
    return compute_dtype(source.dtype) if settings.dtype is None else product_dtype(settings.dtype)


def _gram_share(source: Source, settings: Settings, budget: int | None, draw: Draw | None) -> float:
    """Return the part of the rows from which to collect the Gram matrix.

    It is 0 for CSR, for many features and for a small budget. It is 1 if the sample is drawn by
    leverages in it.
    """
    wanted = "estimate" if settings.solver == AUTO else solver_entry(settings.solver).gram
    most = MAX_GRAM_FEATURES
    if budget is not None:
        most = min(most, int((budget / HESSIAN_PART / HESSIAN_BYTES) ** 0.5))
    if not wanted or source.sparse or source.n_features >= most:
        return 0.0
    if wanted == "exact" or (draw is not None and draw.by_gram(source.n_features)):
        return 1.0
    return gram_part(source.n_features, n_rows(source))


def _draw(
    source: Source, settings: Settings, budget: int | None, members: tuple[Member, ...]
) -> Draw | None:
    """Return the sample to draw; None if nothing needs one, or "auto" can do without.

    The solver may need it, and so does the search for a separation if there is no penalty.
    """
    auto = settings.solver == AUTO
    needed = not auto and solver_entry(settings.solver).sample
    unpenalised = any(not np.isfinite(one.settings.C) for one in members)
    if not (auto or needed or (unpenalised and searched_entries(source.n_features, 2))):
        return None
    draw = plan_draw(source, budget)
    if draw is None and needed:
        raise MemoryLimitError(
            f"solver={settings.solver!r} works on a sample, and the memory limit is too small for "
            f"one. Raise the memory limit, or pass solver={AUTO!r}."
        )
    if draw is None and settings.l1_ratio > 0:
        raise MemoryLimitError(
            f"l1_ratio={settings.l1_ratio} needs a solver that works on a sample, and the memory "
            "limit is too small for one. Raise the memory limit, or pass l1_ratio=0."
        )
    return draw


def _settled_solver(settings: Settings) -> Choice | None:
    """Return the solver if settings alone decide it."""
    return None if settings.solver == AUTO else Choice(settings.solver, "as asked")
