"""Ways to the optimum, one algorithm per folder.

To add one: a folder, a line in the table, and `check_solver` passes.
"""
