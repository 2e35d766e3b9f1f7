"""One spelling of every option, shared by all commands."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from dsoftmax.errors import OptionError

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

ENGINES = ("serial", "threads", "cluster")
DTYPES = ("float32", "float64")
KERNELS = ("auto", "numpy", "fused")
MISSING = ("error", "fill")
SCORINGS = ("accuracy", "log_loss")


class Bytes(click.ParamType):
    """A size such as 512MiB or 2GiB."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        from dsoftmax.system.units import parse_bytes

        return parse_bytes(value, "--memory" if param is None else param.opts[-1])


class Known(click.ParamType):
    """A name from a short list; the nearest is suggested."""

    def __init__(self, known: tuple[str, ...]) -> None:
        self.known = known
        self.name = "|".join(known)

    def get_metavar(self, param: click.Parameter, ctx: click.Context | None = None) -> str:
        return f"[{self.name}]"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value in self.known:
            return str(value)
        from dsoftmax.errors import unknown_option

        option = param.opts[-1] if param is not None else "option"
        raise unknown_option(option, value, self.known)


class Numbers(click.ParamType):
    """A number, or several with commas between them."""

    name = "NUMBER[,…]"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if not isinstance(value, str):
            return tuple(value)
        try:
            return tuple(float(part) for part in value.split(","))
        except ValueError:
            option = param.opts[-1] if param is not None else "option"
            raise OptionError(
                f"{option} {value}: needed is a number, or several with commas between them: 0.01,0.1,1."
            ) from None


class SolverOption(click.Option):
    """Names the solvers in the help that is asked for, from their own table."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        from dsoftmax.solvers.table import AUTO, SOLVERS

        self.help = f"How to get to the optimum: {', '.join((AUTO, *SOLVERS))}."
        return super().get_help_record(ctx)


@dataclass(frozen=True)
class EngineChoice:
    """Where the passes run.

    Attributes
    ----------
    engine : {"serial", "threads", "cluster"}
    workers : int or None
        Processes of a cluster that is started for this command; the cores when None.
    scheduler, scheduler_file : str or None
        A cluster that runs already.
    spool : str or None
        Directory for decoded blocks.
    spool_limit : int or None
        Bytes of them in each process.
    memory : int or None
        Bytes for this process, or for all workers that are started.
    """

    engine: str
    workers: int | None = None
    scheduler: str | None = None
    scheduler_file: str | None = None
    memory: int | None = None
    spool: str | None = None
    spool_limit: int | None = None


def engine_choice(
    engine: str | None,
    workers: int | None,
    scheduler: str | None,
    scheduler_file: str | None,
    memory: int | None,
    spool: str | None = None,
    spool_limit: int | None = None,
) -> EngineChoice:
    """Return where the passes run.

    Raises
    ------
    OptionError
        The options contradict each other, or one of them would do nothing.
    """
    cluster = {"--workers": workers, "--scheduler": scheduler, "--scheduler-file": scheduler_file}
    given = [name for name, value in cluster.items() if value is not None]
    if len(given) > 1:
        raise OptionError(
            f"{' and '.join(given)} contradict each other; a pass runs in one place. Give one of them."
        )
    if given and engine not in (None, "cluster"):
        raise OptionError(
            f"{given[0]} belongs to --engine cluster; --engine {engine} runs in this process. Leave one out."
        )
    if workers is not None and workers < 1:
        raise OptionError(f"--workers {workers}: a cluster needs at least one worker process.")
    if memory is not None and (scheduler or scheduler_file):
        raise OptionError(
            "--memory does nothing on a cluster that runs already: its workers keep the limit they were started with "
            "(`dask worker --memory-limit`). Leave --memory out."
        )
    chosen = engine or ("cluster" if given else "threads")
    if spool is not None and chosen == "serial":
        raise OptionError(
            "--spool does nothing for --engine serial, which keeps no blocks. Leave one of them out."
        )
    if spool_limit is not None and spool is None:
        raise OptionError(
            "--spool-limit does nothing without --spool DIRECTORY. Give both, or leave it out."
        )
    return EngineChoice(chosen, workers, scheduler, scheduler_file, memory, spool, spool_limit)


def _chain(*decorators: Decorator) -> Decorator:
    def apply(function: Callable[..., Any]) -> Callable[..., Any]:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return apply


data_argument = click.argument("data", metavar="DATA")
run_argument = click.argument("run", metavar="RUN", type=click.Path(path_type=Path))
features_option = click.option(
    "--features",
    metavar="ARRAY",
    help="Array of the features in DATA (X, group/X), or another store. Not needed where DATA is an array.",
)
labels_option = click.option(
    "--labels",
    metavar="ARRAY",
    required=True,
    help="Array of the labels, in DATA or another store.",
)
weights_option = click.option(
    "--weights", metavar="ARRAY", help="Array of sample weights, in DATA or another store."
)
groups_option = click.option(
    "--groups",
    metavar="ARRAY",
    help="Array of groups: rows of one group are held out together, by --folds.",
)
validation_option = click.option(
    "--validation",
    metavar="DATA",
    help="Stop where the loss on this store, with arrays of the same names, gets no better.",
)
missing_option = click.option(
    "--missing-chunks",
    type=Known(MISSING),
    default="error",
    show_default=True,
    help="What a chunk that is not stored means.",
)
memory_option = click.option(
    "--memory", type=Bytes(), help="Memory allowed, such as 2GiB; no limit if left out."
)
overwrite_option = click.option(
    "--overwrite", is_flag=True, help="Replace what an earlier command wrote."
)

engine_options = _chain(
    click.option(
        "--engine",
        type=Known(ENGINES),
        help="Where passes run; threads, or cluster with an option below.",
    ),
    click.option(
        "--workers",
        type=int,
        metavar="N",
        help="Start a dask cluster of N processes on this machine.",
    ),
    click.option("--scheduler", metavar="ADDRESS", help="Use the dask cluster at tcp://host:port."),
    click.option(
        "--scheduler-file", metavar="FILE", help="Use the dask cluster that this file names."
    ),
    memory_option,
    click.option(
        "--spool",
        metavar="DIRECTORY",
        help="Keep decoded blocks on this local disk, where memory does not hold them.",
    ),
    click.option(
        "--spool-limit",
        type=Bytes(),
        help="Of the disk for each process.  [default: half of what is free]",
    ),
)
objective_options = _chain(
    click.option(
        "--C",
        "C",
        type=Numbers(),
        default="1.0",
        show_default=True,
        help="Inverse strength of the penalty; inf for none. Several, with --folds, share the passes.",
    ),
    click.option(
        "--l1-ratio",
        type=float,
        default=0.0,
        show_default=True,
        help="Part of the penalty that is L1; the rest is L2.",
    ),
    click.option(
        "--folds",
        type=int,
        metavar="N",
        help="Score every C on N folds, and keep the model of the best.",
    ),
    click.option(
        "--scoring",
        type=Known(SCORINGS),
        help="Of --folds: the best C by this.  [default: accuracy]",
    ),
    click.option(
        "--validation-fraction",
        type=float,
        metavar="PART",
        help="Hold out this part of the rows, and stop where it gets no better.",
    ),
    click.option("--solver", cls=SolverOption, metavar="NAME", default="auto", show_default=True),
    click.option("--no-intercept", is_flag=True, help="Leave the intercepts at 0."),
    click.option(
        "--class-weight", metavar="WEIGHTS", help="balanced, or label=weight,label=weight."
    ),
    click.option(
        "--classes",
        metavar="LABELS",
        help="The classes, a,b,c; found in the first pass if left out.",
    ),
    click.option(
        "--dtype", type=Known(DTYPES), help="Of the products; by what is stored if left out."
    ),
    click.option(
        "--kernel",
        type=Known(KERNELS),
        default="auto",
        show_default=True,
        help="What computes; fused needs numba, and is faster.",
    ),
)
stopping_options = _chain(
    click.option(
        "--tol",
        type=float,
        default=1e-4,
        show_default=True,
        help="Converged when max|∇F| is at most this.",
    ),
    click.option(
        "--max-iter", type=int, default=100, show_default=True, help="Iterations at most."
    ),
    click.option(
        "--n-iter-no-change",
        type=int,
        default=5,
        show_default=True,
        help="Of --validation and --validation-fraction: stop after so many iterations without a smaller loss.",
    ),
)
