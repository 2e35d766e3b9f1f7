"""Rows of numbers and categories, stored as Parquet in several ways."""

from itertools import pairwise

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

N = 3000
FEATURES = ["height", "wood", "soil", "wet"]
WORDS = ["fir", "oak", "pine"]


def make_rows(n=N, seed=0):
    """Return a data frame with features, the label "cover" and the weight "area"."""
    rng = np.random.default_rng(seed)
    rows = pd.DataFrame(
        {
            "height": rng.normal(size=n).astype(np.float32),
            "wood": rng.choice(WORDS, n),
            "soil": rng.integers(0, 9, n).astype(np.int16),
            "wet": rng.random(n) < 0.4,
            "area": rng.uniform(0.5, 2, n),
        }
    )
    score = rows.height + 0.3 * rows.soil + (rows.wood == "oak") - rows.wet + rng.normal(size=n)
    rows["cover"] = np.select([score < 0.5, score < 1.8], ["bare", "grass"], "forest")
    return rows


def one_hot(rows):
    """Return the features of the rows by hand, in the order of the columns."""
    words = [rows.wood == word for word in WORDS]
    return np.column_stack([rows.height, *words, rows.soil, rows.wet]).astype(np.float32)


def write_file(rows, path, group=700, **options):
    """Write one file with row groups of ``group`` rows."""
    table = rows if isinstance(rows, pa.Table) else pa.Table.from_pandas(rows, preserve_index=False)
    pq.write_table(table, path, row_group_size=group, **options)
    return str(path)


def write_parts(rows, folder, parts=3, **options):
    """Write a folder of files."""
    folder.mkdir()
    bounds = np.linspace(0, len(rows), parts + 1).astype(int)
    for number, (start, stop) in enumerate(pairwise(bounds)):
        write_file(rows.iloc[start:stop], folder / f"part-{number}.parquet", **options)
    return str(folder)
