"""The command line as a process of its own: ``dsoftmax`` or ``python -m dsoftmax``."""

import os
import sys
from pathlib import Path
from typing import NoReturn

from dsoftmax.cli import exit_codes, interrupts


def main() -> NoReturn:
    """Run the command of the process, and end the process with its exit code."""
    # A process may be started with closed streams. What is written to them then goes nowhere.
    sys.stdout = sys.stdout or Path(os.devnull).open("w")  # noqa: SIM115
    sys.stderr = sys.stderr or Path(os.devnull).open("w")  # noqa: SIM115
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
