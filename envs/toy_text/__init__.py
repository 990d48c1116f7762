"""Gymnasium's toy-text environments, and the small MDPs of Sutton & Barto's book."""
