"""Newton's method on a surrogate of the data: the solver up to a thousand entries of θ."""
