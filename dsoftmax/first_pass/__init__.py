"""The first pass: statistics, a sample, labels, rows that are held out, and checks."""
