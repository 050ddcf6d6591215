"""Files that are scored, and what is written for each."""
