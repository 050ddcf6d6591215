# What the module has is for the other extensions alone.
