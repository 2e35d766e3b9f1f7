"""The options that several commands share, each with one spelling and one help text."""

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

import click

from dsoftmax.cli.cube_choice import features_choice
from dsoftmax.cli.engine_choice import ENGINES, engine_choice
from dsoftmax.cli.frame_choice import FrameChoice
from dsoftmax.cli.missing_choice import MissingChoice
from dsoftmax.cli.parameters import Bytes, Known, ListOption, Numbers, SolverOption
from dsoftmax.errors import OptionError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

DTYPES = ("float32", "float64")
KERNELS = ("auto", "numpy", "fused")
MISSING = ("error", "fill")
SCORINGS = {"accuracy": "accuracy", "neg_log_loss": "log_loss", "log_loss": "log_loss"}
"""Score of a grid for each value of --scoring. scikit-learn calls log_loss neg_log_loss."""


def _chain(*decorators: Decorator) -> Decorator:
    """Return one decorator that adds all these options, in this order."""

    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


data_argument = click.argument("data", metavar="DATA")
run_argument = click.argument("run", metavar="RUN", type=click.Path(path_type=Path))


def _as_features(function: Callable[..., Any]) -> Callable[..., Any]:
    """Pass --features and --feature-dim as one value: a name, or a `CubeChoice`."""

    @wraps(function)
    def command(*args: Any, features: str | None, feature_dim: str | None, **options: Any) -> Any:
        from dsoftmax.cli.open_frames import is_frame_data

        choice: Any = features  # columns of Parquet are no variables of a cube
        if feature_dim is not None or not is_frame_data(options["data"]):
            choice = features_choice(features, feature_dim)
        return function(*args, features=choice, **options)

    return command


features_option = _chain(
    click.option(
        "--features",
        metavar="ARRAY",
        help="Path of the feature array in DATA, such as X, group/X or layers/counts, or of an "
        "array in another store. Leave it out if DATA is an array, or for X of AnnData. Several "
        "variables of a cube are separated by commas: B02,B03,B04. So are columns of Parquet: all "
        "others but labels and weights if it is left out.",
    ),
    click.option(
        "--feature-dim",
        metavar="DIMENSION",
        help="Dimension of a cube whose entries are the features, such as band. The other "
        "dimensions are rows. Several are separated by commas.",
    ),
    _as_features,
)
labels_option = click.option(
    "--labels",
    metavar="ARRAY",
    required=True,
    help="Path of the label array, such as y or obs/cell_type, in DATA or in another store. The "
    "column of labels of Parquet. Two dimensions are soft labels: probabilities of the --classes, "
    "one column for each. `train` takes several paths, separated by commas: one model for each, "
    "in shared passes.",
)
weights_option = click.option(
    "--weights",
    metavar="ARRAY",
    help="Path of the sample weights, in DATA or in another store.",
)
groups_option = click.option(
    "--groups",
    metavar="ARRAY",
    help="Path of the group of each row, in DATA or in another store. --folds and "
    "--validation-fraction hold out whole groups.",
)
validation_option = click.option(
    "--validation",
    metavar="DATA",
    help="Store of a validation set, with arrays of the same names. Training stops when the "
    "loss on it no longer falls.",
)
missing_option = click.option(
    "--missing-chunks",
    type=Known(MISSING),
    default="error",
    show_default=True,
    help="Meaning of a chunk that is absent from the store: an error, or a chunk of fill values.",
)
nodata_option = click.option(
    "--nodata",
    cls=ListOption,
    metavar="VALUES",
    help="Values of features that mean no data, such as 0,nan. Rows with one of them are skipped. "
    "Values that an array declares as missing (_FillValue) need no option.",
)
unlabelled_option = click.option(
    "--unlabelled",
    cls=ListOption,
    metavar="LABELS",
    help="Labels that mean no class, separated by commas. Rows with one of them are skipped.",
)


def _as_missing(function: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the options of missing values as one `MissingChoice`, named ``missing``."""

    @wraps(function)
    def command(*args: Any, nodata: str | None, unlabelled: str | None, **options: Any) -> Any:
        return function(*args, missing=MissingChoice.typed(nodata, unlabelled), **options)

    return command


def _as_frame_choice(function: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the options of the coding as one `FrameChoice`, named ``frames``."""

    @wraps(function)
    def command(
        *args: Any, handle_unknown: str | None, categorical: str | None = None, **options: Any
    ) -> Any:
        return function(*args, frames=FrameChoice(categorical, handle_unknown), **options)

    return command


handle_unknown_option = click.option(
    "--handle-unknown",
    type=Known(("error", "ignore")),
    help="Meaning of a category that the training did not have: an error, or 0 in all features of "
    "its column.  [default: that of the training, or error]",
)
known_coding_options = _chain(handle_unknown_option, _as_frame_choice)
coding_options = _chain(
    click.option(
        "--categorical",
        metavar="COLUMNS",
        help="Columns of Parquet that are coded one-hot, separated by commas, or from_dtype for "
        "those of strings and categories.",
    ),
    handle_unknown_option,
    _as_frame_choice,
)
missing_values_options = _chain(nodata_option, unlabelled_option, _as_missing)
memory_option = click.option(
    "--memory",
    type=Bytes(),
    help="Memory limit of this process, such as 2GiB.  [default: no limit]",
)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace the output of an earlier command."
)


def _normalising(function: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the options on counts to a command as one `Normalisation`, named ``how``."""

    @wraps(function)
    def command(*args: Any, normalize: float | None, log1p: bool, **options: Any) -> Any:
        from dsoftmax.data.counts import Normalisation

        if normalize is not None and not 0 < normalize < float("inf"):
            raise OptionError(
                f"--normalize is {normalize:g}; expected the positive sum of a row. Pass for "
                "example 1e4."
            )
        return function(*args, how=Normalisation(normalize, log1p), **options)

    return command


normalize_options = _chain(
    click.option(
        "--normalize",
        type=float,
        metavar="TOTAL",
        help="Divide every row of X by its sum over all features, and multiply it by TOTAL, such "
        "as 1e4. The model does the same with new rows.",
    ),
    click.option(
        "--log1p",
        is_flag=True,
        help="Replace x in X by log(1 + x), after --normalize. The model does the same with new "
        "rows.",
    ),
    _normalising,
)


def _joined(function: Callable[..., Any]) -> Callable[..., Any]:
    """Pass the engine options to a command as one `EngineChoice`, named ``choice``."""

    @wraps(function)
    def command(*args: Any, **options: Any) -> Any:
        names = (
            "engine", "workers", "scheduler", "scheduler_file", "memory", "spool", "spool_limit",
            "tls_ca_file", "tls_cert", "tls_key",
        )  # fmt: skip
        chosen = {name: options.pop(name) for name in names}
        return function(*args, choice=engine_choice(**chosen), **options)

    return command


engine_options = _chain(
    click.option(
        "--engine",
        type=Known(ENGINES),
        help="Where the passes run: one thread or all threads of this process, or a dask cluster.  "
        "[default: threads; cluster with --workers, --scheduler or --scheduler-file]",
    ),
    click.option(
        "--workers",
        type=int,
        metavar="N",
        help="Start a dask cluster of N worker processes on this machine.",
    ),
    click.option(
        "--scheduler",
        metavar="ADDRESS",
        help="Use the running dask cluster at this address, such as tcp://host:8786.",
    ),
    click.option(
        "--scheduler-file",
        metavar="FILE",
        help="Use the running dask cluster whose scheduler wrote this file.",
    ),
    click.option(
        "--tls-ca-file",
        metavar="FILE",
        help="Certificates of the authority that signed those of an encrypted cluster (tls://…).",
    ),
    click.option("--tls-cert", metavar="FILE", help="Certificate of this process."),
    click.option("--tls-key", metavar="FILE", help="Private key of --tls-cert."),
    click.option(
        "--memory",
        type=Bytes(),
        help="Memory limit, such as 2GiB: of this process, or of this process and all --workers "
        "together.  [default: no limit]",
    ),
    click.option(
        "--spool",
        metavar="DIRECTORY",
        help="Directory on a local disk for decoded blocks that memory cannot cache. Later passes "
        "read them from there.",
    ),
    click.option(
        "--spool-limit",
        type=Bytes(),
        help="Disk space of each process in --spool.  [default: half of the free space]",
    ),
    _joined,
)
objective_options = _chain(
    click.option(
        "--C",
        "C",
        cls=ListOption,
        type=Numbers(),
        default=("1.0",),
        show_default=False,
        help="Inverse strength of the penalty; inf for no penalty. With --folds, several values "
        "separated by commas; all of them train in the same passes.  [default: 1.0]",
    ),
    click.option(
        "--l1-ratio",
        type=float,
        default=0.0,
        show_default=True,
        help="Fraction of the penalty that is L1, 0 to 1. The rest is L2.",
    ),
    click.option(
        "--folds",
        type=int,
        metavar="N",
        help="Cross-validate every C on N folds, and save the model with the best C.",
    ),
    click.option(
        "--fold-column",
        metavar="ARRAY",
        help="Path of the number of each row's fold, in DATA or in another store: 0 to N-1, or -1 "
        "for a row that all models train on. Needs --folds N.",
    ),
    click.option(
        "--scoring",
        type=Known(tuple(SCORINGS)),
        help="Score that chooses C with --folds: the highest mean accuracy, or the lowest mean "
        "log loss. neg_log_loss and log_loss mean the same.  [default: accuracy]",
    ),
    click.option(
        "--validation-fraction",
        type=float,
        metavar="FRACTION",
        help="Hold out this fraction of the rows as a validation set. Training stops when the "
        "loss on it no longer falls.",
    ),
    click.option("--solver", cls=SolverOption, metavar="NAME", default="auto", show_default=True),
    click.option(
        "--scale",
        type=Known(("standard",)),
        help="Standardise the features: the penalty is on coefficients of features with mean 0 "
        "and standard deviation 1. The model takes features as they are stored.",
    ),
    click.option("--no-intercept", is_flag=True, help="Fix the intercepts at 0."),
    click.option(
        "--class-weight",
        cls=ListOption,
        metavar="WEIGHTS",
        help="Weights of the classes: balanced, or label=weight,label=weight.",
    ),
    click.option(
        "--classes",
        cls=ListOption,
        metavar="LABELS",
        help="All class labels, separated by commas.  [default: the labels that the first pass "
        "finds]",
    ),
    click.option(
        "--dtype",
        type=Known(DTYPES),
        help="Dtype of the products.  [default: float32 if it holds the stored values exactly, "
        "otherwise float64]",
    ),
    click.option(
        "--kernel",
        type=Known(KERNELS),
        default="auto",
        show_default=True,
        help="Implementation of the arithmetic. fused is compiled by numba, and auto uses it for "
        "large data.",
    ),
)
stopping_options = _chain(
    click.option(
        "--tol",
        type=float,
        default=1e-4,
        show_default=True,
        help="Training has converged when max|∇F| is at most this.",
    ),
    click.option(
        "--max-iter",
        type=int,
        default=100,
        show_default=True,
        help="Largest number of iterations.",
    ),
    click.option(
        "--n-iter-no-change",
        type=int,
        default=5,
        show_default=True,
        help="Training with a validation set stops after this number of iterations without a "
        "smaller loss on it.",
    ),
)
