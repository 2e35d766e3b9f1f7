"""The mathematics of one block of rows: from rows to sums."""
