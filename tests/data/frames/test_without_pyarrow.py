"""Frames without the extra ``parquet``: one sentence that names what to install."""

import subprocess
import sys

import pytest

HIDDEN = """
import sys
sys.modules[{missing!r}] = None
import numpy as np, pandas as pd, polars as pl
import dsoftmax
from dsoftmax import SoftmaxRegression
from dsoftmax.__main__ import main
from dsoftmax.errors import OptionError

X, y = np.arange(12.0).reshape(6, 2), [0, 1] * 3
SoftmaxRegression().fit(pd.DataFrame(X, columns=["a", "b"]), y)
SoftmaxRegression().fit(X, y).model_.predict(X)
frame = pd.DataFrame({{"a": list("uvuvuv"), "y": y}})
coded = SoftmaxRegression(categorical_features="from_dtype")
doors = [
    lambda: dsoftmax.parquet("rows.parquet"),
    lambda: coded.fit(frame[["a"]], y),
    lambda: SoftmaxRegression().fit(frame, "y"),
    lambda: SoftmaxRegression().fit(pl.DataFrame(X).lazy(), y),
]
for door in doors:
    try:
        door()
    except OptionError as error:
        assert "need {missing}" in str(error) and "dsoftmax[parquet]" in str(error), error
    else:
        raise AssertionError("no error")
sys.argv = ["dsoftmax", "train", "rows.parquet", "--labels", "y", "--out", "run"]
main()
"""


@pytest.mark.parametrize("missing", ["pyarrow", "narwhals"])
def test_each_door_names_the_extra(missing, tmp_path):
    code = HIDDEN.format(missing=missing)
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"Error: Parquet files and frames with categories need {missing}")
    assert "pip install 'dsoftmax[parquet]'" in done.stderr
