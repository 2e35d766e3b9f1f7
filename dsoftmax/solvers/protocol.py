"""The words between solvers and data: query, answer, problem, state and solver."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


SAMPLE_SLICES = 4
"""Slices of a large sample that threads sum side by side.

The number is fixed, so that the sums do not depend on the cores.
"""
WHOLE_MOMENTS = 300
"""Most classes for which the moments A are a whole (K, K) matrix.

Beyond, their diagonal (K,) stands for them: a matrix would cost more than the pass that it serves.
"""


@dataclass(frozen=True)
class Query:
    """A question that one pass answers.

    Attributes
    ----------
    theta : (K, p+1) float64
        Point at which F and ∇F are asked for.
    direction : (K, p+1) float64, optional
        Factor of a product of the Hessian at ``theta``, which is asked for too.
    hessian : bool
        Whether the Hessian at ``theta`` is asked for.
    single : bool
        Whether the products of the Hessian may be in float32, if that holds the stored values.
        The Hessian shapes steps only.
    moments : bool
        Whether the moments of the probabilities at ``theta`` are asked for.
    trials : (m, K, p+1) float64, optional
        Further points at which F and ∇F are asked for. They share the rows of the same pass.
    separator : (K, p+1) float64, optional
        Direction whose largest margins are asked for.
    """

    theta: Float
    direction: Float | None = None
    hessian: bool = False
    single: bool = False
    moments: bool = False
    trials: Float | None = None
    separator: Float | None = None


@dataclass(frozen=True)
class Answer:
    """The findings of a pass, in the scale of the objective F.

    Attributes
    ----------
    value : float
        F at the point.
    gradient : (K, p+1) float64
        ∇F; zero for a parameter that is not free.
    value_error : float
        Rounding of F: smaller differences mean nothing.
    product : (K, p+1) float64, optional
        ∇²F · direction, if the query has a direction.
    hessian : (K·(p+1), K·(p+1)) float64, optional
        ∇²F, if the query asks for it.
    moments : (K, K) float64, optional
        A = Σ sᵢ(diag pᵢ − pᵢpᵢᵀ)/S, estimated from a part of the rows: ∇²F ≈ A ⊗ G + penalty. Its
        diagonal, (K,), with more than `WHOLE_MOMENTS` classes.
    trials : tuple of Answer
        Answers at the points of the query's ``trials``, in their order.
    held : (3,) float64, optional
        Sums over the rows that are held out: their losses, the weight of the rightly classified
        rows, and the weight of all.
    margins : (K, K+1) float64, optional
        Largest margins along the query's ``separator``: see `dsoftmax.objective.margins`.
    """

    value: float
    gradient: Float
    value_error: float = 0.0
    product: Float | None = None
    hessian: Float | None = None
    moments: Float | None = None
    trials: "tuple[Answer, ...]" = ()
    held: Float | None = None
    margins: Float | None = None


@dataclass(frozen=True)
class Sizes:
    """The sizes of a problem, which determine how many bytes its solver allocates.

    Attributes
    ----------
    n_rows, n_classes, n_features : int
    gram : bool
        Whether the whole Gram matrix is known; otherwise its diagonal is.
    sample_bytes : int
        Bytes of the sample in float64; 0 if there is none.
    scratch_bytes : int
        Bytes that one thread allocates while it evaluates F on the sample.
    sample_rows : int
        Rows of the sample.
    stored_bytes : int
        Bytes of the sample as it is stored.
    """

    n_rows: int
    n_classes: int
    n_features: int
    gram: bool = False
    sample_bytes: int = 0
    scratch_bytes: int = 0
    sample_rows: int = 0
    stored_bytes: int = 0

    @property
    def vector(self) -> int:
        """Bytes of an array with the shape of θ, float64."""
        return 8 * self.n_classes * (self.n_features + 1)

    @property
    def matrix(self) -> int:
        """Bytes of an array with the shape of the Hessian, float64."""
        return self.vector**2 // 8

    @property
    def gram_matrix(self) -> int:
        """Bytes of the Gram matrix, or of its diagonal, float64."""
        d = self.n_features + 1
        return 8 * (d * d if self.gram else d)

    @property
    def moments(self) -> int:
        """Bytes of the moments of the probabilities, float64."""
        K = self.n_classes
        return 8 * (K * K if K <= WHOLE_MOMENTS else K)


@dataclass(frozen=True)
class Allocation:
    """The most bytes that a solver allocates in the process that steps.

    Attributes
    ----------
    per_model : int
        Bytes of each model from pass to pass: solver, state, query and answer.
    shared : int
        Further bytes while one state follows from another. They count once, because models take
        turns.
    """

    per_model: int
    shared: int = 0


@runtime_checkable
class Local(Protocol):
    """F on a sample of the rows, in memory, which a solver may evaluate between passes.

    Attributes
    ----------
    n_rows : int
        Rows of the sample.
    whole : bool
        Whether the sample has all rows, so that this is F itself.
    """

    @property
    def n_rows(self) -> int: ...
    @property
    def whole(self) -> bool: ...

    def value_and_gradient(self, theta: Float) -> tuple[float, Float]:
        """Return F and ∇F at (K, p+1) float64, estimated from the sample, the penalty included."""

    def on_threads(self, theta: Float, single: bool) -> tuple[float, Float]:
        """Return F and ∇F on all cores, in float32 if ``single`` and the values allow it."""

    def products(self, theta: Float) -> Callable[[Float], Float]:
        """Return the product V ↦ ∇²F(θ)·V for (K, p+1) float64."""

    def hessian(self, theta: Float) -> Float:
        """Return ∇²F, (K·(p+1), K·(p+1))."""

    def moments(self, theta: Float) -> Float:
        """Return the moments A, as in an `Answer`."""

    def class_blocks(self, theta: Float, most_rows: int, number: int) -> Float:
        """Return the blocks of ∇²F, without the penalty, that belong to one class each.

        (K, p+1, p+1), from about ``most_rows`` rows of dense data; ``number`` makes the draw of
        the rows another one.
        """

    def reach(self, direction: Float) -> float:
        """Return the root mean square of the logits of a (K, p+1) direction."""


@dataclass(frozen=True)
class Problem:
    """What a solver may know before its first query.

    Attributes
    ----------
    curvature_bound : callable
        Returns L ≥ λmax(∇²F).
    penalty : (K, p+1) float64
        λ of every entry of θ, for the term λ/2·θ² of F; 0 for an entry without a penalty.
    free : (K, p+1) bool
        Entries that move; the others keep their values.
    gram : (p+1, p+1) or (p+1,) float64
        G = Σ sᵢx̃ᵢx̃ᵢᵀ/S with x̃ = [x, 1], or its diagonal.
    moments : (K, K) float64
        A at the start: diag π − ππᵀ of the class shares π. Its diagonal, (K,), with more than
        `WHOLE_MOMENTS` classes.
    n_rows : int
    local : Local, optional
        F on the sample, if the first pass drew one.
    l1 : float
        λ₁ of the term λ₁‖W‖₁. Answers leave this term out, and the solver adds it.
    exact_hessians : bool
        Whether Hessians of all rows are exact. Rounding spoils them where the means of features
        are more than about 300,000 spreads.
    """

    curvature_bound: Callable[[], float]
    penalty: Float
    free: NDArray[np.bool_]
    gram: Float
    moments: Float
    n_rows: int = 0
    local: Local | None = None
    l1: float = 0.0
    exact_hessians: bool = True


class State(Protocol):
    """All of a run that evolves: frozen, complete, saved after any pass.

    Attributes
    ----------
    theta : (K, p+1) float64
        The best point so far: the result if the run ended now.
    value : float
        F there; nan before the first answer.
    gradient : (K, p+1) float64
        ∇F there.
    n_iter : int
        Number of accepted steps.
    stuck : str
        Sentence that says why the solver cannot continue; empty while it can.
    decrement : float
        The solver's own estimate of F − F*; nan if it makes none (`NoDecrement`).
    """

    @property
    def theta(self) -> Float: ...
    @property
    def value(self) -> float: ...
    @property
    def gradient(self) -> Float: ...
    @property
    def n_iter(self) -> int: ...
    @property
    def stuck(self) -> str: ...
    @property
    def decrement(self) -> float: ...


class NoDecrement:
    """Base of the states that make no estimate of F − F*: the default of `State.decrement`."""

    @property
    def decrement(self) -> float:
        """The value nan."""
        return np.nan


class Solver(Protocol):
    """Frozen hyper-parameters, and three pure functions of the solver's own kind of `State`."""

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> Any:
        """Return the first state at ``theta``, with its answer if that is known without a pass."""

    def ask(self, state: Any) -> tuple[Any, Query]:
        """Return the state that waits for the answer, and the query of the next pass."""

    def tell(self, state: Any, answer: Answer) -> Any:
        """Return the state after the answer, from the state that waited for it."""
