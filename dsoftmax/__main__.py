"""The command line as a process of its own: ``dsoftmax`` or ``python -m dsoftmax``."""

import sys
from typing import NoReturn

from dsoftmax.cli import exit_codes, interrupts


def main() -> NoReturn:
    """Run the command of the process, and end the process with its exit code."""
    try:
        with interrupts.handled(alone=True):
            try:
                with interrupts.shielded():
                    from dsoftmax.cli.program import main as program
                program(prog_name="dsoftmax")
            except SystemExit as end:
                interrupts.leave(end.code if isinstance(end.code, int) else exit_codes.DONE)
    except KeyboardInterrupt:
        print(f"Error: {interrupts.NOTHING}", file=sys.stderr)
    interrupts.leave(exit_codes.STOPPED)


if __name__ == "__main__":
    main()
