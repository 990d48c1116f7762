"""The seams that every part of the package agrees on: transitions, policies, agents, metrics."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from envs.base import Env
from envs.episode import EpisodeStats


class Transition(NamedTuple):
    """Self-contained steps of experience; leading axes [T, B] out of a rollout, [batch] out of a replay."""

    obs: Any  # [..., *obs] the observation acted on
    action: Any  # [..., *action]
    reward: jax.Array  # f32[...]
    terminated: jax.Array  # bool[...] the MDP ended: nothing is bootstrapped beyond
    truncated: jax.Array  # bool[...] the time limit cut the episode: the value of next_obs still counts
    next_obs: Any  # [..., *obs] the true successor, also where the episode ended
    extras: Any  # whatever the policy attached, e.g. the log-probability of the action


class Policy(NamedTuple):
    """How to act. The same seam serves feed-forward and recurrent networks, tables and planners."""

    act: Callable[[jax.Array, Any, Any], tuple[Any, Any, Any]]
    """(key, obs [B, ...], memory [B, ...]) -> (action [B, ...], memory [B, ...], extras [B, ...]); one key a step."""
    memory: Any = ()
    """The memory of ONE environment at the start of an episode (no batch axis); () for feed-forward policies."""


class Metrics(NamedTuple):
    """What one iteration reports: scalars only, whatever the number of environments and steps."""

    episodes: EpisodeStats  # the episodes that ended in this iteration
    scalars: dict[str, jax.Array]  # f32 each: losses and other diagnostics of the learner


class Agent(NamedTuple):
    """An algorithm bound to an environment and a configuration: three pure functions and what is static about them.

    `init`, `step` and `policy` can be jitted, vmapped over runs and scanned. The state is a pytree of arrays that
    holds everything in which two runs can differ, their hyper-parameters (`hp`) and `env_params` included.
    """

    init: Callable[[jax.Array, Any, Any], Any]
    """(key, hyperparams, env_params) -> State. Off-policy agents fill their replay here (`warmup_steps`)."""
    step: Callable[[Any], tuple[Any, Metrics]]
    """(State) -> (State, Metrics): one iteration, collect then learn."""
    policy: Callable[[Any], Policy]
    """(State) -> Policy: the greedy policy, for evaluation and export."""
    steps_per_iteration: int
    """Environment steps, over all parallel environments, that one `step` takes."""
    warmup_steps: int
    """Environment steps that `init` takes."""
    name: str
    """Registered name, e.g. "ppo"."""
    env: Env
    """The environment that `init` and `step` act in."""
    config: Any
    """The frozen Config that the agent was made with."""
