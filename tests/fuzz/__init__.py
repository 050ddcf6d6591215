"""Readers and operators under inputs that are changed at random, towards what was not reached."""
