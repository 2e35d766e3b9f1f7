"""Which rows are held out: by their number, or by their group."""

import numpy as np
import pytest
import reference
from numpy.testing import assert_array_equal

from dsoftmax.data.block import Block
from dsoftmax.first_pass.held_out import MARKS, HeldOut, fold_of, folds, marks, places, uniform

SPLITMIX = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F, 0xF88BB8A8724C81EC]
"""The first numbers of SplitMix64 with seed 0, as its authors' program prints them."""


def block(n, first_row=0, groups=None):
    return Block(
        np.zeros((n, 1)),
        first_row=first_row,
        groups=None if groups is None else np.asarray(groups, np.uint64),
    )


def test_the_hash_is_splitmix():
    assert uniform(np.arange(4)).tolist() == [(number >> 11) / 2**53 for number in SPLITMIX]


def test_a_row_has_the_place_of_its_number_and_a_row_in_a_group_that_of_the_group():
    assert places(block(50, 70)).tolist() == [reference.place(70 + i) for i in range(50)]
    groups = [3, 2**64 - 1, 3, 0, 2**40]
    assert places(block(5, 70, groups)).tolist() == [reference.place(group) for group in groups]
    assert_array_equal(places(block(50, 70, np.arange(70, 120))), places(block(50, 70)))


@pytest.mark.parametrize("n", [2, 3, 5, 7])
def test_folds_hold_every_row_once_and_no_group_twice(n):
    groups = np.random.default_rng(0).integers(0, 300, 5000)
    where = places(block(5000, 0, groups))
    masks = np.array([held.mask(where) for held in folds(n)])
    assert_array_equal(masks.sum(axis=0), 1)
    assert_array_equal(masks.argmax(axis=0), [reference.fold(int(group), n) for group in groups])
    assert all(
        len({int(fold) for fold in masks.argmax(axis=0)[groups == group]}) == 1
        for group in range(300)
    )
    assert_array_equal(fold_of(folds(n), where), masks.argmax(axis=0))
    assert masks.mean(axis=1).min() > 0.6 / n


def test_a_place_that_no_set_holds_out_has_the_number_after_the_last():
    where = np.array([0.0, 0.1, 0.2, 0.5, 0.9])
    assert fold_of([HeldOut(0.1, 0.2), HeldOut(0.5, 1.0)], where).tolist() == [2, 0, 2, 1, 1]


def test_marks_distinguish_a_few_groups():
    where = np.array([0.25, 0.25, 0.75, 1 - 2**-53, 0.0])
    found = marks(where)
    assert found.shape == (MARKS,)
    assert found[found >= 0].tolist() == [0.0, 0.25, 0.75, 1 - 2**-53]
    assert marks(np.zeros(0)).max() == -1
