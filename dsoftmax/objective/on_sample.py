"""F on the sample of the first pass, in memory."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.features import Features
from dsoftmax.first_pass.sample import with_class_weights
from dsoftmax.kernels.choose import KERNELS, Kernel
from dsoftmax.solvers.protocol import Query

if TYPE_CHECKING:
    from dsoftmax.objective.objective import Objective

Float = NDArray[np.float64]


class LocalObjective:
    """F on the sample of the first pass, in memory: see `dsoftmax.solvers.protocol.Local`.

    Products are in float64 and run on this thread. The rows are converted once, when they are first asked for.
    """

    def __init__(self, objective: "Objective") -> None:
        self.objective = objective
        self.sample = with_class_weights(objective.statistics.sample, objective.class_weights)
        self._rows: Features | None = None

    @property
    def n_rows(self) -> int:
        return self.sample.n_rows

    @property
    def whole(self) -> bool:
        return self.sample.whole

    @property
    def _kernel(self) -> Kernel:
        return KERNELS[self.objective.kernel]

    @property
    def _X(self) -> Features:
        if self._rows is None:
            self._rows = self.sample.X.astype(np.float64)
        return self._rows

    def value_and_gradient(self, theta: Float) -> tuple[float, Float]:
        """Return F and ∇F, estimated from the sample; work and memory as the kernel's."""
        J, gradient = self._kernel.value_and_gradient(
            theta, self._X, self.sample.codes, self.sample.weights, np.dtype(np.float64)
        )
        answer = self.objective._finish(Query(theta), J, gradient)
        return answer.value, answer.gradient

    def products(self, theta: Float) -> Callable[[Float], Float]:
        """Return what multiplies by ∇²F at a point, estimated from the sample."""
        of_sums, objective = (
            self._kernel.hessian_products(theta, self._X, self.sample.weights),
            self.objective,
        )
        total = objective.total_weight
        return lambda direction: objective._penalised(of_sums(direction) / total, direction)

    def hessian(self, theta: Float) -> Float:
        """Return ∇²F, estimated from the sample."""
        sums = self._kernel.hessian_pairs(theta, self._X, self.sample.weights)
        answer = self.objective._finish(Query(theta), 0.0, np.zeros_like(theta), hessian=sums)
        assert answer.hessian is not None
        return answer.hessian
