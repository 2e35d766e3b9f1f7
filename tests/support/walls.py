"""The walls between the folders of the package, which `tests/test_layers.py` tests."""

WALLS = {
    "dsoftmax": {"cli", "engines/base"},
    "errors": set(),
    "system": {"errors"},
    "compat": set(),
    "data": {
        "errors", "compat/xarray", "data/zarr", "data/dask", "data/anndata", "data/hdf5",
        "data/frames",
        "data/cubes",
    },
    "data/frames": {"errors", "system", "data", "data/zarr", "data/dask"},
    "data/anndata": {"errors", "data", "data/zarr", "data/hdf5"},
    "data/cubes": {"errors", "compat/xarray", "data", "data/zarr", "data/dask"},
    "data/hdf5": {"errors", "compat/h5py", "data", "data/zarr"},
    "data/dask": {"errors", "compat/dask", "data", "data/zarr", "data/frames"},
    "data/zarr": {
        "errors", "system", "compat/zarr", "compat/zarr_bounds", "data", "data/zarr/local",
        "data/zarr/remote",
    },
    "data/zarr/local": {
        "system", "compat/zarr", "compat/numcodecs", "compat/bounded", "data/block", "data/buffer",
    },
    "data/zarr/remote": {"errors", "compat/zarr", "data/retries", "data/buffer", "data/zarr/local"},
    "kernels": {"errors", "data/features", "kernels/compiled"},
    "kernels/compiled": {"errors", "data/features", "data/leaves", "kernels"},
    "sums": {"system", "kernels/compiled"},
    "engines": {"errors", "system", "data", "sums", "engines/kept", "engines/cluster"},
    "engines/kept": {"errors", "system", "data"},
    "engines/cluster": {
        "dsoftmax", "errors", "compat/distributed", "system", "data", "sums", "engines",
        "engines/kept",
    },
    "solvers": {"errors", "solvers/*"},
    "solvers/algebra": {"solvers/protocol"},
    "solvers/surrogate": {"solvers/protocol", "solvers/algebra"},
    "solvers/proximal_newton": {"solvers/protocol", "solvers/algebra"},
    "solvers/lbfgs": {"solvers/protocol", "solvers/algebra"},
    "solvers/matrix_free": {"solvers/protocol", "solvers/algebra"},
    "solvers/reference": {"solvers/protocol", "solvers/algebra"},
    "first_pass": {"errors", "data", "kernels", "kernels/compiled", "sums", "engines/visit"},
    "objective": {
        "errors", "system", "data", "kernels", "sums", "engines/base", "engines/visit",
        "solvers/protocol", "solvers/algebra", "first_pass",
    },
    "exports": {"errors", "system", "data"},
    "results": {
        "typing", "errors", "compat/xarray", "system", "data", "data/cubes", "data/dask",
        "data/frames", "kernels", "engines", "exports/methods",
        "first_pass", "objective", "solvers/protocol",
    },
    "training": {
        "errors", "system", "data", "kernels", "sums", "engines", "solvers", "first_pass",
        "objective", "results",
    },
    "runs": {"errors", "system", "data", "solvers", "first_pass", "training"},
    "estimators": {
        "typing", "errors", "system", "data", "data/cubes", "kernels/tiles", "engines",
        "engines/kept", "exports/sklearn", "results", "training",
    },
    "testing": {
        "typing", "errors", "data", "sums", "engines", "solvers/protocol", "runs/checkpoint",
    },
    "cli": {
        "dsoftmax", "errors", "system", "data", "data/zarr", "data/zarr/remote/options",
        "data/anndata", "data/hdf5", "data/frames", "data/cubes", "sums", "engines",
        "engines/kept", "engines/cluster", "solvers", "results", "training", "runs", "cli/demo",
    },
    "cli/commands": {
        "errors", "system", "data", "data/frames", "engines", "exports", "results", "training",
        "runs", "cli", "cli/demo",
    },
    "cli/demo": {"errors", "system"},
}  # fmt: skip
"""Imports that each folder may have.

A name is a folder without its subfolders, a module, or ``folder/*`` with its subfolders."""

HEAVY = {
    "dask": ("data/dask/", "compat/dask.py", "engines/cluster/"),
    "distributed": ("compat/distributed.py", "engines/cluster/"),
    "zarr": (
        "data/zarr/",
        "compat/zarr",
        "results/stored_model.py",
        "results/stored_predictions.py",
        "results/stored_map.py",
        "results/map_files.py",
        "cli/demo/",
    ),
    "obstore": ("data/zarr/remote/",),
    "pyarrow": ("data/frames/",),
    "narwhals": ("data/frames/",),
    "polars": ("data/frames/",),
    "xarray": ("results/data_arrays.py",),
    "matplotlib": ("results/map_files.py",),
    "rasterio": ("results/map_files.py",),
    "onnx": ("exports/onnx.py",),
    "h5py": ("data/hdf5/", "compat/h5py.py"),
    "numcodecs": ("compat/numcodecs.py", "compat/bounded.py", "compat/zarr"),
    "sklearn": ("estimators/sklearn.py", "exports/sklearn.py"),
    "numba": ("kernels/compiled/",),
    "llvmlite": ("kernels/compiled/",),
}
"""Where packages that take long to import may be imported."""
