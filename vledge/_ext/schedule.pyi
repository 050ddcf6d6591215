# How threads share a layer, for other compiled modules: schedule.pxd. Nothing is public in Python.
