"""Public contracts: what a storage, an engine or a solver must do, for our own tests and for those who add one.

Each check raises `AssertionError` with what was found and what was needed.
"""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.runs.checkpoint import from_arrays, to_arrays
from dsoftmax.solvers.protocol import Answer, Problem, Query, Solver
from dsoftmax.testing.require import _require

Float = NDArray[np.float64]

MAX_PASSES = 400
"""A solver that needs more on the functions of `check_solver` is broken."""


# --- solvers -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Convex:
    """A convex function of θ (K, d) with known minimum and 0.1·I ⪯ ∇²F ⪯ I.

    F = Σ aᵢuᵢ²/2 for ``quadratic``, else Σ 0.9·log cosh uᵢ + 0.1·uᵢ²/2, with u = Q(θ − θ*), Q orthogonal.
    ``noise`` is what the value is rounded to.
    """

    best: Float
    turn: Float
    quadratic: bool
    noise: float = 0.0

    def answer(self, query: Query) -> Answer:
        """Answer what is asked, as a pass would."""
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

    It reaches the minimum of convex functions, also where F is rounded coarsely; a start whose answer is known costs no
    pass; ``ask`` and ``tell`` are pure; the state tells the truth about its point, is frozen, and survives a checkpoint
    after any pass bit for bit; a start that is not finite ends as stuck.

    Parameters
    ----------
    solver : Solver
        With hyper-parameters that suit 0.1·I ⪯ ∇²F ⪯ I, such as a step of 1.
    max_passes : int
        For each function.

    Returns
    -------
    int
        Passes, over all functions.

    Raises
    ------
    AssertionError
        Naming the rule that is broken.
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
    _require(
        broken.stuck, "F is nan at the start, and the state is not stuck: the run would never end"
    )
    return n_passes


@dataclass(frozen=True)
class LocalConvex:
    """A convex function as the sample in memory that a solver looks at: see `dsoftmax.solvers.protocol.Local`."""

    function: Convex

    whole = False

    @property
    def n_rows(self) -> int:
        return 100

    def value_and_gradient(self, theta: Float) -> tuple[float, Float]:
        """Return F and ∇F."""
        answer = self.function.answer(Query(theta))
        return answer.value, answer.gradient

    def products(self, theta: Float) -> Callable[[Float], Float]:
        """Return what multiplies by ∇²F."""
        H = self.hessian(theta)
        return lambda V: (H @ V.ravel()).reshape(V.shape)

    def hessian(self, theta: Float) -> Float:
        """Return ∇²F."""
        H = self.function.answer(Query(theta, hessian=True)).hessian
        assert H is not None
        return H


def convex_problem(shape: tuple[int, int] = (3, 4), seed: int = 7) -> Problem:
    """Return what a solver may know of the functions of `check_solver`: L = 1, and a sample that is another such function."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(shape[0] * shape[1],) * 2))[0]
    local = LocalConvex(Convex(rng.normal(size=shape), turn, quadratic=False))
    nothing, free = np.zeros(shape), np.ones(shape, bool)
    return Problem(lambda: 1.0, nothing, free, np.eye(shape[1]), np.eye(shape[0]), local=local)


def best_start(rng: np.random.Generator, shape: tuple[int, ...]) -> Float:
    """Return a start some way from any minimum."""
    return 5 * rng.normal(size=shape)


def _check_start(solver: Solver, function: Convex, theta: Float) -> None:
    answer = function.answer(Query(theta))
    unknown = solver.start(theta, None, 7)
    _require(np.isnan(unknown.value), "start without an answer must have the value nan")
    _require(
        np.array_equal(solver.ask(unknown)[1].theta, theta),
        "start without an answer must ask at the start",
    )
    told, known = solver.tell(solver.ask(unknown)[0], answer), solver.start(theta, answer, 7)
    for state, how in ((told, "told"), (known, "given")):
        _require(
            state.value == answer.value and state.n_iter == 7,
            f"the answer {how} at the start is not in the state",
        )
    query = solver.ask(known)[1]
    new = not np.array_equal(query.theta, theta) or query.direction is not None or query.hessian
    _require(new, "start with its answer must not ask for it again: that costs a pass")
    _require(
        _bits(known) == _bits(told),
        "an answer given to start and one told after it lead to different states",
    )


def _check_run(solver: Solver, function: Convex, theta: Float, tol: float, max_passes: int) -> int:
    first = function.answer(Query(theta))
    state = solver.start(theta, first)
    states = [state]
    while np.abs(state.gradient).max() > tol and len(states) <= max_passes:
        _require(
            not state.stuck,
            f"stuck after {len(states)} passes at max|∇F| = {np.abs(state.gradient).max():.1e}: {state.stuck}",
        )
        before = _bits(state)
        waiting, query = solver.ask(state)
        _require(
            _bits((waiting, query)) == _bits(solver.ask(state)),
            "ask gives another state or query the second time",
        )
        answer = function.answer(query)
        heard = _bits(answer)
        following = solver.tell(waiting, answer)
        _require(
            _bits(following) == _bits(solver.tell(waiting, answer)),
            "tell gives another state the second time",
        )
        _require(_bits(state) == before, "ask or tell changed the state they were given")
        _require(_bits(answer) == heard, "tell changed the answer it was given")
        _check_state(function, state, following)
        state = following
        states.append(state)
    size = float(np.abs(state.gradient).max())
    _require(
        size <= tol,
        f"max|∇F| is {size:.1e} after {max_passes} passes; needed is {tol:.1e}: {function}",
    )
    _require(
        np.allclose(state.theta, function.best, atol=20 * tol, rtol=0), "the end is not the minimum"
    )
    _require(state.value <= first.value, f"F went up, from {first.value} to {state.value}")
    _check_checkpoints(solver, function, states)
    return len(states) - 1


def _check_state(function: Convex, before: Any, state: Any) -> None:
    _require(dataclasses.is_dataclass(state), f"the state {type(state).__name__} is no dataclass")
    frozen = type(state).__dataclass_params__.frozen
    _require(frozen, f"the state {type(state).__name__} is not frozen")
    true = function.answer(Query(state.theta))
    right = state.value == true.value and np.array_equal(state.gradient, true.gradient)
    _require(right, "value and gradient of the state are not those at its theta")
    _require(
        state.n_iter - before.n_iter in (0, 1),
        f"n_iter went from {before.n_iter} to {state.n_iter} in one pass",
    )


def _check_checkpoints(solver: Solver, function: Convex, states: list[Any]) -> None:
    """Put each state through a checkpoint and go on from some of them."""
    for number, state in enumerate(states):
        stored = {name: np.array(values) for name, values in to_arrays(state).items()}
        restored = from_arrays(type(state), stored)
        _require(
            _bits(restored) == _bits(state),
            f"the state after pass {number} does not survive a checkpoint",
        )
        _require(
            _bits(solver.ask(restored)) == _bits(solver.ask(state)),
            f"after pass {number} the restored state asks otherwise",
        )
        if number + 1 < len(states):
            waiting, query = solver.ask(restored)
            following = solver.tell(waiting, function.answer(query))
            _require(
                _bits(following) == _bits(states[number + 1]),
                f"going on from pass {number} leads elsewhere",
            )


def _bits(value: Any) -> Any:
    """Return what is equal only for equal types, shapes, dtypes and bits."""
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
