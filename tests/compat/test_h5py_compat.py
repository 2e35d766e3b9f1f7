"""The private parts of h5py that `dsoftmax.compat.h5py` stands on."""

import pytest
from relied_on import relied_on

h5py = pytest.importorskip("h5py")


def test_the_dataset_behind_a_view_is_found(tmp_path):
    from dsoftmax.compat.h5py import dataset_of

    with h5py.File(tmp_path / "a.h5", "w") as file:
        words = file.create_dataset("words", data=["a", "b"], dtype=h5py.string_dtype())
        numbers = file.create_dataset("numbers", data=[1, 2])
        with relied_on("h5py", "dataset_of"):
            assert dataset_of(words) == dataset_of(words.asstr()) == words
            assert dataset_of(numbers.astype("f4")) == numbers
            assert dataset_of(file) is None
