"""References made: inputs drawn, the framework run, what it gave checked and written."""
