"""AnnData stored as Zarr: matrices in CSR, categorical and nullable columns, and names of genes.

The encodings are those of https://anndata.readthedocs.io/en/stable/fileformat-prose.html. AnnData
itself is not imported. Everything here also reads single groups, without the store around them.
"""
