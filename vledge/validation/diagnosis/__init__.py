"""Why a model does not agree with its reference: where it parts from it, and what explains that."""
