"""A Parquet file whose blocks arrive in any order."""

import itertools

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from dsoftmax.data.frames.write import OrderedWriter, holds_predictions


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_rows_are_written_in_order(order, tmp_path):
    labels = np.array(["a", "b", "c", "d", "e", "f"], object)
    chances = np.arange(6, dtype=np.float32)
    path = tmp_path / "labels.parquet"
    bounds = [0, 1, 4, 6]
    with path.open("wb") as file:
        dtypes = {"label": np.dtype(object), "chance": np.dtype(np.float32)}
        writer = OrderedWriter(file, dtypes, ["a", "b"])
        for block in order:
            rows = slice(bounds[block], bounds[block + 1])
            lost = np.arange(6)[rows] == 2
            columns = {
                "label": np.ma.MaskedArray(labels[rows], lost),
                "chance": np.ma.MaskedArray(chances[rows], lost),
            }
            writer.add(bounds[block], columns)
        writer.close()
    found = pd.read_parquet(path)
    assert found.label.tolist() == ["a", "b", None, "d", "e", "f"]
    np.testing.assert_array_equal(found.chance, [0, 1, np.nan, 3, 4, 5])
    about = pq.read_metadata(path)
    assert [about.row_group(group).num_rows for group in range(3)] == [1, 3, 2]
    assert holds_predictions(path)
    found.to_parquet(path)
    assert not holds_predictions(path)
