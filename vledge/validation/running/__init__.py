"""The model under test, run in every way that this machine has, and laid open value by value."""
