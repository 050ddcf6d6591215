# The time loop, for other compiled modules: walk.pxd. Nothing is public in Python.
