"""Training: what is decided, the loop of passes, and its result."""
