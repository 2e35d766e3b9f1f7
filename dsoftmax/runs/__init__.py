"""A run on disk: what was asked, the passes, and where to resume."""
