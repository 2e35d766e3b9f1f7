"""Groups: a number for each value, the same wherever and however it is stored."""

import os
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from dsoftmax.data.groups import group_keys
from dsoftmax.errors import DataError

DIGESTS = {"cat": "3327dd2c7b9d982f", "béé": "4a25fa153b50caac", "": "e4a6a0577479b2b4"}
"""BLAKE2b digests of 64 bits, as ``printf cat | b2sum -l 64`` prints them."""


def test_strings_have_the_digest_of_their_utf8_in_every_dtype():
    words = ["cat", "béé", "béé", "", "cat"]
    expected = [int.from_bytes(bytes.fromhex(DIGESTS[word]), "little") for word in words]
    for values in (
        np.array(words),
        np.array(words, ">U7"),
        np.array(words, object),
        np.array(words, np.dtypes.StringDType()),
        np.array([word.encode() for word in words]),
        np.array([word.encode() for word in words], object),
        pd.Series(words, dtype="category"),
    ):
        assert group_keys(values).tolist() == expected
    program = (
        "import numpy as np; from dsoftmax.data.groups import group_keys; "
        "print(group_keys(np.array(['cat', 'béé'])).tolist())"
    )
    for seed in ("1", "2"):  # of Python's own hash
        fresh = subprocess.run(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        )
        assert fresh.stdout.strip() == str(expected[:2])


@pytest.mark.parametrize("dtype", ["i1", "u1", ">i2", "<u4", "i8", "u8", "f4", ">f8", object])
def test_whole_numbers_are_their_own_keys_in_every_dtype(dtype):
    keys = group_keys(np.array([0, 7, 100, 7], dtype))
    assert keys.dtype == np.uint64
    assert keys.tolist() == [0, 7, 100, 7]


def test_numbers_at_the_ends_of_their_range_stay_apart():
    lowest, highest = -(2**63), 2**63 - 1
    assert group_keys(np.array([lowest, -1, highest])).tolist() == [2**63, 2**64 - 1, highest]
    assert group_keys(np.array([-1.0])).tolist() == [2**64 - 1]
    assert group_keys(np.array([2**64 - 1], np.uint64)).tolist() == [2**64 - 1]
    assert group_keys(np.array([True, False])).tolist() == [1, 0]


@given(st.lists(st.one_of(st.text(max_size=3), st.sampled_from(["a", "b"])), max_size=30))
def test_rows_have_equal_numbers_if_and_only_if_their_groups_are_equal(words):
    words = [word.replace("\0", "").encode("utf-8", "ignore").decode() for word in words]
    keys = group_keys(np.array(words, np.str_))
    assert len(keys) == len(words)
    assert (keys[:, None] == keys).tolist() == [[one == two for two in words] for one in words]
    assert_array_equal(keys, group_keys(np.array(words, object)))


@pytest.mark.parametrize(
    "values",
    [
        np.array([1.0, 2.0, np.nan]),
        np.array(["a", "b", None], object),
        np.array(["a", "b", np.nan], object),
        np.array([1, 2, None], object),
        np.array(["a", "b", pd.NA], object),
        np.array([1, 2, pd.NaT], object),
        np.array(["a", "b", None], np.dtypes.StringDType(na_object=None)),
        np.array(["a", "b", np.nan], np.dtypes.StringDType(na_object=np.nan)),
        pd.Series([1, 2, None], dtype="Int64"),
    ],
    ids=lambda values: f"{values.dtype} {values[2]}",
)
def test_a_missing_group_is_named_with_its_row(values):
    with pytest.raises(
        DataError, match=r"store/g row 1,002: the group is .*\. store/g contains NaN or None"
    ):
        group_keys(np.asarray(values), "store/g", 1000)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([1.0, 2.5], "g row 8: the group is 2.5"),
        ([1.0, np.inf], "g row 8: the group is inf"),
        ([1.0, 1e19], r"g row 8: the group is 1e\+19"),
        ([1j], "g has dtype complex128"),
        (np.array(["2001-01-01"], "M8[D]"), r"g has dtype datetime64\[D\]"),
        (np.array([1, "a"], object), "g mixes int, str"),
        (np.array(["a", b"a", 2], object), "g mixes bytes, int, str"),
        (np.array([(1, 2), (3, 4), 3], object)[:2], "g holds tuple"),
        (np.array([2**70], object), "g holds int"),
    ],
)
def test_values_that_cannot_be_groups_are_refused(values, message):
    with pytest.raises(
        DataError,
        match=message + r"[^;]*; expected integers, whole floats, booleans or strings of one kind",
    ):
        group_keys(np.asarray(values), "g", 7)
