"""What stays with a process between passes: decoded blocks in memory, and on a local disk."""
