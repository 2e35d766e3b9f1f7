"""Ways to visit chunks and add what the visits return."""
