"""From stored labels to codes: right against a dictionary, and errors that name the row."""

import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from dsoftmax.data.block import Block
from dsoftmax.data.table import Names
from dsoftmax.errors import DataError
from dsoftmax.first_pass.labels import TABLE_SPAN, Encoder, ordered_classes, plain_labels


def block(y, first_row=1000):
    return Block(np.zeros((len(y), 1)), y, None, first_row, Names("X", "kind"))


KINDS = {
    "bool": (np.array([False, True]), "?"),
    "small integers": (np.array([-3, 0, 7]), "i1"),
    "unsigned": (np.array([0, 2, 200]), "u1"),
    "64 bits": (np.array([-(2**62), 5, 2**62]), "i8"),
    "unsigned 64 bits": (np.array([1, 2**63 + 5], np.uint64), "u8"),
    "big-endian": (np.array([1, 300, 70_000]), ">i4"),
    "wide integers": (np.array([0, 1, TABLE_SPAN + 9]), "i8"),
    "whole floats": (np.array([-1.0, 2.0, 1e300]), "f8"),
    "strings": (np.array(["a", "bee", "éa"]), "U3"),
    "bytes": (np.array([b"a", b"bee"]), "S3"),
    "objects": (np.array(["a", "bee", "c"]), "O"),
    "bytes as objects": (np.array([b"a", b"bee"]), "O"),
    "booleans as objects": (np.array([False, True]), "O"),
    "strings of any length": (np.array(["a", "bee", "c" * 40]), np.dtypes.StringDType()),
}


@pytest.mark.parametrize("kind", KINDS)
def test_codes_are_the_indices_of_the_labels(rng, kind):
    classes, stored = KINDS[kind]
    expected = rng.integers(0, len(classes), 50)
    y = classes[expected].astype(stored)
    y.flags.writeable = False
    plain = plain_labels(y)
    assert_array_equal(ordered_classes(plain.tolist()), classes)
    assert_array_equal(Encoder(classes).codes(block(y)), expected)
    assert_array_equal(pickle.loads(pickle.dumps(Encoder(classes))).codes(block(y)), expected)
    assert len(Encoder(classes).codes(block(y[:0]))) == 0


@given(st.lists(st.integers(-(2**40), 2**40), min_size=2, unique=True, max_size=20), st.data())
def test_codes_of_integers_equal_a_dictionary(labels, data):
    classes = np.array(sorted(labels))
    place = {label: k for k, label in enumerate(sorted(labels))}
    y = data.draw(st.lists(st.sampled_from(labels), max_size=20))
    assert Encoder(classes).codes(block(np.array(y, np.int64))).tolist() == [
        place[label] for label in y
    ]


@pytest.mark.parametrize("dtype", ["i1", "u1", "<i2", ">i2", "<u4", ">i8"])
@pytest.mark.parametrize("K", [2, 127, 128, 129, 200, 256, 300, 40_000])
def test_every_label_of_a_dtype_is_its_own_code_or_refused(dtype, K):
    encoder, limits = Encoder(np.arange(K)), np.iinfo(dtype)
    for label in {limits.min, limits.min + 1, -1, 0, 1, K - 1, K, K + 1, 127, 128, limits.max}:
        if not limits.min <= label <= limits.max:
            continue
        y = np.array([0, label, 1], dtype)
        if 0 <= label < K:
            assert encoder.codes(block(y)).tolist() == [0, label, 1]
        else:
            with pytest.raises(DataError, match=f"label {label} "):
                encoder.codes(block(y))


@pytest.mark.parametrize(
    ("classes", "y", "label", "row"),
    [
        ([0, 1, 5], [0, 5, 3, 9], "3", "1,002"),
        ([0, 1, 5], [0, 5, 3], "3", "1,002"),
        ([0, 1, 5], [0, 6], "6", "1,001"),
        ([0, 1, 5], [-1], "-1", "1,000"),
        ([0, 1, 2**40], [0, 2**40 + 1], str(2**40 + 1), "1,001"),
        ([0.0, 1.0], [0.0, 2.0], "2.0", "1,001"),
        ([0, 1], [0.0, 3.0], "3.0", "1,001"),
        (["a", "b"], ["a", "c"], "'c'", "1,001"),
        (["a", "b"], [0, 1], "0", "1,000"),
        ([0, 1], ["0", "1"], "'0'", "1,000"),
    ],
)
def test_an_error_about_an_unknown_label_names_its_row(classes, y, label, row):
    with pytest.raises(DataError) as error:
        Encoder(np.array(classes)).codes(block(np.array(y)))
    assert f"kind rows 1,000–{999 + len(y):,}" in str(error.value)
    assert f"label {label} (row {row})" in str(error.value)
    assert "Pass classes" in str(error.value)


def test_a_trained_encoder_advises_no_other_classes():
    with pytest.raises(
        DataError, match=r"label 7 \(row 1,001\).*The model knows these classes only"
    ) as error:
        Encoder(np.array([0, 1]), trained=True).codes(block(np.array([0, 7])))
    assert "Pass classes" not in str(error.value)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.array([0.0, np.nan]), "kind row 8: the label is nan"),
        (np.array([0.0, np.inf]), "kind row 8: the label is inf"),
        (np.array([0.0, 0.5]), "kind row 8: the label is 0.5. Unknown label type: continuous"),
        (np.array(["a", None], object), "kind row 8: the label is None"),
        (np.array(["a", np.nan], object), "kind row 8: the label is nan"),
        (np.array([0, 2.5], object), "kind row 8: the label is 2.5"),
        (np.array(["a", 1], object), "The labels mix int, str"),
        (np.array([b"a", "a"], object), "The labels mix bytes, str"),
        (np.array([1j, 2]), "Unknown label type"),
        (np.array(["2020-01-01"], "M8[D]"), "Unknown label type"),
    ],
)
def test_an_error_about_an_invalid_label_names_its_row(y, message):
    with pytest.raises(DataError) as error:
        plain_labels(y, "kind", 7)
    assert message in str(error.value)


@pytest.mark.parametrize(
    ("labels", "kinds"),
    [(["a", 1], "int, str"), ([b"a", "a"], "bytes, str"), (["a", 1.0, True], "bool")],
)
def test_labels_of_mixed_types_are_refused(labels, kinds):
    with pytest.raises(DataError, match=f"mix {kinds}"):
        ordered_classes(labels)


@pytest.mark.parametrize("labels", [[], [3], [3, 3], ["a"]])
def test_a_single_class_is_refused(labels):
    with pytest.raises(DataError, match="at least 2 classes"):
        ordered_classes(labels)


def test_equal_numbers_of_different_types_are_one_class():
    assert_array_equal(ordered_classes([1, 2.0, True, 0]), [0, 1, 2])


@pytest.mark.parametrize(
    "classes",
    [[5, 2**63 + 1, 2**64 - 2], [2**63, 2**63 + 1, 2**63 + 2], [2**63 - 1, 2**63, 2**63 + 5]],
)
def test_labels_beyond_int64_are_classes_like_others(classes):
    labels = np.array(classes, np.uint64)
    ordered = ordered_classes(labels.tolist())
    assert ordered.dtype == np.uint64
    assert ordered.tolist() == classes
    y = labels[[2, 0, 1, 1]]
    assert Encoder(ordered).codes(Block(np.zeros((4, 1)), y)).tolist() == [2, 0, 1, 1]
    with pytest.raises(DataError, match="not among the 3 classes"):
        Encoder(ordered).codes(Block(np.zeros((1, 1)), np.array([2**63 + 4], np.uint64)))


def test_labels_beyond_every_integer_dtype_are_refused():
    with pytest.raises(
        DataError,
        match="reach from -1 to 9223372036854775809; expected a range that an integer dtype holds",
    ):
        ordered_classes([-1, 2**63 + 1])
