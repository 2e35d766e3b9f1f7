"""The surrogate without matrices, for many entries of θ: minimised by L-BFGS over a sample."""
