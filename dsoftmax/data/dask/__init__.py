"""Dask arrays.

The task that visits a block also computes the block's graph. Persisted blocks stay in place.
"""
