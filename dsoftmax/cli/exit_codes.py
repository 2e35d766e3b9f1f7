"""The exit codes of all commands."""

DONE = 0
"""Training converged, or another command did what was asked."""
FAILED = 1
"""An option, the data or a file is wrong. One message on stderr says which."""
STOPPED = 3
"""Training stopped before convergence, or a signal interrupted the command."""
