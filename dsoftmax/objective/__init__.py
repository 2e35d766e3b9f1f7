"""From sums to the objective F."""
