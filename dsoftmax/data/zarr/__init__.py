"""Zarr arrays, v2 and v3: sources, rows, names, and the commands that store an array again."""
