"""Exact addition without order, totals of a pass, and work done."""
