"""A table carries X, its columns, their names and the reading options."""

import pytest

from dsoftmax.data.table import Names, Table
from dsoftmax.errors import OptionError

NAMES = Names("store/X", "store/y", "store/w", "store/g")


def test_absent_columns_are_left_out_and_present_ones_keep_their_order():
    table = Table("x", groups="g", y="y", names=NAMES)
    assert list(table.items()) == [("X", "x"), ("y", "y"), ("groups", "g")]
    assert list(table.columns()) == [("y", "y"), ("groups", "g")]
    assert list(table.named()) == [("store/X", "x"), ("store/y", "y"), ("store/g", "g")]
    assert list(Table("x").columns()) == []


def test_a_column_that_is_false_is_present():
    assert list(Table(0, 0, 0.0, "").items()) == [
        ("X", 0),
        ("y", 0),
        ("weights", 0.0),
        ("groups", ""),
    ]


def test_map_applies_a_function_to_all_that_is_present_with_its_name():
    table = Table("x", weights="w", names=NAMES, missing_chunks="fill")
    found = table.map(lambda value, name: f"{value} of {name}")
    assert found == Table(
        "x of store/X", weights="w of store/w", names=NAMES, missing_chunks="fill"
    )


def test_map_columns_takes_X_as_it_is_given():
    found = Table("x", "y", names=NAMES).map_columns(lambda value, name: value + name, "another X")
    assert found == Table("another X", "ystore/y", names=NAMES)


def test_unknown_meanings_of_missing_chunks_are_refused():
    with pytest.raises(OptionError, match=r"missing_chunks='fil' is unknown. Did you mean 'fill'"):
        Table("x", missing_chunks="fil")
