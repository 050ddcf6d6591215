# Threads, thresholds and Ctrl-C, for other compiled modules: pool.pxd. Nothing is public in Python.
