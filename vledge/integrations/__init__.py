"""What vledge does together with other packages, each imported only by the module of its name."""
