"""Planners: they take a model, in arrays or as a function, and learn nothing."""
