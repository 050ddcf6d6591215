"""Files that ask for far more memory or time than they have bytes, and what each costs."""
