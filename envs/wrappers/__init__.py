"""Environments made from environments: each wrapper is an `Env` around an `Env`, and changes one thing.

To give a wrapped environment a name, so that the command line can train on it, register it with `wrap=`
(`envs.registry`): "envs.wrappers:frame_stack_4", or any function of an environment, which may apply several.
"""

from envs.wrappers.actions import ActionRepeat, StickyActions
from envs.wrappers.base import Wrapper
from envs.wrappers.observations import (
    EnumerateObservation,
    FlattenObservation,
    FrameStack,
    HiddenCoordinates,
    LastActionReward,
    TimeObservation,
    TransformObservation,
    frame_stack_4,
    keep_0_1,
    keep_0_2,
)
from envs.wrappers.parameters import RandomParams, Range
from envs.wrappers.rewards import ClipReward, NoisyReward, PotentialShaping, ScaleReward, SignReward, TransformReward

__all__ = [
    "ActionRepeat",
    "ClipReward",
    "EnumerateObservation",
    "FlattenObservation",
    "FrameStack",
    "HiddenCoordinates",
    "LastActionReward",
    "NoisyReward",
    "PotentialShaping",
    "RandomParams",
    "Range",
    "ScaleReward",
    "SignReward",
    "StickyActions",
    "TimeObservation",
    "TransformObservation",
    "TransformReward",
    "Wrapper",
    "frame_stack_4",
    "keep_0_1",
    "keep_0_2",
]
