"""The names of the environments that come with the package. A module is imported when its first name is made."""

from envs.registry import register

register("CartPole-v0", "envs.classic_control.cartpole:CartPole", max_steps=200)
register("CartPole-v1", "envs.classic_control.cartpole:CartPole")
