"""Rigid-body environments with contact, as Gymnasium's Box2D family."""
