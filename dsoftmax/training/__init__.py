"""The run: a loop of passes."""
