"""Environments with a goal in the observation (`envs.base.GoalEnv`)."""
