"""Algebra that solvers share."""
