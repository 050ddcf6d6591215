"""The running convolution: the windows that slide, and the products under them."""
