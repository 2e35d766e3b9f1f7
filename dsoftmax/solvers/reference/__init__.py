"""Solvers that others are compared with: simple, or exact, and never the choice of "auto"."""
