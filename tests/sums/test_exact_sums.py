"""Exact sums: right against math.fsum, and the same bits for every order and every tree."""

import copy
import itertools
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from dsoftmax.kernels.compiled import availability
from dsoftmax.sums.exact import SLAB, ExactSum
from dsoftmax.sums.totals import Grouped, Largest, Totals

FINITE = st.floats(allow_nan=False, allow_infinity=False, min_value=-1e300, max_value=1e300)
ANY = st.floats(width=64)


def added(numbers):
    total = ExactSum(())
    for number in numbers:
        total.add(np.float64(number))
    return total


def bits(array):
    return np.asarray(array, np.float64).tobytes()


@given(st.lists(FINITE, max_size=40))
def test_the_sum_equals_fsum_up_to_the_digits_cut_off(numbers):
    largest = max((abs(x) for x in numbers), default=0.0)
    expected = math.fsum(numbers)
    # Each addend may lose 2⁻⁶⁴ of the largest.
    lost = len(numbers) * max(2.0**-64 * largest, 2.0**-1056)
    assert abs(float(added(numbers).result()) - expected) <= lost + 1.5 * math.ulp(expected)


@given(st.lists(st.integers(-(2**40), 2**40).map(float), min_size=1, max_size=40))
def test_sums_that_float64_holds_are_exact(numbers):
    assert float(added(numbers).result()) == math.fsum(numbers)


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("small", [2.0**-40, 2.0**-55, 3 * 2.0**-60, 5 * 2.0**-63])
def test_the_rest_after_cancellation_is_exact_on_both_sides_of_zero(sign, small):
    assert float(added([1.0, sign * small, -1.0]).result()) == sign * small


@given(st.lists(ANY, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_any_order_and_any_tree_give_the_same_bits(numbers, rnd):
    expected = bits(added(numbers).result())
    shuffled = numbers.copy()
    rnd.shuffle(shuffled)
    assert bits(added(shuffled).result()) == expected
    trees = [added(part) for part in np.array_split(shuffled, rnd.randint(1, 6))]
    while len(trees) > 1:
        rnd.shuffle(trees)
        last = trees.pop()
        if rnd.random() < 0.3:
            last = pickle.loads(pickle.dumps(last))
        trees[0].merge(last)
    assert bits(trees[0].result()) == expected


@pytest.mark.parametrize(
    "exponent", [-1074, -1060, -1000, -500, -33, -32, -31, 0, 31, 32, 33, 63, 64, 500, 1000, 1023]
)
def test_every_exponent_of_float64_is_added(exponent):
    x, huge = math.ldexp(1.0, exponent), math.ldexp(1.0, 1000)
    for number in (x, -x, 0.75 * x):
        assert float(added([number]).result()) == number
        # The lowest three bins reach down to 2⁻¹⁰⁵⁶, those of 2¹⁰⁰⁰ to 2⁹²⁸.
        assert float(added([number, 0.0]).result()) == cut(number, -1056)
        assert float(added([huge, number, -huge]).result()) == cut(number, 928)


def cut(number, exponent):
    """Return a number rounded towards zero to a multiple of 2^exponent."""
    unit = Fraction(2) ** exponent
    return float(math.trunc(Fraction(number) / unit) * unit)


def test_zeros_of_both_signs_and_no_addend_give_zero():
    assert float(added([]).result()) == 0
    assert float(added([0.0, -0.0]).result()) == 0
    assert not np.signbit(ExactSum((3,)).result()).any()


def test_one_array_alone_gives_the_bits_of_its_sum_with_zeros(rng):
    """Numbers above 2⁻⁹⁹² are held exactly by three digits, so the two ways agree."""
    x = np.r_[rng.normal(size=50) * 10.0 ** rng.integers(-290, 300, 50), 0.0, -0.0]
    x = np.r_[x, math.inf, -math.inf, math.nan]
    alone, merged, digits = ExactSum(x.shape), ExactSum(x.shape), ExactSum(x.shape)
    alone.add(x)
    merged.merge(pickle.loads(pickle.dumps(alone)))
    digits.add(x)
    digits.add(np.zeros(x.shape))
    assert digits.digits is not None
    assert alone.digits is merged.digits is None
    assert bits(alone.result()) == bits(merged.result()) == bits(digits.result())


@pytest.mark.parametrize("broken", [math.nan, math.inf, -math.inf])
def test_nan_and_infinity_give_nan_in_their_entry_alone(broken):
    total = ExactSum((3,))
    for row in np.array([[1.0, 2.0, 3.0], [1.0, broken, 3.0], [1.0, 2.0, 1e200]]):
        total.add(row)
    assert_array_equal(total.result(), [3.0, math.nan, 1e200])
    other = ExactSum((3,))
    other.merge(total)
    assert_array_equal(other.result(), [3.0, math.nan, 1e200])


def test_a_sum_beyond_float64_is_infinite_and_none_before():
    top = np.finfo(float).max
    assert float(added([top, top]).result()) == math.inf
    assert float(added([-top, -top]).result()) == -math.inf
    assert float(added([top, top, -top]).result()) == top


def test_many_large_leaves_do_not_overflow_the_digits(rng):
    x = np.full((), np.nextafter(2.0**32, 0))  # the largest digit of a bin
    total = ExactSum(())
    for _ in range(1000):
        total.add(x)
    for _ in range(20):  # 2²⁰ times as many
        total.merge(copy.deepcopy(total))
    assert math.isclose(float(total.result()), float(x) * 1000 * 2**20, rel_tol=1e-15)


def test_entries_of_an_array_are_added_alone(rng):
    arrays = rng.normal(size=(60, 4, 3)) * 10.0 ** rng.integers(-150, 150, (60, 4, 3))
    total = ExactSum((4, 3))
    for array in arrays:
        total.add(array)
    for place in np.ndindex(4, 3):
        expected = math.fsum(arrays[(slice(None), *place)])
        assert math.isclose(
            total.result()[place],
            expected,
            rel_tol=3e-16,
            abs_tol=60 * 2.0**-64 * abs(arrays[(slice(None), *place)]).max(),
        )
        assert total.result()[place] == float(added(arrays[(slice(None), *place)]).result())


def test_adding_and_merging_change_neither_addend(rng):
    x = rng.normal(size=5)
    one, two = ExactSum((5,)), ExactSum((5,))
    one.add(x)
    two.add(x * 1e100)
    before = pickle.dumps((x, two))
    one.add(x)
    one.merge(two)
    assert pickle.dumps((x, two)) == before


def leaf(rng, label):
    return {
        "float": rng.normal(size=3) * 10.0 ** rng.integers(-9, 9),
        "scalar": np.float64(rng.normal()),
        "rows": int(rng.integers(9)),
        "counts": rng.integers(0, 9, 2),
        "high": Largest(rng.normal(size=2)),
        "by": Grouped({label: {"rows": np.int64(1), "sums": rng.normal(size=2)}}),
    }


@given(st.integers(0, 2**32 - 1), st.randoms(use_true_random=False))
def test_totals_are_added_by_kind_without_order(seed, rnd):
    rng = np.random.default_rng(seed)
    leaves = [leaf(rng, "abc"[rng.integers(3)]) for _ in range(12)]
    order = leaves.copy()
    rnd.shuffle(order)
    parts = []
    for start in range(0, 12, 3):
        part = Totals()
        for one in order[start : start + 3]:
            part.add(one, n_rows=2, n_bytes=10)
        parts.append(pickle.loads(pickle.dumps(part)))
    before = pickle.dumps(parts[1:])
    total = parts[0]
    for part in parts[1:]:
        total.merge(part)
    assert pickle.dumps(parts[1:]) == before
    found = total.result()
    assert (total.n_rows, total.n_bytes, total.n_leaves) == (24, 120, 12)
    assert found["rows"] == sum(one["rows"] for one in leaves)
    assert_array_equal(found["counts"], sum(one["counts"] for one in leaves))
    assert_array_equal(found["high"], np.max([one["high"].values for one in leaves], axis=0))
    for j in range(3):
        assert math.isclose(
            found["float"][j],
            math.fsum(one["float"][j] for one in leaves),
            rel_tol=1e-15,
            abs_tol=12 * 2.0**-64 * max(abs(one["float"][j]) for one in leaves),
        )
    for label in {label for one in leaves for label in one["by"].leaves}:
        mine = [one["by"].leaves[label] for one in leaves if label in one["by"].leaves]
        assert found["by"][label]["rows"] == len(mine)
        assert_array_equal(
            found["by"][label]["sums"],
            [float(added(x["sums"][j] for x in mine).result()) for j in range(2)],
        )
    straight = Totals()
    for one in leaves:
        straight.add(one)
    assert bits(straight.result()["float"]) == bits(found["float"])
    assert bits(straight.result()["scalar"]) == bits(found["scalar"])


def test_the_larger_of_nan_and_a_number_is_nan():
    total = Totals()
    total.add({"high": Largest(np.array([1.0, np.nan]))})
    total.add({"high": Largest(np.array([2.0, 0.0]))})
    assert_array_equal(total.result()["high"], [2.0, np.nan])


def test_merging_into_nothing_copies():
    one = Totals()
    one.add({"sum": np.ones(2), "rows": np.array([1, 2]), "by": Grouped({0: {"sum": np.ones(1)}})})
    both = Totals().merge(one).merge(one)
    assert_array_equal(both.result()["sum"], [2, 2])
    assert_array_equal(both.result()["rows"], [2, 4])
    assert_array_equal(both.result()["by"][0]["sum"], [2])
    assert_array_equal(one.result()["sum"], [1, 1])
    assert_array_equal(one.result()["rows"], [1, 2])
    assert_array_equal(one.result()["by"][0]["sum"], [1])


def test_rounded_totals_have_the_same_results_and_accept_no_addend(rng):
    total = Totals()
    for _ in range(3):
        total.add(leaf(rng, "a"), n_rows=2)
    rounded = pickle.loads(pickle.dumps(total.rounded()))
    found, expected = rounded.result(), total.result()
    groups = found.pop("by")["a"], expected.pop("by")["a"]
    for some, same in ((found, expected), groups):
        assert some.keys() == same.keys()
        assert all(
            bits(np.asarray(some[name], float)) == bits(np.asarray(same[name], float))
            for name in same
        )
    assert (rounded.n_rows, rounded.n_leaves) == (6, 3)
    with pytest.raises(TypeError):
        rounded.merge(total)
    large = Totals()
    large.add({"sum": rng.normal(size=10_000)})
    large.add({"sum": rng.normal(size=10_000)})
    assert len(pickle.dumps(large.rounded())) < len(pickle.dumps(large)) / 3


WAYS = [
    "sweeps",
    pytest.param(
        "compiled",
        marks=pytest.mark.skipif(
            not availability.available(),
            reason="numba is not installed: pip install 'dsoftmax[fast]'",
        ),
    ),
]


def choose(way, patch):
    from dsoftmax.kernels.compiled import digits

    patch.setattr(availability, "loops_of_digits", lambda: digits if way == "compiled" else None)


@pytest.mark.parametrize("way", WAYS)
def test_a_zero_beside_a_number_that_raises_the_bins_cuts_nothing_off(way, monkeypatch):
    choose(way, monkeypatch)
    small = math.ldexp(1.0, -50) * (1 + 2.0**-52)
    leaves = [np.array([small, 1.0]), np.array([0.0, 2.0**40]), np.array([small, 2.0**70])]
    for order in itertools.permutations(leaves):
        total = ExactSum((2,))
        for leaf in order:
            total.add(leaf)
        assert total.result()[0] == 2 * small


@pytest.mark.skipif(
    not availability.available(), reason="numba is not installed: pip install 'dsoftmax[fast]'"
)
def test_compiled_loops_and_sweeps_leave_the_same_digits(rng, monkeypatch):
    leaves = [
        rng.normal(size=(3, SLAB)) * 10.0 ** rng.integers(-40, 40, (3, SLAB)) for _ in range(4)
    ]
    leaves[1][0, 7], leaves[2][2, 9], leaves[3][1], leaves[2][0, :9] = np.nan, -np.inf, -0.0, 1e-300
    leaves += [leaf / 3 for leaf in leaves]
    sums = []
    for way in ("sweeps", "compiled"):
        choose(way, monkeypatch)
        total = ExactSum((3, SLAB))
        for leaf in leaves:
            total.add(leaf)
        for some in (leaves[:3], leaves[2:], [1e200 * leaves[0]], [1e-200 * leaves[0]]):
            other = ExactSum((3, SLAB))
            for leaf in some:
                other.add(leaf)
            before = pickle.dumps(other)
            total.merge(other)
            assert pickle.dumps(other) == before
        sums.append((total, total.result()))
    for name in ExactSum.__slots__:
        assert_array_equal(getattr(sums[0][0], name), getattr(sums[1][0], name))
    assert bits(sums[0][1]) == bits(sums[1][1])
