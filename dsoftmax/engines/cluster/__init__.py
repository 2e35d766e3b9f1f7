"""A pass on a dask cluster."""
