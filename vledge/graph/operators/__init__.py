"""The operators, one module a family; the registry imports every module here."""
