"""The contract of an engine."""

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dsoftmax.data.block import Block
from dsoftmax.data.memory import MemoryRows
from dsoftmax.data.rows import Rows, RowSource
from dsoftmax.data.table import Table
from dsoftmax.engines.base import Engine
from dsoftmax.engines.visit import Visit
from dsoftmax.errors import DataError
from dsoftmax.sums.totals import Grouped, Largest, Totals
from dsoftmax.testing.require import require


@dataclass(frozen=True)
class Probe(Visit):
    """A visit that returns sums of every kind, and fails on the leaf that contains ``bad_row``."""

    bad_row: int = -1

    def __call__(self, block: Block) -> Mapping[str, Any]:
        if self.bad_row in block.row_numbers:
            raise DataError(f"{block.names.X} row {self.bad_row} is bad")
        labels = set() if block.y is None else set(block.y.tolist())
        return {
            "sums": np.array([math.fsum(column) for column in block.X.T]),
            "rows": block.n_rows,
            "high": Largest(block.X.max(axis=0, initial=-np.inf)),
            "by": Grouped({k: {"rows": np.int64(np.sum(block.y == k))} for k in labels}),
        }


def check_engine(engine: Engine) -> None:
    """Check that an engine keeps the contract of `dsoftmax.engines.base.Engine`.

    1. Every row is visited once, or counted if it is skipped, also if some chunks have no rows.
    2. The totals are those of a loop, bit for bit, in every pass.
    3. The error of a visit is raised as it is, and the engine works after it.

    Parameters
    ----------
    engine : Engine
        Stays open.

    Raises
    ------
    AssertionError
        The message names the rule that is broken.
    """
    require(
        isinstance(engine, Engine),
        f"{type(engine).__name__} lacks a method or attribute of dsoftmax.engines.base.Engine",
    )
    require(engine.n_threads >= 1, f"n_threads is {engine.n_threads}")
    line = engine.describe()
    require(
        isinstance(line, str) and line and "\n" not in line,
        f"describe() is {line!r}; expected one line",
    )
    for rows, skips in itertools.product(([40] * 13, [7, 0, 300, 1, 12], [5]), (False, True)):
        source = _probe_source(np.array(rows, np.int64), skips)
        expected = Totals()
        for chunk in range(len(rows)):
            for whole in source.load(chunk).leaves():
                leaf, skipped = whole.counted()
                if skipped is not None:
                    expected.skip(skipped)
                if leaf.n_rows or skipped is None:
                    expected.add(Probe()(leaf), leaf.n_rows, leaf.nbytes)
        for _ in range(2):
            _require_totals(engine.total(Probe(), source), expected, rows)
        try:
            engine.total(Probe(bad_row=sum(rows) - 1), source)
        except DataError as error:
            require(
                f"row {sum(rows) - 1} is bad" in str(error),
                f"the visit's error came back as {error!r}",
            )
        else:
            raise AssertionError("the visit raised an error, and the engine did not")
        _require_totals(engine.total(Probe(), source), expected, rows)


def _probe_source(chunk_rows: NDArray[np.int64], skips: bool) -> RowSource:
    rng, n = np.random.default_rng(5), int(chunk_rows.sum())
    X = rng.normal(size=(n, 3)) * 10.0 ** rng.integers(-12, 12, (n, 3))
    reasons = rng.integers(0, 4, n).astype(np.uint8)
    reasons[: chunk_rows[0]], reasons[-1] = 1, 0  # nothing of the first chunk is visited
    table: Table[Rows] = Table(
        MemoryRows(X),
        MemoryRows(rng.integers(0, 4, n)),
        skipped=MemoryRows(reasons) if skips else None,
    )
    return RowSource(table, chunk_rows, chunk_rows * X.itemsize * 3)


def _require_totals(found: Totals, expected: Totals, rows: list[int]) -> None:
    at = f"chunks of {rows} rows: "
    for name, one, two in (
        ("n_rows", found.n_rows, expected.n_rows),
        ("n_bytes", found.n_bytes, expected.n_bytes),
        ("skipped", np.sum(found.skipped), np.sum(expected.skipped)),
    ):
        require(one == two, f"{at}{name} is {one}; expected {two}")
    _require_sums(found.result(), expected.result(), at)


def _require_sums(one: Mapping[str, Any], two: Mapping[str, Any], at: str) -> None:
    require(set(one) == set(two), f"{at}the sums are {sorted(one)}; expected {sorted(two)}")
    require(
        one["sums"].tobytes() == two["sums"].tobytes(),
        f"{at}float sums differ: {one['sums']} and {two['sums']}",
    )
    for name in ("rows", "high"):
        require(
            np.array_equal(one[name], two[name]),
            f"{at}{name} is {one[name]}; expected {two[name]}",
        )
    require(one["by"] == two["by"], f"{at}grouped sums are {one['by']}; expected {two['by']}")
