"""The command that a message names if row groups are too large for the memory limit."""

import subprocess
import sys

import pandas as pd
import pyarrow.parquet as pq
import pytest
from frames import FEATURES, make_rows, write_file, write_parts

import dsoftmax
from dsoftmax.data.frames.open import newly_coded
from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table

ROWS = make_rows()


@pytest.mark.parametrize("kind", ["file", "pattern"])
def test_the_command_stores_smaller_row_groups(kind, tmp_path, monkeypatch):
    if kind == "file":
        frame = dsoftmax.parquet(write_file(ROWS, tmp_path / "it's.parquet", group=3000))
    else:
        frame = dsoftmax.parquet(write_parts(ROWS, tmp_path / "rows", group=1000) + "/*.parquet")
    matrix, _ = newly_coded(frame[FEATURES], "from_dtype", "error", "X")
    line = open_source(Table(matrix, frame["cover"])).smaller_chunks(500)
    assert line.startswith("python -c ")
    assert "\n" not in line
    monkeypatch.chdir(tmp_path)
    subprocess.run(["bash", "-c", line.replace("python", sys.executable, 1)], check=True)
    file = tmp_path / "smaller.parquet"
    about = pq.read_metadata(file)
    assert max(about.row_group(group).num_rows for group in range(about.num_row_groups)) == 500
    assert pd.read_parquet(file).equals(ROWS)
    smaller = dsoftmax.parquet(file)
    assert open_source(Table(matrix, smaller["cover"])).smaller_chunks(3000) == ""
    assert smaller.pieces.smaller(500) == ""
