"""Public contracts: what a storage, an engine or a solver must do, for our own tests and for those who add one.

Each check raises `AssertionError` with what was found and what was needed.
"""

import dataclasses
import json
import math
import pickle
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
from numpy.typing import NDArray

from dsoftmax.blocks import Block, Columns, Encoded, Names, Share, Source, fetcher, first_rows
from dsoftmax.checkpoint import from_arrays, to_arrays
from dsoftmax.engine import Engine
from dsoftmax.engine.sums import Grouped, Largest, Totals
from dsoftmax.errors import DataError
from dsoftmax.groups import group_keys
from dsoftmax.oracle import Answer, Problem, Query, Solver
from dsoftmax.sources.memory import MemoryRows
from dsoftmax.sources.rows import RowSource

Float = NDArray[np.float64]

MAX_PASSES = 400
"""A solver that needs more on the functions of `check_solver` is broken."""


def _require(condition: Any, found: str) -> None:
    if not condition:
        raise AssertionError(found)


# --- sources -----------------------------------------------------------------------------------------------------------


def check_source(source: Source, X: Any = None, y: Any = None, weights: Any = None, groups: Any = None) -> None:
    """Check that a source keeps the contract of `dsoftmax.blocks.Source`.

    The metadata are true of the blocks; the blocks hold the rows in their order; loading twice, in any order, into a buffer
    or not, and from a share that was pickled, gives equal blocks; a block that was loaded without a buffer is nobody else's
    memory; ``describe`` is JSON and stable.

    Parameters
    ----------
    source : Source
        Small: every chunk is loaded several times.
    X : (n, p) ndarray or SciPy sparse, optional
        What the blocks must hold together.
    y, weights : (n,) ndarray, optional
        Likewise.
    groups : (n,) ndarray, optional
        As stored: rows of equal groups must have equal numbers, and those that `dsoftmax.groups` gives them.

    Raises
    ------
    AssertionError
        Naming the rule that is broken.
    """
    _require(isinstance(source, Source), f"{type(source).__name__} lacks a method or attribute of dsoftmax.blocks.Source")
    _check_metadata(source)
    chunks = range(len(source.chunk_rows))
    blocks = [source.load(chunk) for chunk in chunks]
    for chunk, (block, start) in enumerate(zip(blocks, first_rows(source.chunk_rows), strict=True)):
        _check_block(source, chunk, block, int(start))
    for chunk in reversed(chunks):
        _require_equal(blocks[chunk], source.load(chunk), f"chunk {chunk}, loaded twice")
    _check_buffers("source", source, source, blocks)
    if not any(source.needs(chunk) for chunk in chunks):
        _check_shares(source, blocks)
    _require(isinstance(source.smaller_chunks(7), str), "smaller_chunks() must return a line of text")
    described = source.describe()
    _require(json.loads(json.dumps(described)) == described, f"describe() is not of JSON types: {described}")
    _require(source.describe() == described, "describe() gives something else the second time")
    _check_rows("X", X, [_dense(block.X) for block in blocks])
    _check_rows("y", y, [block.y for block in blocks])
    _check_rows("weights", weights, [block.weights for block in blocks])
    _check_rows("groups", None if groups is None else group_keys(groups), [block.groups for block in blocks])


def _check_metadata(source: Source) -> None:
    for name in ("chunk_rows", "chunk_bytes"):
        sizes = getattr(source, name)
        _require(
            isinstance(sizes, np.ndarray) and sizes.dtype == np.int64 and sizes.ndim == 1,
            f"{name} is {sizes!r}; needed is an int64 array with one entry a chunk",
        )
        _require((sizes >= 0).all(), f"{name} holds negative sizes: {sizes}")
    _require(len(source.chunk_rows) == len(source.chunk_bytes), "chunk_rows and chunk_bytes differ in length")
    _require(isinstance(source.n_features, int) and source.n_features > 0, f"n_features is {source.n_features!r}")
    _require(isinstance(source.dtype, np.dtype), f"dtype is {source.dtype!r}; needed is a NumPy dtype")
    _require(isinstance(source.names, Names), f"names is {source.names!r}; needed is dsoftmax.blocks.Names")
    _require(isinstance(source.columns, Columns), f"columns is {source.columns!r}; needed is dsoftmax.blocks.Columns")
    for chunk in range(len(source.chunk_rows)):
        _require(isinstance(source.needs(chunk), tuple), f"needs({chunk}) is not a tuple")


def _check_block(source: Source, chunk: int, block: Block, start: int) -> None:
    at, rows = f"chunk {chunk}: ", int(source.chunk_rows[chunk])
    _require(block.X.shape == (rows, source.n_features), f"{at}X is {block.X.shape}, said were {(rows, source.n_features)}")
    _require(
        scipy.sparse.issparse(block.X) == source.sparse, f"{at}sparse was said to be {source.sparse}, X is {type(block.X)}"
    )
    _require(not source.sparse or block.X.format == "csr", f"{at}a sparse block must be CSR")
    same = block.X.dtype.newbyteorder("=") == source.dtype.newbyteorder("=")
    _require(same, f"{at}X has dtype {block.X.dtype}, said was {source.dtype}")
    _require(block.first_row == start, f"{at}first_row is {block.first_row}, needed is {start}")
    _require(block.names == source.names, f"{at}the block's names are not the source's")
    _require(block.y is None or np.shape(block.y) == (rows,), f"{at}y is not ({rows},)")
    if block.weights is not None:
        right = block.weights.shape == (rows,) and block.weights.dtype == np.float64
        _require(right, f"{at}weights are not ({rows},) float64")
    if block.groups is not None:
        right = block.groups.shape == (rows,) and block.groups.dtype == np.uint64
        _require(right, f"{at}groups are not ({rows},) uint64")
    own = [part for part in (block.y, block.weights, block.groups) if part is not None and part.base is None]
    size, said = sum(part.nbytes for part in own), rows * source.columns.row
    _require(size <= said, f"{at}labels, weights and groups take {size} bytes, said were {said}")
    if not source.sparse:
        _require(block.nbytes == source.chunk_bytes[chunk], f"{at}{block.nbytes} bytes, said were {source.chunk_bytes[chunk]}")


def _check_buffers(name: str, source: Source, share: Share, blocks: list[Block]) -> None:
    """Load every chunk into one buffer, which is full of something else before and after."""
    buffer = np.full(int(source.chunk_bytes.max()), 0xA5, np.uint8)
    for chunk, block in enumerate(blocks):
        alone, found = share.load(chunk), share.load(chunk, buffer)
        _require_equal(block, found, f"{name}: chunk {chunk}, loaded into a buffer")
        same = source.sparse or alone.X.flags.c_contiguous == found.X.flags.c_contiguous
        _require(same, f"{name}: chunk {chunk} has another memory order in a buffer, so that sums may round otherwise")
        _check_fetched(block, fetcher(share)(chunk, buffer), f"{name}: chunk {chunk}, fetched")
        buffer[:] = 0xA5
        _require_equal(block, alone, f"{name}: chunk {chunk}, loaded without the buffer, after it was used again")
        _require_equal(block, share.load(chunk), f"{name}: chunk {chunk}, loaded without the buffer")


def _check_fetched(block: Block, fetched: Block, what: str) -> None:
    """Visit the leaves of a block that may have come encoded, and pieces of a few rows."""
    _require((fetched.X.shape, fetched.nbytes) == (block.X.shape, block.nbytes), f"{what}: X has another shape or size")
    for leaf, found in zip(block.leaves(), fetched.leaves(), strict=True):
        _require_equal(leaf, found, what)
    if isinstance(fetched.X, Encoded):
        for rows in (1, 7):
            pieces = [piece.copy() for piece in fetched.X.pieces(rows)]
            _require(_same(np.concatenate(pieces), block.X), f"{what}: in pieces of {rows} rows, X differs")


def _check_shares(source: Source, blocks: list[Block]) -> None:
    n = len(blocks)
    for chunks in (list(range(n)), list(range(n))[::2], [n - 1]):
        share = pickle.loads(pickle.dumps(source.share(chunks)))
        _require(isinstance(share, Share), "share() must have the method load")
        for chunk in reversed(chunks):
            _require_equal(blocks[chunk], share.load(chunk), f"chunk {chunk} from the pickled share of {chunks}")
        if len(chunks) == n:
            _check_buffers("share", source, share, blocks)


def _require_equal(one: Block, two: Block, what: str) -> None:
    pairs = [(name, getattr(one, name), getattr(two, name)) for name in ("y", "weights", "groups")]
    for name, left, right in (("X", _dense(one.X), _dense(two.X)), *pairs):
        same = left is right if left is None or right is None else _same(left, right)
        _require(same, f"{what}: {name} differs")
    _require(one.first_row == two.first_row and one.names == two.names, f"{what}: first_row or names differ")


def _check_rows(name: str, expected: Any, parts: list[Any]) -> None:
    if expected is None:
        return
    _require(all(part is not None for part in parts), f"{name} is missing from the blocks")
    found = np.concatenate([np.asarray(part) for part in parts])
    _require(_same(found, _dense(expected)), f"the {name} of the blocks, one after the other, is not the original")


def _dense(values: Any) -> NDArray:
    return np.asarray(values.toarray() if scipy.sparse.issparse(values) else values)


def _same(one: Any, two: Any) -> bool:
    one, two = np.asarray(one), np.asarray(two)
    numbers = one.dtype.kind in "fc" and two.dtype.kind in "fc"
    return one.shape == two.shape and bool(np.array_equal(one, two, equal_nan=numbers))


# --- engines -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Probe:
    """A visit with a part of every kind; fails on the leaf that holds row ``bad_row``."""

    bad_row: int = -1

    def __call__(self, block: Block) -> Mapping[str, Any]:
        if block.first_row <= self.bad_row < block.first_row + block.n_rows:
            raise DataError(f"{block.names.X} row {self.bad_row} is bad")
        labels = set() if block.y is None else set(block.y.tolist())
        return {
            "sums": np.array([math.fsum(column) for column in block.X.T]),
            "rows": block.n_rows,
            "high": Largest(block.X.max(axis=0, initial=-np.inf)),
            "by": Grouped({k: {"rows": np.int64(np.sum(block.y == k))} for k in labels}),
        }


def check_engine(engine: Engine) -> None:
    """Check that an engine keeps the contract of `dsoftmax.engine.Engine`.

    Every row is visited once, also in chunks of no rows; the totals are those of a loop, bit for bit, again and again; the
    error of a visit comes back as it was raised, and the engine goes on to work after it.

    Parameters
    ----------
    engine : Engine
        Left open.

    Raises
    ------
    AssertionError
        Naming the rule that is broken.
    """
    _require(isinstance(engine, Engine), f"{type(engine).__name__} lacks a method or attribute of dsoftmax.engine.Engine")
    _require(engine.n_threads >= 1, f"n_threads is {engine.n_threads}")
    line = engine.describe()
    _require(isinstance(line, str) and line and "\n" not in line, f"describe() is {line!r}; needed is one line")
    for rows in ([40] * 13, [7, 0, 300, 1, 12], [5]):
        source = _probe_source(np.array(rows, np.int64))
        expected = Totals()
        for chunk in range(len(rows)):
            for leaf in source.load(chunk).leaves():
                expected.add(Probe()(leaf), leaf.n_rows, leaf.nbytes)
        for _ in range(2):
            _require_totals(engine.total(Probe(), source), expected, rows)
        try:
            engine.total(Probe(bad_row=sum(rows) - 1), source)
        except DataError as error:
            _require(f"row {sum(rows) - 1} is bad" in str(error), f"the visit's error came back as {error!r}")
        else:
            raise AssertionError("the visit raised an error, and the engine did not")
        _require_totals(engine.total(Probe(), source), expected, rows)


def _probe_source(chunk_rows: NDArray[np.int64]) -> RowSource:
    rng, n = np.random.default_rng(5), int(chunk_rows.sum())
    X = rng.normal(size=(n, 3)) * 10.0 ** rng.integers(-12, 12, (n, 3))
    return RowSource(MemoryRows(X), MemoryRows(rng.integers(0, 4, n)), None, chunk_rows, chunk_rows * X.itemsize * 3)


def _require_totals(found: Totals, expected: Totals, rows: list[int]) -> None:
    at = f"chunks of {rows} rows: "
    for name in ("n_rows", "n_bytes"):
        one, two = getattr(found, name), getattr(expected, name)
        _require(one == two, f"{at}{name} is {one}, needed is {two}")
    one, two = found.result(), expected.result()
    _require(set(one) == set(two), f"{at}found the sums {sorted(one)}, needed are {sorted(two)}")
    _require(one["sums"].tobytes() == two["sums"].tobytes(), f"{at}float sums differ: {one['sums']} and {two['sums']}")
    for name in ("rows", "high"):
        _require(np.array_equal(one[name], two[name]), f"{at}{name} is {one[name]}, needed is {two[name]}")
    _require(one["by"] == two["by"], f"{at}grouped sums are {one['by']}, needed are {two['by']}")


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
            value = float(np.sum(0.9 * (size + np.log1p(np.exp(-2 * size)) - np.log(2)) + 0.05 * u**2))
            slope, curvature = 0.9 * np.tanh(u) + 0.1 * u, 0.9 / np.cosh(np.minimum(size, 300)) ** 2 + 0.1
        if self.noise:
            value = round(value / self.noise) * self.noise
        H = self.turn.T @ (curvature[:, None] * self.turn)
        shape = query.theta.shape
        product = None if query.direction is None else (H @ query.direction.ravel()).reshape(shape)
        gradient = (self.turn.T @ slope).reshape(shape)
        trials = () if query.trials is None else tuple(self.answer(Query(theta)) for theta in query.trials)
        moments = np.eye(shape[0]) if query.moments else None
        return Answer(value, gradient, self.noise, product, H if query.hessian else None, moments, trials=trials)


def check_solver(solver: Solver, max_passes: int = MAX_PASSES) -> int:
    """Check that a solver keeps the contract of `dsoftmax.oracle.Solver`.

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
    for quadratic, noise, tol in ((True, 0.0, 1e-9), (False, 0.0, 1e-9), (True, 1e-6, 1e-9), (False, 1e-6, 1e-9)):
        function = Convex(best, turn, quadratic, noise)
        n_passes += _check_run(solver, function, far, tol, max_passes)
    _check_start(solver, Convex(best, turn, True), far)
    broken = solver.tell(solver.ask(solver.start(far, None))[0], Answer(np.nan, np.full(shape, np.nan)))
    _require(broken.stuck, "F is nan at the start, and the state is not stuck: the run would never end")
    return n_passes


@dataclass(frozen=True)
class LocalConvex:
    """A convex function as the sample in memory that a solver looks at: see `dsoftmax.oracle.Local`."""

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
    _require(np.array_equal(solver.ask(unknown)[1].theta, theta), "start without an answer must ask at the start")
    told, known = solver.tell(solver.ask(unknown)[0], answer), solver.start(theta, answer, 7)
    for state, how in ((told, "told"), (known, "given")):
        _require(state.value == answer.value and state.n_iter == 7, f"the answer {how} at the start is not in the state")
    query = solver.ask(known)[1]
    new = not np.array_equal(query.theta, theta) or query.direction is not None or query.hessian
    _require(new, "start with its answer must not ask for it again: that costs a pass")
    _require(_bits(known) == _bits(told), "an answer given to start and one told after it lead to different states")


def _check_run(solver: Solver, function: Convex, theta: Float, tol: float, max_passes: int) -> int:
    first = function.answer(Query(theta))
    state = solver.start(theta, first)
    states = [state]
    while np.abs(state.gradient).max() > tol and len(states) <= max_passes:
        _require(
            not state.stuck, f"stuck after {len(states)} passes at max|∇F| = {np.abs(state.gradient).max():.1e}: {state.stuck}"
        )
        before = _bits(state)
        waiting, query = solver.ask(state)
        _require(_bits((waiting, query)) == _bits(solver.ask(state)), "ask gives another state or query the second time")
        answer = function.answer(query)
        heard = _bits(answer)
        following = solver.tell(waiting, answer)
        _require(_bits(following) == _bits(solver.tell(waiting, answer)), "tell gives another state the second time")
        _require(_bits(state) == before, "ask or tell changed the state they were given")
        _require(_bits(answer) == heard, "tell changed the answer it was given")
        _check_state(function, state, following)
        state = following
        states.append(state)
    size = float(np.abs(state.gradient).max())
    _require(size <= tol, f"max|∇F| is {size:.1e} after {max_passes} passes; needed is {tol:.1e}: {function}")
    _require(np.allclose(state.theta, function.best, atol=20 * tol, rtol=0), "the end is not the minimum")
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
    _require(state.n_iter - before.n_iter in (0, 1), f"n_iter went from {before.n_iter} to {state.n_iter} in one pass")


def _check_checkpoints(solver: Solver, function: Convex, states: list[Any]) -> None:
    """Put each state through a checkpoint and go on from some of them."""
    for number, state in enumerate(states):
        stored = {name: np.array(values) for name, values in to_arrays(state).items()}
        restored = from_arrays(type(state), stored)
        _require(_bits(restored) == _bits(state), f"the state after pass {number} does not survive a checkpoint")
        _require(
            _bits(solver.ask(restored)) == _bits(solver.ask(state)), f"after pass {number} the restored state asks otherwise"
        )
        if number + 1 < len(states):
            waiting, query = solver.ask(restored)
            following = solver.tell(waiting, function.answer(query))
            _require(_bits(following) == _bits(states[number + 1]), f"going on from pass {number} leads elsewhere")


def _bits(value: Any) -> Any:
    """Return what is equal only for equal types, shapes, dtypes and bits."""
    if dataclasses.is_dataclass(value):
        return tuple((one.name, _bits(getattr(value, one.name))) for one in dataclasses.fields(value))
    if isinstance(value, float):
        return np.float64(value).tobytes()
    if isinstance(value, np.ndarray):
        return (value.shape, value.dtype.str, value.tobytes())
    if isinstance(value, tuple):
        return tuple(_bits(part) for part in value)
    if isinstance(value, Mapping):
        return tuple((name, _bits(part)) for name, part in value.items())
    return (type(value).__name__, value)
