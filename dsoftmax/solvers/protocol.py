"""What a solver may ask, and what one pass over the data says."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Query:
    """A question that one pass answers.

    Attributes
    ----------
    theta : (K, p+1) float64
        Where to look.
    direction : (K, p+1) float64, optional
        Ask for the product of the Hessian at ``theta`` with it.
    hessian : bool
        Ask for the Hessian at ``theta``.
    single : bool
        The Hessian's products may be in float32, where that holds the stored values: it shapes steps.
    moments : bool
        Ask for the moments of the probabilities at ``theta``.
    curvatures : (K, K) int64, optional
        Ask for the curvature at ``theta`` in groups, from 0 on: of class k at [k, k], of a pair at [k, l].
    trials : (m, K, p+1) float64, optional
        Other points whose value and gradient the same pass finds: they share the rows.
    """

    theta: Float
    direction: Float | None = None
    hessian: bool = False
    single: bool = False
    moments: bool = False
    curvatures: NDArray[np.int64] | None = None
    trials: Float | None = None

    @property
    def n_groups(self) -> int:
        """Of pairs and classes whose curvature is asked for."""
        return 0 if self.curvatures is None else int(self.curvatures.max()) + 1


@dataclass(frozen=True)
class Answer:
    """What a pass found, in the scale of the objective F.

    Attributes
    ----------
    value : float
        F at the point.
    gradient : (K, p+1) float64
        ∇F; zero where a parameter is not free.
    value_error : float
        Differences of F below this are rounding.
    product : (K, p+1) float64, optional
        ∇²F · direction, where it was asked for.
    hessian : (K·(p+1), K·(p+1)) float64, optional
        ∇²F, where it was asked for.
    moments : (K, K) float64, optional
        A = Σ sᵢ(diag pᵢ − pᵢpᵢᵀ)/S, estimated from a part of the rows, where it was asked for: ∇²F ≈ A ⊗ G + penalty.
    group_moments : (groups, K, K) float64, optional
        A_g of each group: parts of Σ sᵢ(diag pᵢ − pᵢpᵢᵀ)/S.
    group_grams : (groups, (p+1)·(p+2)/2) float32, optional
        G_g of each, upper triangles row by row, so that ∇²F ≈ Σ A_g ⊗ G_g + penalty.
    trials : tuple of Answer
        For each point of the query's ``trials``, in their order.
    held : (3,) float64, optional
        Of rows that are held out: the sum of their losses, the weight of those classified rightly, and their weight.
    """

    value: float
    gradient: Float
    value_error: float = 0.0
    product: Float | None = None
    hessian: Float | None = None
    moments: Float | None = None
    group_moments: Float | None = None
    group_grams: NDArray[np.float32] | None = None
    trials: "tuple[Answer, ...]" = ()
    held: Float | None = None


@dataclass(frozen=True)
class Sizes:
    """The sizes of a problem, which the bytes that its solver holds follow from.

    Attributes
    ----------
    n_rows, n_classes, n_features : int
    gram : bool
        Whether the Gram matrix is known, and not only its diagonal.
    sample_bytes : int
        Bytes of the sample in float64; 0 if there is none.
    scratch_bytes : int
        Bytes that one thread allocates while it evaluates F on the sample.
    """

    n_rows: int
    n_classes: int
    n_features: int
    gram: bool = False
    sample_bytes: int = 0
    scratch_bytes: int = 0


@runtime_checkable
class Local(Protocol):
    """F on a sample of the rows, in memory: what a solver may look at as often as it likes.

    Attributes
    ----------
    n_rows : int
        Rows of the sample.
    whole : bool
        Whether these are all rows, so that this is F itself.
    """

    @property
    def n_rows(self) -> int: ...
    @property
    def whole(self) -> bool: ...

    def value_and_gradient(self, theta: Float) -> tuple[float, Float]:
        """Return F and ∇F at (K, p+1) float64, estimated from the sample, the penalty included."""

    def products(self, theta: Float) -> Callable[[Float], Float]:
        """Return what multiplies (K, p+1) float64 by ∇²F at a point."""

    def hessian(self, theta: Float) -> Float:
        """Return ∇²F, (K·(p+1), K·(p+1))."""


@dataclass(frozen=True)
class Problem:
    """What a solver may know before its first question.

    Attributes
    ----------
    curvature_bound : callable
        Returns L ≥ λmax(∇²F).
    penalty : (K, p+1) float64
        λ of every entry of θ: F holds λ/2·θ²; 0 where an entry is free of penalty.
    free : (K, p+1) bool
        Entries that move; the others stay as they are.
    gram : (p+1, p+1) or (p+1,) float64
        G = Σ sᵢx̃ᵢx̃ᵢᵀ/S with x̃ = [x, 1], or its diagonal.
    moments : (K, K) float64
        A at the start: diag π − ππᵀ of the class shares π.
    n_rows : int
    local : Local, optional
    l1 : float
        λ₁ of ‖W‖₁, which answers leave out and the solver adds.
    """

    curvature_bound: Callable[[], float]
    penalty: Float
    free: NDArray[np.bool_]
    gram: Float
    moments: Float
    n_rows: int = 0
    local: Local | None = None
    l1: float = 0.0


class State(Protocol):
    """All of a run that evolves: frozen, complete, saved after any pass.

    Attributes
    ----------
    theta : (K, p+1) float64
        The best point so far, which the run would return now.
    value : float
        F there; nan before the first answer.
    gradient : (K, p+1) float64
        ∇F there.
    n_iter : int
        Accepted steps.
    stuck : str
        A sentence when the solver cannot go on, else empty.
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


class Solver(Protocol):
    """Frozen hyper-parameters and three pure functions of the solver's own kind of `State`."""

    def start(self, theta: Float, answer: Answer | None, n_iter: int = 0) -> Any:
        """Return the first state at ``theta``; with its answer where that is known without a pass."""

    def ask(self, state: Any) -> tuple[Any, Query]:
        """Return the state that waits for the answer, and what the next pass should answer."""

    def tell(self, state: Any, answer: Answer) -> Any:
        """Return the state after the answer, from the one that waited for it."""
