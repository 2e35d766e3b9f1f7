"""The same mathematics in compiled loops (numba)."""
