"""The native program of a graph: nodes lowered to instructions that run in one C loop.

`lowering` says what a lowering is and finds it, the families beside it hold them, `types` infers
element types, `clusters` joins nodes that run as one, `emit` makes the program.
"""
