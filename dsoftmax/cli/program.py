"""The command line: ``dsoftmax demo | inspect | train | predict | evaluate``.

Exit codes: 0 converged or done, 1 usage or data error, 3 stopped before convergence. Every error is one message on
stderr. Commands import what they need when they run, so that ``dsoftmax --help`` is fast.
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
from dsoftmax.errors import DsoftmaxError

FAILED, STOPPED = 1, interrupts.STOPPED
COMMANDS = {
    "demo": "Make a synthetic scene larger than the memory allowed, train on it, and compare with plain NumPy.",
    "inspect": "Say what is stored and what training would do; reads metadata only.",
    "train": "Train to the optimum; the same command again goes on where it stopped.",
    "predict": "Write the labels of new rows, chunk by chunk.",
    "evaluate": "Compare a model with labelled rows: loss, accuracy, every class.",
}


class Program(click.Group):
    """The group of all commands, and the one place where errors become messages and exit codes."""

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
        extra.setdefault("obj", ["dsoftmax", *args])  # what was typed, for messages and run.json
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
        sys.exit(code if isinstance(code, int) else 0)


def _explain(error: Exception) -> int:
    if os.environ.get("DSOFTMAX_DEBUG"):
        import traceback

        traceback.print_exception(error)
    if isinstance(error, DsoftmaxError):
        _say(str(error))
    elif isinstance(error, OSError) and error.strerror:
        where = " → ".join(str(name) for name in (error.filename, error.filename2) if name)
        _say(
            f"{error.strerror}{f': {where}' if where else ''}. Files that were complete before are as they were."
        )
    elif isinstance(error, MemoryError):
        _say(
            f"This machine has no memory left ({error or type(error).__name__}). Pass --memory, so that the plan keeps to it."
        )
    else:
        _say(
            f"Unexpected {type(error).__name__}: {error}. This is a defect of dsoftmax; please report it with the command and "
            "the traceback that DSOFTMAX_DEBUG=1 shows."
        )
    return FAILED


def _say(message: str) -> None:
    click.echo(f"Error: {message}", err=True)


@click.group(
    cls=Program, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True
)
@click.version_option(__version__, prog_name="dsoftmax")
def main() -> None:
    """Exact softmax regression (multinomial logistic regression) for data that does not fit in memory.

    Start with `dsoftmax demo`, or with your own data: `dsoftmax inspect data.zarr --features X --labels y`.
    """
