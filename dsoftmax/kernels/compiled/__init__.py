"""The same sums in compiled loops (numba)."""
