"""Sums over one block of rows: value, gradient, curvature and Hessian."""
