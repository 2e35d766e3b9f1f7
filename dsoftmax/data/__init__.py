"""Sources of rows.

A new storage is one file, one line in `open_source`, and a test that calls `check_source`.
"""
