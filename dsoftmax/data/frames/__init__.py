"""Frames: columns by name, of numbers and categories, from Parquet, Arrow, polars, pandas and dask.

Everything here needs pyarrow and narwhals. The kernels see rows of numbers: dense, or CSR if a
column is one-hot coded.
"""

from dsoftmax.errors import OptionError

try:
    import narwhals  # noqa: F401
    import pyarrow  # noqa: F401
except ImportError as missing:
    raise OptionError(
        f"Parquet files and frames with categories need {missing.name}; expected it to be "
        "installed. Run pip install 'dsoftmax[parquet]'."
    ) from None
