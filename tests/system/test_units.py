"""Sizes as people write them."""

import numpy as np
import pytest

from dsoftmax.errors import OptionError
from dsoftmax.system.units import parse_bytes


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        (1, 1),
        (4096, 4096),
        ("4096", 4096),
        ("12B", 12),
        ("3kB", 3_000),
        ("3 KB", 3_000),
        ("2MB", 2_000_000),
        ("2gb", 2_000_000_000),
        ("1TB", 10**12),
        ("1KiB", 1024),
        ("1mib", 2**20),
        ("2GiB", 2**31),
        (" 1 TiB ", 2**40),
        ("1.5GiB", 3 * 2**29),
        (".5 kB", 500),
        (1e9, 10**9),
        (np.float64(4096), 4096),
    ],
)
def test_sizes(size, expected):
    assert parse_bytes(size) == expected


@pytest.mark.parametrize(
    "size",
    [
        "",
        "GiB",
        "2 GiBs",
        "2iB",
        "2XB",
        "-1GB",
        "0",
        "0.1B",
        "1e3",
        0,
        -5,
        True,
        2.5,
        np.inf,
        np.nan,
        None,
        "1 2 GB",
    ],
)
def test_the_error_of_an_invalid_size_names_the_option_and_the_units(size):
    with pytest.raises(
        OptionError, match=r"memory=.* is no size; expected a positive number of bytes.*GiB"
    ):
        parse_bytes(size, "memory")
