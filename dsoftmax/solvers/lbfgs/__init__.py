"""Limited-memory BFGS, plain and preconditioned."""
