"""What watches a run: it sees every pass and changes nothing."""
