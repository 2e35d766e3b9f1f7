"""The synthetic scene of ``dsoftmax demo``, and the textbook loop that checks its training."""
