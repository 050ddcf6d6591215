"""What Keras writes: ``.keras``, ``.weights.h5`` and ``.h5``, their weights and descriptions."""
