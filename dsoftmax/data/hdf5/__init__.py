"""HDF5 data sets, read by h5py."""
