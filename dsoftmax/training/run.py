"""The state of one model's run: all that evolves between passes, and that a checkpoint saves."""

from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.first_pass.statistics import Statistics
from dsoftmax.objective.coordinates import Coordinates

Float = NDArray[np.float64]


@dataclass(frozen=True)
class Run:
    """The state of one model's run after a pass.

    The names of the fields are keys of ``checkpoint.npz``.

    Attributes
    ----------
    statistics : Statistics
        Statistics of all rows.
    state : State
        State of the solver.
    n_passes : int
        Passes so far; the first one, for statistics, counts.
    double : bool
        Whether products are in float64: from the beginning, or since float32 stopped to make
        progress.
    kernel : str
        Kernel of value and gradient: a name in `dsoftmax.kernels.choose.KERNELS`.
    solver : str
        A name in `dsoftmax.solvers.table.SOLVERS`: the choice of "auto", or the solver asked for.
    why : str
        Reason for the solver, a clause.
    gap : float
        Estimate of F − F*.
    held : (3,) float64
        Loss, weight of the hits, and weight of the held-out rows; nan without held-out rows.
    best : (K, p+1) float64
        θ with the least loss on the held-out rows; of shape (0, 0) without held-out rows.
    best_loss : float
        Mean loss at that point.
    since : int
        Iterations since then.
    shift : (p,) float64
        Means of the features. The state has points and gradients in the coordinates of
        `dsoftmax.objective.coordinates`; of shape (0,) if these are θ itself.
    scale : (p,) float64
        Standard deviations by which the features are divided in these coordinates; of shape (0,)
        if they are not.
    looks : bool
        Whether a direction that separates classes will be searched for on the sample before the
        run ends.
    separator : (K, p+1) float64
        Direction that was found, in the coordinates of the state; of shape (0, 0) if there is none.
    margins : (K, K+1) float64
        Largest margins of all rows along it, see `dsoftmax.objective.margins`; of shape (0, 0)
        while no pass has found them.
    """

    statistics: Statistics
    state: Any
    n_passes: int
    double: bool
    kernel: str
    solver: str
    why: str = ""
    gap: float = np.nan
    held: Float = field(default_factory=lambda: np.full(3, np.nan))
    best: Float = field(default_factory=lambda: np.zeros((0, 0)))
    best_loss: float = np.inf
    since: int = 0
    shift: Float = field(default_factory=lambda: np.zeros(0))
    scale: Float = field(default_factory=lambda: np.zeros(0))
    looks: bool = False
    separator: Float = field(default_factory=lambda: np.zeros((0, 0)))
    margins: Float = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def suspect(self) -> bool:
        """Whether a direction was found whose margins no pass has found."""
        return bool(len(self.separator) and not len(self.margins))

    @property
    def coordinates(self) -> Coordinates:
        """Coordinates of the state."""
        return Coordinates(self.shift, self.scale)

    @property
    def theta(self) -> Float:
        """θ at the accepted point, (K, p+1) float64."""
        return self.coordinates.raw(self.state.theta)

    @property
    def gradient(self) -> Float:
        """∇F by θ at the accepted point, (K, p+1) float64."""
        return self.coordinates.raw_gradient(self.state.gradient)

    @cached_property
    def gradient_max(self) -> float:
        """max|∇F| at the accepted point, of features with mean zero if intercepts are free."""
        return float(np.abs(self.state.gradient).max())

    @property
    def held_loss(self) -> float:
        """Mean loss on the held-out rows; nan without held-out rows."""
        return float(self.held[0] / self.held[2]) if self.held[2] > 0 else np.nan
