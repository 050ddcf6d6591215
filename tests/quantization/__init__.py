"""Small weights for layers and models."""
