"""What is learnt before training: statistics, a sample, labels, held-out rows, checks."""
