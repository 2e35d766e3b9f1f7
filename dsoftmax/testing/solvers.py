"""The public contract of a solver, for our own tests and for those who add a solver.

The check raises `AssertionError`, which names the rule that is broken.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.runs.checkpoint import from_arrays, to_arrays
from dsoftmax.solvers.protocol import Answer, Problem, Query, Solver
from dsoftmax.testing.require import require

Float = NDArray[np.float64]

MAX_PASSES = 400
"""Limit on the passes for each function of `check_solver`: a solver that needs more is broken."""


@dataclass(frozen=True)
class Convex:
    """A convex function of θ (K, d) with a known minimum and 0.1·I ⪯ ∇²F ⪯ I.

    F = Σ aᵢuᵢ²/2 if ``quadratic``, else Σ 0.9·log cosh uᵢ + 0.1·uᵢ²/2, with u = Q(θ − θ*).

    Attributes
    ----------
    best : (K, d) float64
        θ*.
    turn : (K·d, K·d) float64
        Q, orthogonal.
    quadratic : bool
    noise : float
        Unit to which the value is rounded; 0 for none.
    """

    best: Float
    turn: Float
    quadratic: bool
    noise: float = 0.0

    def answer(self, query: Query) -> Answer:
        """Return the answer of a pass."""
        u = self.turn @ (query.theta - self.best).ravel()
        if self.quadratic:
            curvature = np.linspace(0.1, 1.0, len(u))
            value, slope = 0.5 * float(curvature @ u**2), curvature * u
        else:
            size = np.abs(u)
            value = float(
                np.sum(0.9 * (size + np.log1p(np.exp(-2 * size)) - np.log(2)) + 0.05 * u**2)
            )
            slope, curvature = (
                0.9 * np.tanh(u) + 0.1 * u,
                0.9 / np.cosh(np.minimum(size, 300)) ** 2 + 0.1,
            )
        if self.noise:
            value = round(value / self.noise) * self.noise
        H = self.turn.T @ (curvature[:, None] * self.turn)
        shape = query.theta.shape
        product = None if query.direction is None else (H @ query.direction.ravel()).reshape(shape)
        gradient = (self.turn.T @ slope).reshape(shape)
        trials = (
            ()
            if query.trials is None
            else tuple(self.answer(Query(theta)) for theta in query.trials)
        )
        moments = np.eye(shape[0]) if query.moments else None
        return Answer(
            value,
            gradient,
            self.noise,
            product,
            H if query.hessian else None,
            moments,
            trials=trials,
        )


def check_solver(solver: Solver, max_passes: int = MAX_PASSES) -> int:
    """Check that a solver keeps the contract of `dsoftmax.solvers.protocol.Solver`.

    The rules are:

    * The solver reaches the minimum of convex functions, even if F is rounded coarsely.
    * A start whose answer is known costs no pass.
    * ``ask`` and ``tell`` are pure.
    * The state is frozen, and its value and gradient are those at its θ.
    * The state survives a checkpoint after any pass, bit for bit.
    * A start at which F is not finite ends as stuck.

    Parameters
    ----------
    solver : Solver
        Its hyper-parameters must suit 0.1·I ⪯ ∇²F ⪯ I, for example a step of 1.
    max_passes : int
        Limit on the passes for each function.

    Returns
    -------
    int
        Number of passes over all functions.

    Raises
    ------
    AssertionError
        A rule is broken.
    """
    rng = np.random.default_rng(11)
    shape = (3, 4)
    best, far = rng.normal(size=shape), best_start(rng, shape)
    turn = np.linalg.qr(rng.normal(size=(12, 12)))[0]
    n_passes = 0
    for quadratic, noise, tol in (
        (True, 0.0, 1e-9),
        (False, 0.0, 1e-9),
        (True, 1e-6, 1e-9),
        (False, 1e-6, 1e-9),
    ):
        function = Convex(best, turn, quadratic, noise)
        n_passes += _check_run(solver, function, far, tol, max_passes)
    _check_start(solver, Convex(best, turn, True), far)
    broken = solver.tell(
        solver.ask(solver.start(far, None))[0], Answer(np.nan, np.full(shape, np.nan))
    )
    require(
        broken.stuck,
        "F is nan at the start and the state is not stuck; expected a sentence in its `stuck`",
    )
    return n_passes


@dataclass(frozen=True)
class LocalConvex:
    """A convex function in the place of the sample, as a `dsoftmax.solvers.protocol.Local`."""

    function: Convex

    whole = False

    @property
    def n_rows(self) -> int:
        return 100

    def value_and_gradient(self, theta: Float) -> tuple[float, Float]:
        """Return F and ∇F."""
        answer = self.function.answer(Query(theta))
        return answer.value, answer.gradient

    def on_threads(self, theta: Float, single: bool) -> tuple[float, Float]:
        """Return F and ∇F."""
        return self.value_and_gradient(theta)

    def products(self, theta: Float) -> Callable[[Float], Float]:
        """Return the product V ↦ ∇²F·V."""
        H = self.hessian(theta)
        return lambda V: (H @ V.ravel()).reshape(V.shape)

    def hessian(self, theta: Float) -> Float:
        """Return ∇²F."""
        H = self.function.answer(Query(theta, hessian=True)).hessian
        assert H is not None
        return H

    def moments(self, theta: Float) -> Float:
        """Return A with A ⊗ I about ∇²F."""
        K, d = theta.shape
        return np.einsum("kalb,ab->kl", self.hessian(theta).reshape(K, d, K, d), np.eye(d)) / d

    def class_blocks(self, theta: Float, most_rows: int, number: int) -> Float:
        """Return the blocks of ∇²F that belong to one row of θ each."""
        K, d = theta.shape
        return np.einsum("kakb->kab", self.hessian(theta).reshape(K, d, K, d)).copy()

    def reach(self, direction: Float) -> float:
        """Return the root mean square of the entries of a direction."""
        return float(np.sqrt(np.mean(np.square(direction))))


def convex_problem(shape: tuple[int, int] = (3, 4), seed: int = 7) -> Problem:
    """Return a problem that fits the functions of `check_solver`.

    L is 1, and the sample is another function of the same kind.
    """
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(shape[0] * shape[1],) * 2))[0]
    local = LocalConvex(Convex(rng.normal(size=shape), turn, quadratic=False))
    nothing, free = np.zeros(shape), np.ones(shape, bool)
    return Problem(lambda: 1.0, nothing, free, np.eye(shape[1]), np.eye(shape[0]), local=local)


def best_start(rng: np.random.Generator, shape: tuple[int, ...]) -> Float:
    """Return a start far from any minimum."""
    return 5 * rng.normal(size=shape)


def _check_start(solver: Solver, function: Convex, theta: Float) -> None:
    answer = function.answer(Query(theta))
    unknown = solver.start(theta, None, 7)
    require(np.isnan(unknown.value), "start without an answer has a value; expected nan")
    require(
        np.array_equal(solver.ask(unknown)[1].theta, theta),
        "start without an answer asks elsewhere; expected a query at the start",
    )
    told, known = solver.tell(solver.ask(unknown)[0], answer), solver.start(theta, answer, 7)
    for state, how in ((told, "told"), (known, "given")):
        require(
            state.value == answer.value and state.n_iter == 7,
            f"the answer {how} at the start is not in the state; expected its value and n_iter",
        )
    query = solver.ask(known)[1]
    new = not np.array_equal(query.theta, theta) or query.direction is not None or query.hessian
    require(
        new, "start with its answer asks for it again, which costs a pass; expected another query"
    )
    require(
        _bits(known) == _bits(told),
        "an answer given to start and one told after it lead to different states",
    )


def _check_run(solver: Solver, function: Convex, theta: Float, tol: float, max_passes: int) -> int:
    first = function.answer(Query(theta))
    state = solver.start(theta, first)
    states = [state]
    while np.abs(state.gradient).max() > tol and len(states) <= max_passes:
        require(
            not state.stuck,
            f"stuck after {len(states)} passes at max|∇F| = {np.abs(state.gradient).max():.1e}: "
            f"{state.stuck}",
        )
        before = _bits(state)
        waiting, query = solver.ask(state)
        require(
            _bits((waiting, query)) == _bits(solver.ask(state)),
            "ask is not pure: its second call returned another state or query",
        )
        answer = function.answer(query)
        heard = _bits(answer)
        following = solver.tell(waiting, answer)
        require(
            _bits(following) == _bits(solver.tell(waiting, answer)),
            "tell is not pure: its second call returned another state",
        )
        require(_bits(state) == before, "ask or tell changed its argument, the state")
        require(_bits(answer) == heard, "tell changed its argument, the answer")
        _check_state(function, state, following)
        state = following
        states.append(state)
    size = float(np.abs(state.gradient).max())
    require(
        size <= tol,
        f"max|∇F| is {size:.1e} after {max_passes} passes; expected {tol:.1e}: {function}",
    )
    require(
        np.allclose(state.theta, function.best, atol=20 * tol, rtol=0),
        "the last θ is not the minimum",
    )
    require(state.value <= first.value, f"F went up, from {first.value} to {state.value}")
    _check_checkpoints(solver, function, states)
    return len(states) - 1


def _check_state(function: Convex, before: Any, state: Any) -> None:
    require(dataclasses.is_dataclass(state), f"the state {type(state).__name__} is not a dataclass")
    frozen = type(state).__dataclass_params__.frozen
    require(frozen, f"the state {type(state).__name__} is not frozen")
    estimates = isinstance(state.decrement, float)
    require(estimates, "decrement is not a float; inherit `NoDecrement` if there is no estimate")
    true = function.answer(Query(state.theta))
    right = state.value == true.value and np.array_equal(state.gradient, true.gradient)
    require(right, "the value and gradient of the state are not those at its theta")
    require(
        state.n_iter - before.n_iter in (0, 1),
        f"n_iter went from {before.n_iter} to {state.n_iter} in one pass",
    )


def _check_checkpoints(solver: Solver, function: Convex, states: list[Any]) -> None:
    """Put each state through a checkpoint, and continue from it for one pass."""
    for number, state in enumerate(states):
        stored = {name: np.array(values) for name, values in to_arrays(state).items()}
        restored = from_arrays(type(state), stored)
        require(
            _bits(restored) == _bits(state),
            f"the state after pass {number} does not survive a checkpoint",
        )
        require(
            _bits(solver.ask(restored)) == _bits(solver.ask(state)),
            f"the state restored after pass {number} asks another query",
        )
        if number + 1 < len(states):
            waiting, query = solver.ask(restored)
            following = solver.tell(waiting, function.answer(query))
            require(
                _bits(following) == _bits(states[number + 1]),
                f"the state restored after pass {number} leads to another state",
            )


def _bits(value: Any) -> Any:
    """Return a value that is equal only for equal types, shapes, dtypes and bits."""
    if dataclasses.is_dataclass(value):
        return tuple(
            (one.name, _bits(getattr(value, one.name))) for one in dataclasses.fields(value)
        )
    if isinstance(value, float):
        return np.float64(value).tobytes()
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes())
    if isinstance(value, tuple):
        return tuple(_bits(part) for part in value)
    if isinstance(value, Mapping):
        return tuple((name, _bits(part)) for name, part in value.items())
    return (type(value).__name__, value)
