"""``dsoftmax export``: write a model in the format of another program."""

import pickle
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dsoftmax.cli import interrupts
from dsoftmax.cli.exit_codes import DONE
from dsoftmax.cli.options import overwrite_option, run_argument
from dsoftmax.cli.parameters import Known
from dsoftmax.errors import OptionError

if TYPE_CHECKING:
    from dsoftmax.results.model import Model

FORMATS = ("onnx", "json", "sklearn", "celltypist")
DTYPES = ("float64", "float32")


@click.command("export")
@run_argument
@click.option(
    "--to",
    "target",
    required=True,
    type=Known(FORMATS),
    help="Format of the file. sklearn is a pickle of a LogisticRegression, and celltypist a pickle "
    "for celltypist.annotate.",
)
@click.option(
    "--out",
    required=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="File that the command writes.",
)
@click.option(
    "--dtype",
    type=Known(DTYPES),
    help="Dtype of an ONNX file. float32 is one LinearClassifier, and loses digits.  "
    "[default: float64]",
)
@overwrite_option
def command(run: Path, target: str, out: Path, dtype: str | None, overwrite: bool) -> int:
    """Write the model of RUN in the format of another program.

    RUN is a run directory, or a model.zarr. The file appears complete or not at all. A model that
    the format cannot hold is an error.
    """
    with interrupts.shielded():
        from dsoftmax.cli.open_model import open_model
        from dsoftmax.exports.files import require_free

    if dtype is not None and target != "onnx":
        raise OptionError(
            f"--dtype {dtype} is for --to onnx; expected no --dtype with --to {target}, which "
            "keeps float64. Leave it out."
        )
    model = open_model(run)
    require_free(out, overwrite)
    _export(model, target, out, dtype or "float64", overwrite)
    click.echo(f"Model of {len(model.classes)} classes and {model.n_features} features: {out}")
    return DONE


def _export(model: "Model", target: str, out: Path, dtype: str, overwrite: bool) -> None:
    from dsoftmax.exports.files import write_bytes

    if target == "onnx":
        model.to_onnx(out, dtype=dtype, overwrite=overwrite)
    elif target == "json":
        model.to_json(out, overwrite=overwrite)
    elif target == "celltypist":
        model.to_celltypist(out, overwrite=overwrite)
    else:
        write_bytes(out, pickle.dumps(model.to_sklearn(), protocol=4), overwrite)
