"""Where rows come from: one storage a file. To add one: a file, a line in `open_source`, and `check_source` passes."""
