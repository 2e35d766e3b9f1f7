"""Our own reader of plain local Zarr arrays: files, shards, Blosc, codecs."""
