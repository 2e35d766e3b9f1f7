"""``dsoftmax``, ``python -m dsoftmax``: the command line as a process of its own."""

import sys
from typing import NoReturn

from dsoftmax.cli import interrupts


def main() -> NoReturn:
    """Run the command that was typed, and end the process with its exit code."""
    try:
        with interrupts.handled(alone=True):
            try:
                with interrupts.shielded():
                    from dsoftmax.cli.program import main as program
                program(prog_name="dsoftmax")
            except SystemExit as end:
                interrupts.leave(end.code if isinstance(end.code, int) else 0)
    except KeyboardInterrupt:
        print(f"Error: {interrupts.NOTHING}", file=sys.stderr)
    interrupts.leave(interrupts.STOPPED)


if __name__ == "__main__":
    main()
