"""The seams that every part of the package agrees on: transitions, policies, algorithms, signals, agents, metrics."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax

from envs.base import Env
from envs.episode import EpisodeStats


class Seats(NamedTuple):
    """Who plays at a step of a game of N players."""

    to_move: jax.Array  # i32[...] whose turn it is; −1: all move at once
    alive: jax.Array  # bool[..., N] who still takes part


class Transition(NamedTuple):
    """Self-contained steps of experience; leading axes [T, B] out of a rollout, [batch] out of a replay.

    An absent part is (), which costs nothing.
    """

    obs: Any  # [..., *obs] the observation acted on
    action: Any  # [..., *action]
    reward: jax.Array  # f32[...]
    terminated: jax.Array  # bool[...] the MDP ended: nothing is bootstrapped beyond
    truncated: jax.Array  # bool[...] the time limit cut the episode: the value of next_obs still counts
    next_obs: Any  # [..., *obs] the true successor, also where the episode ended
    extras: Any = ()  # what the policy attached, in a type of its owner's, e.g. `policies.Sampled`
    discount: Any = ()  # f32[...] of a step that reaches over several: γ^k (1 − terminated); (): γ (1 − terminated)
    weight: Any = ()  # f32[...] how much the step counts in a loss; (): all alike
    cost: Any = ()  # f32[..., K] of the step; (): the environment has none
    memory: Any = ()  # [B, ...] of the policy before the first of these steps; (): it has none
    seats: Any = ()  # `Seats`; (): one player


class Policy(NamedTuple):
    """How to act. The same seam serves feed-forward and recurrent networks, tables and planners."""

    act: Callable[[jax.Array, Any, Any], tuple[Any, Any, Any]]
    """(key, obs [B, ...], memory [B, ...]) -> (action [B, ...], memory [B, ...], extras [B, ...]); one key a step."""
    memory: Any = ()
    """The memory of ONE environment at the start of an episode (no batch axis); () for feed-forward policies."""


class Context(NamedTuple):
    """What an algorithm may know beside its own state and hyper-parameters."""

    shared: Any = ()  # what all runs share: a dataset, a reference policy; () for most
    env_params: Any = ()  # of the run's environment
    progress: Any = None  # f32[] how far the run is, from 0 to 1; None: hp.total_steps is not given


class Diagnostics(NamedTuple):
    """What an update reports."""

    scalars: dict[str, jax.Array]  # f32 each: losses and the like
    priority: Any = ()  # f32[batch] how surprising each row was, for prioritised replay; (): not told


class Algorithm(NamedTuple):
    """What learns, knowing neither environment nor loop: pure functions that close over networks and a Config.

    L stands for the algorithm's Learner, a pytree of arrays.
    """

    init: Callable[[jax.Array, Any], Any]
    """(key, hp) -> L."""
    update: Callable[[Any, Context, Any, Transition, jax.Array], tuple[Any, Diagnostics]]
    """(hp, context, L, batch, key) -> (L, Diagnostics). It reads sizes off the batch's own axes."""
    explore: Callable[[Any, Context, Any], Policy]
    """(hp, context, L) -> the policy that gathers experience."""
    greedy: Callable[[Any, Context, Any], Policy]
    """(hp, context, L) -> the policy that is evaluated."""
    init_draws: bool = True
    """Whether `init` uses its key: a table of zeros needs none, and no key is split off for it."""
    update_draws: bool = True
    """Whether `update` uses its key."""


def _as_it_is(hp: Any, state: Any, x: Any, key: jax.Array | None = None) -> Any:
    del hp, state, key
    return x


class Signal(NamedTuple):
    """What happens to experience between environment and learner; a tuple of them composes, the first one first.

    S is the signal's own small state, a pytree of arrays: statistics, a multiplier, a predictor.
    """

    init: Callable[[jax.Array, Any], Any]
    """(key, hp) -> S."""
    gathered: Callable[[Any, Any, Transition, jax.Array], tuple[Any, Transition, dict[str, jax.Array]]]
    """(hp, S, batch [T, B, ...], key) -> (S, batch, scalars): statistics move, rewards and costs are worked on."""
    drawn: Callable[[Any, Any, Transition, jax.Array], Transition] = _as_it_is
    """(hp, S, batch, key) -> batch: what a batch gets when it comes out of a replay or a dataset."""
    seen: Callable[[Any, Any, Any], Any] = _as_it_is
    """(hp, S, obs) -> obs: what the policy sees, acting, evaluated and exported."""
    draws: bool = False
    """Whether the functions use their keys; where no signal does, none are split off for them."""


class Metrics(NamedTuple):
    """What one iteration reports: scalars only, whatever the number of environments and steps."""

    episodes: EpisodeStats  # the episodes that ended in this iteration
    scalars: dict[str, jax.Array]  # f32 each: losses and other diagnostics of the learner


class Evaluated(NamedTuple):
    """One evaluation of an agent, known by its name before training begins."""

    name: str
    env: Env
    params: Callable[[Any, Any], Any]  # (State, shared) -> parameters of `env`
    policy: Callable[[Any, Any], Policy]  # (State, shared) -> who plays


class Agent(NamedTuple):
    """An algorithm bound to a loop, an environment and a configuration: pure functions and what is static about them.

    `init`, `step` and `policy` can be jitted, vmapped over runs and scanned. The state is a pytree of arrays that
    holds everything in which two runs can differ, their hyper-parameters (`hp`) and `env_params` included. What all
    runs have in common and nobody changes is `shared`, one copy for all of them; () where there is no such thing.
    """

    init: Callable[..., Any]
    """(key, hyperparams, env_params, shared=()) -> State. Off-policy agents fill their replay here (`warmup_steps`)."""
    step: Callable[..., tuple[Any, Metrics]]
    """(State, shared=()) -> (State, Metrics): one iteration, collect then learn."""
    policy: Callable[..., Policy]
    """(State, shared=()) -> Policy: the greedy policy, for evaluation and export."""
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
    explore: Callable[..., Policy] | None = None
    """(State, shared=()) -> Policy: the policy that gathers experience; None: there is none that acts alone."""
    evaluations: tuple[Evaluated, ...] = ()
    """What is evaluated beside the greedy policy in the agent's own environment."""
