"""The damping μ of a surrogate: it grows after a refused step and shrinks after an accepted one."""

FACTOR = 10.0
"""Factor by which the damping grows or shrinks: a few passes cover many orders of magnitude."""
MOST = 1e9
"""Damping at which a solver is stuck: steps are then as short as rounding."""
