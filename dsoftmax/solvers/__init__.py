"""Ways to the optimum, one algorithm a folder. To add one: a file, a line in the table, and `check_solver` passes."""
