"""Two users' ways from nothing to a model that runs, as scripts: `make paths`."""
