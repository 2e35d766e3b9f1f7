"""Every storage finds the same missing rows, and loads them alike by every way."""

import numpy as np
import pytest
import scipy.sparse
from stored import KINDS

from dsoftmax.data.block import Block
from dsoftmax.data.missing import Missing, given_missing, in_dtype, missing_rows, skipped_line
from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table
from dsoftmax.engines.serial import SerialEngine
from dsoftmax.engines.visit import Visit
from dsoftmax.first_pass.held_out import places
from dsoftmax.first_pass.sample import Draw
from dsoftmax.testing.sources import check_source


class ColumnSums(Visit):
    """The sums of the features."""

    def __call__(self, block):
        return {"sums": np.asarray(block.X.astype(float).sum(axis=0)).ravel()}


def dense(X):
    return np.asarray(X.toarray() if scipy.sparse.issparse(X) else X)


@pytest.mark.parametrize("kind", KINDS)
def test_every_storage_skips_the_rows_with_named_values(kind, tmp_path):
    stored = KINDS[kind](tmp_path)
    X, y = dense(stored.X), np.asarray(stored.y)
    nodata, label = [value.item() for value in X[[5, 77], [1, 2]] if value], y.tolist()[8]
    if not nodata:
        nodata = [X[X != 0][0].item()]
    dark, blank = np.isin(X, nodata).any(axis=1), np.array([one == label for one in y.tolist()])
    source = open_source(Table(*stored.args, missing=given_missing(nodata, label)))
    check_source(source, stored.X, stored.y, stored.weights)
    totals = SerialEngine().total(ColumnSums(), source)
    both = int((dark & blank).sum())
    assert totals.skipped.tolist() == [dark.sum(), blank.sum() - both, 0, 0]
    counted = X[~(dark | blank)].astype(float)
    assert totals.n_rows == len(counted)
    np.testing.assert_allclose(totals.result()["sums"], counted.sum(axis=0), rtol=1e-9)


@pytest.mark.parametrize(
    ("value", "dtype", "expected"),
    [
        (255, "u1", 255),
        (255.0, "u1", 255),
        (-1, "u1", None),
        (256, "u1", None),
        (0.5, "i4", None),
        (np.nan, "i4", None),
        (2**63, "u8", 2**63),
        (1e20, "f4", np.float32(1e20)),
        (-3.4028234663852886e38, "f4", np.finfo("f4").min),
        (1e300, "f4", None),
        (np.inf, "f4", np.inf),
        (1, "?", True),
        (2, "?", None),
        ("a", "U3", "a"),
        ("a", "S3", b"a"),
        (b"a", "U3", "a"),
        (7, "U3", None),
        ("a", "i4", None),
    ],
)
def test_a_value_in_the_dtype_of_its_array(value, dtype, expected):
    assert in_dtype(value, np.dtype(dtype)) == expected


def test_missing_rows_of_an_array_that_is_larger_than_a_step():
    X = np.zeros((200_000, 3), np.float32)
    X[[7, 100_000, 199_999], [0, 1, 2]] = np.nan
    found = missing_rows(X, (np.nan,))
    assert np.flatnonzero(found).tolist() == [7, 100_000, 199_999]
    assert missing_rows(X, (5,)) is None


def test_alike_values_are_kept_once():
    found = Missing().adding("X", (np.nan, 0.0, float("nan"))).adding("X", (np.float32("nan"), 1))
    assert len(found.X) == 3


def test_the_line_lists_the_reasons_that_occur():
    assert skipped_line((12_000, 345, 0, 0), 1_000_000) == (
        "12,345 of 1,000,000 rows skipped: 12,000 nodata, 345 unlabelled"
    )
    assert skipped_line((0, 0, 0, 0), 10) == ""


def test_the_rows_that_count_keep_their_numbers():
    rng = np.random.default_rng(3)
    X = rng.normal(size=(50, 2))
    y, reasons = np.arange(50), rng.integers(0, 3, 50).astype(np.uint8)
    whole = Block(X, y, first_row=1000, reasons=reasons)
    some, skipped = whole.counted()
    rows = np.flatnonzero(reasons == 0)
    assert skipped.tolist() == [(reasons == 1).sum(), (reasons == 2).sum(), 0, 0]
    assert some.row_numbers.tolist() == (1000 + rows).tolist()
    assert some.y.tolist() == rows.tolist()
    np.testing.assert_array_equal(places(some), places(whole)[rows])
    part = some.between(3, 9)
    assert part.row_numbers.tolist() == (1000 + rows[3:9]).tolist()
    assert part.origin + 2 == 1000 + rows[5]
    assert some.counted() == (some, None)


def test_the_sample_draws_the_same_rows_whatever_was_skipped_before():
    rng = np.random.default_rng(4)
    X, y = rng.normal(size=(400, 2)), rng.integers(0, 2, 400)
    reasons = (np.arange(400) % 3 == 0).astype(np.uint8)
    some, _ = Block(X, y, first_row=70, reasons=reasons).counted()
    drawn = Draw(1.0, 0).rows(some, some.y, np.ones(some.n_rows), np.zeros((0, 0)), places(some))
    assert drawn.numbers.tolist() == (70 + np.flatnonzero(reasons == 0)).tolist()
