"""Running normalisation of observations and rewards as signals; the statistics are those of `jaxrl.normalize`."""

from collections.abc import Mapping
from typing import Any

import jax

from envs import spaces
from envs.base import Env
from envs.errors import InputError
from envs.spaces import Box, Space
from jaxrl import masks, normalize
from jaxrl.types import Signal, Transition


def normalisations(env: Env, config: Any, num_envs: int, replayed: bool = False) -> tuple[Signal, ...]:
    """The signals that `config.normalize_obs` and `config.normalize_reward` ask for.

    Args:
        env: the environment.
        config: a loop's Config.
        num_envs: environments side by side.
        replayed: batches come out of a replay.

    Raises:
        InputError: observations without a Box cannot be normalised.
    """
    chosen = []
    if config.normalize_obs:
        chosen.append(observations(env.observation_space, replayed))
    if getattr(config, "normalize_reward", False):
        chosen.append(rewards(num_envs, config.clip_reward))
    return tuple(chosen)


def observations(space: Space, replayed: bool = False) -> Signal:
    """Gives observations mean 0 and standard deviation 1: each number of a Box, also where it is a part of a dict.

    Discrete parts and a mask of actions stay as they are. An on-policy update sees what the policy saw, and the
    statistics move afterwards. A replay keeps observations as they were; they are normalised by the statistics of the
    moment when they are drawn.

    Args:
        space: of the observations.
        replayed: batches come out of a replay.

    Raises:
        InputError: there is no Box in it.
    """
    example = jax.eval_shape(lambda: _boxes(space, spaces.sample(space, jax.random.key(0))))
    if not jax.tree.leaves(example):
        raise InputError(f"normalize_obs needs Box observations; the environment has {space}.")

    def init(key: jax.Array, hp: Any) -> normalize.Moments:
        del key, hp
        return normalize.init(example)

    def seen(hp: Any, moments: normalize.Moments, obs: Any) -> Any:
        del hp
        normal = normalize.normalize(moments, _boxes(space, obs))
        return jax.tree.map(lambda new, old: old if new is None else new, normal, obs, is_leaf=lambda x: x is None)

    def drawn(hp: Any, moments: normalize.Moments, batch: Transition, key: Any = None) -> Transition:
        del key
        return batch._replace(obs=seen(hp, moments, batch.obs), next_obs=seen(hp, moments, batch.next_obs))

    def gathered(
        hp: Any, moments: normalize.Moments, batch: Transition, key: jax.Array
    ) -> tuple[normalize.Moments, Transition, dict[str, jax.Array]]:
        del key
        moved = normalize.update(moments, _boxes(space, batch.obs))
        return moved, batch if replayed else drawn(hp, moments, batch), {}

    return Signal(init, gathered, drawn, seen) if replayed else Signal(init, gathered, seen=seen)


def _boxes(space: Space, obs: Any) -> Any:
    """The parts of an observation that are numbers of a Box; None in the place of every other."""
    if isinstance(space, Mapping):
        return {name: None if name == masks.NAME else _boxes(part, obs[name]) for name, part in space.items()}
    if isinstance(space, tuple):
        return tuple(_boxes(part, element) for part, element in zip(space, obs, strict=True))
    return obs if isinstance(space, Box) else None


def rewards(num_envs: int, clip: float = 10.0) -> Signal:
    """Divides the rewards of a rollout by the standard deviation of the running discounted return.

    Args:
        num_envs: environments side by side.
        clip: the largest size of what comes out.
    """

    def init(key: jax.Array, hp: Any) -> normalize.ReturnScale:
        del key, hp
        return normalize.init_return_scale(num_envs)

    def gathered(
        hp: Any, scale: normalize.ReturnScale, batch: Transition, key: jax.Array
    ) -> tuple[normalize.ReturnScale, Transition, dict[str, jax.Array]]:
        del key
        ended = batch.terminated | batch.truncated
        scale, reward = normalize.scale_rewards(scale, batch.reward, ended, hp.gamma, clip)
        return scale, batch._replace(reward=reward), {}

    return Signal(init, gathered)
