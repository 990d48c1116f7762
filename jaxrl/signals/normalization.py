"""Running normalisation of observations and rewards as signals; the statistics are those of `jaxrl.normalize`."""

from typing import Any

import jax
import jax.numpy as jnp

from envs.base import Env
from envs.errors import InputError
from envs.spaces import Box, Space
from jaxrl import normalize
from jaxrl.types import Signal, Transition


def normalisations(env: Env, config: Any, num_envs: int, replayed: bool = False) -> tuple[Signal, ...]:
    """The signals that `config.normalize_obs` and `config.normalize_reward` ask for.

    Args:
        env: the environment.
        config: a loop's Config.
        num_envs: environments side by side.
        replayed: batches come out of a replay.

    Raises:
        InputError: observations that are no Box cannot be normalised.
    """
    chosen = []
    if config.normalize_obs:
        chosen.append(observations(env.observation_space, replayed))
    if getattr(config, "normalize_reward", False):
        chosen.append(rewards(num_envs))
    return tuple(chosen)


def observations(space: Space, replayed: bool = False) -> Signal:
    """Gives observations mean 0 and standard deviation 1.

    An on-policy update sees what the policy saw, and the statistics move afterwards. A replay keeps observations as
    they were; they are normalised by the statistics of the moment when they are drawn.

    Args:
        space: of the observations.
        replayed: batches come out of a replay.

    Raises:
        InputError: it is no Box.
    """
    if not isinstance(space, Box):
        raise InputError(f"normalize_obs needs Box observations; the environment has {space}.")

    def init(key: jax.Array, hp: Any) -> normalize.Moments:
        del key, hp
        return normalize.init(jnp.zeros(space.shape))

    def seen(hp: Any, moments: normalize.Moments, obs: Any) -> Any:
        del hp
        return normalize.normalize(moments, obs)

    def drawn(hp: Any, moments: normalize.Moments, batch: Transition, key: Any = None) -> Transition:
        del key
        return batch._replace(obs=seen(hp, moments, batch.obs), next_obs=seen(hp, moments, batch.next_obs))

    def gathered(
        hp: Any, moments: normalize.Moments, batch: Transition, key: jax.Array
    ) -> tuple[normalize.Moments, Transition, dict[str, jax.Array]]:
        del key
        moved = normalize.update(moments, batch.obs)
        return moved, batch if replayed else drawn(hp, moments, batch), {}

    return Signal(init, gathered, drawn, seen) if replayed else Signal(init, gathered, seen=seen)


def rewards(num_envs: int) -> Signal:
    """Divides the rewards of a rollout by the standard deviation of the running discounted return.

    Args:
        num_envs: environments side by side.
    """

    def init(key: jax.Array, hp: Any) -> normalize.ReturnScale:
        del key, hp
        return normalize.init_return_scale(num_envs)

    def gathered(
        hp: Any, scale: normalize.ReturnScale, batch: Transition, key: jax.Array
    ) -> tuple[normalize.ReturnScale, Transition, dict[str, jax.Array]]:
        del key
        ended = batch.terminated | batch.truncated
        scale, reward = normalize.scale_rewards(scale, batch.reward, ended, hp.gamma)
        return scale, batch._replace(reward=reward), {}

    return Signal(init, gathered)
