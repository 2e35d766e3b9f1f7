"""Public contracts: `check_source`, `check_engine`, `check_solver`."""
