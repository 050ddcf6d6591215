"""Faults and long runs, measured: what docs/reliability.md says of them."""
