"""Environments made from environments: each wrapper is an `Env` around an `Env`, and changes one thing.

To give a wrapped environment a name, so that the command line can train on it, register it with `wrap=`
(`envs.registry`): "envs.wrappers:frame_stack_4", or any function of an environment, or several in a function of one's
own.
"""

from envs.wrappers.base import Wrapper
from envs.wrappers.observations import FrameStack, frame_stack_4

__all__ = ["FrameStack", "Wrapper", "frame_stack_4"]
