"""Frames as sources: Parquet, Arrow in memory, and lazy frames of polars."""

import pickle
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from frames import FEATURES, WORDS, make_rows, one_hot, write_file, write_parts

import dsoftmax
from dsoftmax.data.frames.open import frame_of, newly_coded
from dsoftmax.data.frames.source import cut_pieces
from dsoftmax.data.missing import Missing
from dsoftmax.data.open import open_source
from dsoftmax.data.table import Table
from dsoftmax.errors import DataError, OptionError, ReadError
from dsoftmax.testing.sources import check_source

ROWS = make_rows()


def by_partition(path):
    """Write a folder for each wood; their rows come in this order."""
    for word in WORDS:
        folder = path / f"wood={word}"
        folder.mkdir(parents=True)
        write_file(ROWS[ROWS.wood == word].drop(columns="wood"), folder / "rows.parquet")
    return dsoftmax.parquet(path)


FRAMES = {
    "one file": lambda path: dsoftmax.parquet(write_file(ROWS, path / "rows.parquet")),
    "a folder": lambda path: dsoftmax.parquet(write_parts(ROWS, path / "rows")),
    "a pattern": lambda path: dsoftmax.parquet(
        write_parts(ROWS, path / "rows") + "/part-*.parquet"
    ),
    "a URL": lambda path: dsoftmax.parquet(f"file://{write_parts(ROWS, path / 'rows')}"),
    "a list": lambda path: dsoftmax.parquet(
        [write_file(ROWS[:900], path / "b.pq"), write_file(ROWS[900:], path / "a.pq")]
    ),
    "Arrow": lambda path: frame_of(pa.Table.from_pandas(ROWS), "X"),
    "pandas": lambda path: frame_of(ROWS, "X"),
    "polars": lambda path: frame_of(pl.from_pandas(ROWS), "X"),
    "a lazy frame": lambda path: frame_of(pl.from_pandas(ROWS).lazy(), "X"),
}


def source_of(frame, categorical="from_dtype", columns=FEATURES, **others):
    matrix, _ = newly_coded(frame[columns], categorical, "error", "X")
    return open_source(Table(matrix, frame["cover"], frame["area"], **others))


@pytest.mark.parametrize("kind", FRAMES)
def test_each_kind_of_frame_keeps_the_contract(kind, tmp_path):
    frame = FRAMES[kind](tmp_path)
    labels, areas = ROWS.cover.to_numpy(), ROWS.area.to_numpy()
    groups = ROWS.wood.to_numpy()
    check_source(source_of(frame, groups=frame["wood"]), one_hot(ROWS), labels, areas, groups)
    numbers = ["soil", "height", "wet"]
    plain = source_of(frame, None, numbers)
    check_source(plain, ROWS[numbers].to_numpy(np.float32), labels, areas)
    assert not plain.sparse
    assert plain.dtype == np.float32


def test_folders_named_by_a_value_are_a_column(tmp_path):
    frame = by_partition(tmp_path / "rows")
    assert set(frame.columns) == set(ROWS.columns)
    expected = ROWS.sort_values("wood", kind="stable")
    check_source(source_of(frame), one_hot(expected), expected.cover.to_numpy())


def test_dictionaries_that_differ_by_row_group_are_unified(tmp_path):
    """The same codes mean other words in each row group."""
    words = [["oak", "fir", "oak"], ["pine", "fir", "pine"], ["fir", "oak", "fir"]]
    parts = [
        pa.table({"wood": pa.array(part).dictionary_encode(), "cover": part, "area": [1.0] * 3})
        for part in words
    ]
    with pq.ParquetWriter(tmp_path / "rows.parquet", parts[0].schema) as writer:
        for part in parts:
            writer.write_table(part)
    source = source_of(dsoftmax.parquet(tmp_path / "rows.parquet"), columns=["wood"])
    flat = np.concatenate(words)
    check_source(source, np.column_stack([flat == word for word in WORDS]).astype(np.float32), flat)


def test_categories_of_numbers_are_categories_in_parquet_too(tmp_path):
    """Parquet stores them as numbers. pandas notes what they were."""
    rows = ROWS.astype({"soil": "category"})
    for frame in (dsoftmax.parquet(write_file(rows, tmp_path / "rows.parquet")), rows):
        _, coding = newly_coded(frame[["soil", "wet"]], "from_dtype", "error", "X")
        assert coding.columns[0].categories == tuple(range(9))
        assert coding.columns[1].categories is None
        source = source_of(frame_of(frame, "X"), columns=["soil", "wet"])
        expected = [*(ROWS.soil == one for one in range(9)), ROWS.wet]
        check_source(source, np.column_stack(expected).astype(np.float32))


def test_types_that_differ_by_file_are_joined(tmp_path):
    files = [
        write_file(ROWS[:900], tmp_path / "a.parquet"),
        write_file(ROWS[900:].astype({"soil": "int32"}), tmp_path / "b.parquet"),
    ]
    source = source_of(dsoftmax.parquet(files), None, ["soil", "wet"])
    check_source(source, ROWS[["soil", "wet"]].to_numpy(np.int32))
    assert source.dtype == np.int32
    words = [files[0], write_file(ROWS.astype({"soil": str}), tmp_path / "c.parquet")]
    with pytest.raises(DataError, match="soil is int16 in one file and string in another"):
        source_of(dsoftmax.parquet(words), None, ["soil"])
    with pytest.raises(DataError, match=r"c\.parquet has no column wet"):
        dsoftmax.parquet([files[0], write_file(ROWS.drop(columns="wet"), tmp_path / "c.parquet")])


@pytest.mark.parametrize("kind", ["parquet", "arrow", "polars"])
def test_rows_with_a_null_are_skipped(kind, tmp_path):
    rows = ROWS.astype({"soil": "Int16", "area": "Float64"})
    rows.loc[5:9, "soil"] = None
    rows.loc[8:20, "wood"] = None
    rows.loc[100:101, "cover"] = None
    rows.loc[200:202, "area"] = None
    frame = {
        "parquet": lambda: dsoftmax.parquet(write_file(rows, tmp_path / "rows.parquet")),
        "arrow": lambda: frame_of(pa.Table.from_pandas(rows), "X"),
        "polars": lambda: frame_of(pl.from_pandas(rows).lazy(), "X"),
    }[kind]()
    source = source_of(frame)
    counts, kept = np.zeros(4, int), []
    for chunk in range(len(source.chunk_rows)):
        block, skipped = source.load(chunk).counted()
        counts += 0 if skipped is None else skipped
        kept.append(block.X.toarray())
    assert counts.tolist() == [16, 2, 3, 0]
    lost = rows[["soil", "wood", "cover", "area"]].isna().any(axis=1).to_numpy()
    np.testing.assert_array_equal(np.concatenate(kept), one_hot(ROWS)[~lost])


def test_nan_is_no_null(tmp_path):
    rows = ROWS.copy()
    rows.loc[7, "height"] = np.nan
    for frame in (frame_of(rows, "X"), frame_of(pl.from_pandas(rows, nan_to_null=False), "X")):
        assert not frame.pieces.nullable
        assert np.isnan(source_of(frame).load(0).X.toarray()[7, 0])


def test_large_row_groups_are_cut_and_small_ones_joined():
    mib = 2**20
    assert cut_pieces(np.array([10, 20, 30]), 8, 8192, mib).tolist() == [60]
    large = cut_pieces(np.array([100, 2**20, 50, 2**16]), 64, 8192, mib)
    assert large.tolist() == [100, *[2**18] * 4, 50 + 2**16]
    odd = cut_pieces(np.array([2**20 + 5]), 64, 8192, mib)
    assert odd.sum() == 2**20 + 5
    assert not (odd[:-1] % 8192).any()
    assert cut_pieces(np.zeros(0, np.int64), 64, 8192, mib).tolist() == [0]


def test_a_large_row_group_is_decoded_once_for_its_parts(tmp_path, monkeypatch):
    rng = np.random.default_rng(1)
    values = rng.normal(size=(70_000, 64))
    table = pa.table({f"x{j}": values[:, j] for j in range(64)})
    frame = dsoftmax.parquet(write_file(table, tmp_path / "rows.parquet", group=70_000))
    matrix, _ = newly_coded(frame, None, "error", "X")
    source = open_source(Table(matrix))
    assert len(source.chunk_rows) > 1
    read, decoded = type(frame.pieces).table, []

    def counting(pieces, piece, names):
        decoded.append(piece)
        return read(pieces, piece, names)

    monkeypatch.setattr(type(frame.pieces), "table", counting)
    blocks = [source.load(chunk).X for chunk in range(len(source.chunk_rows))]
    np.testing.assert_array_equal(np.concatenate(blocks), values)
    assert decoded == [0]
    assert source.columns.units >= values.nbytes


def test_shares_carry_their_own_rows():
    table = pa.table({f"x{j}": np.arange(400_000.0) + j for j in range(8)})
    matrix, _ = newly_coded(frame_of(table, "X"), None, "error", "X")
    source = open_source(Table(matrix))
    share = source.share([1, 3])
    assert len(pickle.dumps(share)) < 1.2 * source.chunk_bytes[[1, 3]].sum()
    again = pickle.loads(pickle.dumps(share))
    for chunk in (1, 3):
        np.testing.assert_array_equal(again.load(chunk).X, source.load(chunk).X)
    with pytest.raises(KeyError):
        again.load(0)


def test_columns_that_are_not_asked_for_are_not_read(tmp_path):
    path = write_file(ROWS, tmp_path / "rows.parquet")
    about = pq.read_metadata(path).row_group(1).column(0)
    assert about.path_in_schema == "height"
    with Path(path).open("r+b") as file:
        file.seek(about.data_page_offset)
        file.write(b"\xff" * 200)
    frame = dsoftmax.parquet(path)
    check_source(source_of(frame, None, ["soil"]), ROWS[["soil"]].to_numpy())
    with pytest.raises(ReadError, match=r"row group 1 of 700 rows cannot be read"):
        source_of(frame).load(0)


def test_what_is_no_frame_is_refused(tmp_path):
    rows = pa.Table.from_pandas(ROWS).append_column("lists", pa.array([[1, 2]] * len(ROWS)))
    frame = dsoftmax.parquet(write_file(rows, tmp_path / "rows.parquet"))
    with pytest.raises(DataError, match=r"the column lists is list<.*expected numbers"):
        newly_coded(frame[["lists", "soil"]], "from_dtype", "error", "X")
    with pytest.raises(DataError, match=r"the column lists is list<.*expected numbers, booleans"):
        frame["lists"]
    with pytest.raises(DataError, match=r"has no column hight\. Did you mean height\?"):
        frame[["hight"]]
    with pytest.raises(DataError, match="soil is named twice"):
        frame[["soil", "soil"]]
    with pytest.raises(DataError, match=r"the column wood is string.*categorical_features="):
        newly_coded(frame[["wood"]], None, "error", "X")
    with pytest.raises(ReadError, match="there is no such Parquet file"):
        dsoftmax.parquet(tmp_path / "other-*.parquet")
    (tmp_path / "torn.parquet").write_bytes(b"PAR1 and no footer")
    with pytest.raises(ReadError, match=r"torn\.parquet cannot be read as Parquet"):
        dsoftmax.parquet(tmp_path / "torn.parquet")
    twice = pa.Table.from_arrays([pa.array([1]), pa.array([2])], ["a", "a"])
    with pytest.raises(DataError, match="two columns named a"):
        dsoftmax.parquet(write_file(twice, tmp_path / "twice.parquet"))
    with pytest.raises(DataError, match="two columns named a"):
        frame_of(twice, "X")
    empty = pa.table({"wood": pa.array([None, None], pa.string()), "cover": ["a", "b"]})
    with pytest.raises(DataError, match="wood has no category, because all its values are null"):
        newly_coded(frame_of(empty, "X")[["wood"]], "from_dtype", "error", "X")
    with pytest.raises(OptionError, match="would skip every row"):
        source_of(frame, missing=Missing(X=(1,)))
