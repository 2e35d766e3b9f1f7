"""F on the sample of the first pass, in memory."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.first_pass.sample import Sample
from dsoftmax.kernels.choose import Kernel
from dsoftmax.objective.penalty import Penalty

Float = NDArray[np.float64]


class LocalObjective:
    """F on a sample in memory: see `dsoftmax.solvers.protocol.Local`.

    Products are in float64 and run on this thread. The rows are converted once, at their first use.

    Parameters
    ----------
    sample : Sample
        With weights that include those of the classes.
    penalty : Penalty
        Penalty of F over all rows; the weights of the sample add up to theirs.
    kernel : Kernel
    """

    def __init__(self, sample: Sample, penalty: Penalty, kernel: Kernel) -> None:
        self.sample = sample
        self._penalty = penalty
        self._kernel = kernel
        self._rows: Features | None = None

    @property
    def n_rows(self) -> int:
        return self.sample.n_rows

    @property
    def whole(self) -> bool:
        return self.sample.whole

    @property
    def _X(self) -> Features:
        if self._rows is None:
            self._rows = self.sample.X.astype(np.float64)
        return self._rows

    def value_and_gradient(self, theta: Float) -> tuple[float, Float]:
        """Return F and ∇F, estimated from the sample. Work and memory are those of the kernel."""
        J, gradient = self._kernel.value_and_gradient(
            theta, self._X, self.sample.codes, self.sample.weights, np.dtype(np.float64)
        )
        return self._penalty.value(J, theta), self._penalty.derivative(gradient, theta)

    def products(self, theta: Float) -> Callable[[Float], Float]:
        """Return a function that multiplies by ∇²F at a point, estimated from the sample."""
        of_sums = self._kernel.hessian_products(theta, self._X, self.sample.weights)
        return lambda direction: self._penalty.derivative(of_sums(direction), direction)

    def hessian(self, theta: Float) -> Float:
        """Return ∇²F, estimated from the sample."""
        pairs = self._kernel.hessian_pairs(theta, self._X, self.sample.weights)
        return self._penalty.hessian(pairs, *theta.shape)
