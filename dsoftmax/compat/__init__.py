"""Uses of other libraries beyond their documentation, one file per library.

Tests say when one changed.
"""
