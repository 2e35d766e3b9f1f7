"""Textbook solvers, kept as references: `auto` never takes them."""
