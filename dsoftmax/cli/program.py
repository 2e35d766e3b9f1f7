"""The command line: ``dsoftmax demo | inspect | train | predict | evaluate | export``.

Every error is one message on stderr; `dsoftmax.cli.exit_codes` lists the exit codes. Commands
import their modules when they run, so ``dsoftmax --help`` is fast.
"""

import os
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from importlib import import_module
from typing import Any, NoReturn

import click

from dsoftmax import __version__
from dsoftmax.cli import interrupts
from dsoftmax.cli.exit_codes import DONE, FAILED, STOPPED
from dsoftmax.data.zarr.remote.options import public_words
from dsoftmax.errors import DsoftmaxError

COMMANDS = {
    "demo": "Train on a synthetic scene larger than the memory limit, and check with NumPy.",
    "inspect": "Show the stored arrays and the plan of training. Reads metadata only.",
    "train": "Train to the optimum. The same command again resumes a stopped run.",
    "predict": "Predict the labels of new rows, chunk by chunk.",
    "evaluate": "Score a model on labelled rows.",
    "export": "Write a model as ONNX, JSON, or for scikit-learn or CellTypist.",
}
"""Name and summary of each command, in the order of ``dsoftmax --help``."""


class Program(click.Group):
    """The group of all commands. Here errors become messages and exit codes."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        with interrupts.shielded():
            command: click.Command = import_module(f"dsoftmax.cli.commands.{cmd_name}").command
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in COMMANDS and not args[0].startswith("-"):
            near = get_close_matches(args[0], COMMANDS, n=1, cutoff=0.4)
            hint = f" Did you mean {near[0]}?" if near else ""
            raise click.UsageError(
                f"There is no command {args[0]!r}.{hint} Commands: {', '.join(COMMANDS)}.", ctx
            )
        return super().resolve_command(ctx, args)

    def main(  # type: ignore[override]
        self, args: Sequence[str] | None = None, prog_name: str | None = None, **extra: Any
    ) -> NoReturn:
        """Run a command and exit with its code."""
        extra.pop("standalone_mode", None)
        args = list(sys.argv[1:] if args is None else args)
        # The command line, for messages and run.json.
        extra.setdefault("obj", public_words(["dsoftmax", *args]))
        try:
            with interrupts.handled(), interrupts.unwrapped():
                code = super().main(args=args, prog_name=prog_name, standalone_mode=False, **extra)
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.ctx.get_help() if error.ctx else "")
            code = FAILED
        except click.UsageError as error:
            error.show()
            code = FAILED
        except click.ClickException as error:
            _say(error.format_message())
            code = FAILED
        except (click.Abort, KeyboardInterrupt):
            _say(interrupts.NOTHING)
            code = STOPPED
        except Exception as error:
            code = _explain(error)
        sys.exit(code if isinstance(code, int) else DONE)


def _explain(error: Exception) -> int:
    """Print one message for an error, and return the exit code."""
    if os.environ.get("DSOFTMAX_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, DsoftmaxError):
        _say(str(error))
    elif isinstance(error, OSError) and error.strerror:
        where = " → ".join(str(name) for name in (error.filename, error.filename2) if name)
        _say(
            f"{error.strerror}{f': {where}' if where else ''}. "
            "Files that were complete before are unchanged."
        )
    elif isinstance(error, MemoryError):
        _say(
            f"This machine has no memory left ({error or type(error).__name__}). "
            "Pass --memory SIZE, and the plan stays below this limit."
        )
    else:
        _say(
            f"Unexpected {type(error).__name__}: {error}. This is a defect of dsoftmax. "
            "Please report it with the command and the traceback, which DSOFTMAX_DEBUG=1 prints."
        )
    return FAILED


def _say(message: str) -> None:
    click.echo(f"Error: {message}", err=True)


@click.group(
    cls=Program, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True
)
@click.version_option(__version__, prog_name="dsoftmax")
def main() -> None:
    """Exact softmax regression (multinomial logistic regression) for data larger than memory.

    Start with `dsoftmax demo`. With your own data, start with
    `dsoftmax inspect data.zarr --features X --labels y`.

    Exit codes: 0 converged or done, 1 error, 3 stopped before convergence.
    """
