# Beside this the module is for the other extensions alone.
import numpy as np

def overlaps_itself(array: np.ndarray) -> bool: ...
