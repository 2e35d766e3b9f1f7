"""Dask arrays: each block's graph is computed inside the task that visits the block; persisted blocks stay in place."""
