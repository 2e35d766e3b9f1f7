"""The synthetic scene of ``dsoftmax demo``, and the NumPy loop that checks its training."""
