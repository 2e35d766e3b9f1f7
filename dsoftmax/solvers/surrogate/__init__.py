"""Newton's method on a surrogate: a sample in memory, corrected by what the passes find."""
