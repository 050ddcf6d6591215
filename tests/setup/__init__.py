"""How the environment is made, and what is said when it cannot be."""
