"""``python -m dsoftmax``: the command line."""

from dsoftmax.cli import main

if __name__ == "__main__":
    main(prog_name="dsoftmax")
