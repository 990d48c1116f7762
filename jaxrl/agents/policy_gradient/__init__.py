"""Policies climbed by gradients of their return, from rollouts of their own."""
