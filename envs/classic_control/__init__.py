"""Gymnasium's classic-control tasks."""
