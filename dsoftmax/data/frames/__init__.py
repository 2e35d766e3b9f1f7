"""Frames: columns by name, of numbers and categories, from Parquet, Arrow, polars, pandas and dask.

Everything here needs pyarrow. The kernels see rows of numbers: dense, or CSR if a column is one-hot
coded.
"""

from dsoftmax.errors import OptionError

try:
    import pyarrow  # noqa: F401
except ImportError:
    raise OptionError(
        "Parquet files and frames with categories need pyarrow; expected it to be installed. Run "
        "pip install 'dsoftmax[parquet]'."
    ) from None
