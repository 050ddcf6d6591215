"""Whole models: the session that runs a graph, its plan, and the operators by family."""
