"""What an off-policy run gathers: running episodes, a replay of self-contained transitions, statistics of observations.

Policies given to it think in the unit box and see normalised observations; the replay holds actions of the unit box and
raw observations, which are normalised by the statistics of the moment when they are drawn.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from envs import episode
from envs.base import Env
from envs.episode import EpisodeState, EpisodeStats
from envs.errors import InputError
from envs.spaces import Box, Discrete
from jaxrl import n_step as n_steps
from jaxrl import normalize, replay
from jaxrl.actions import unit_box
from jaxrl.rollout import example as example_of
from jaxrl.rollout import initial_memory, rollout
from jaxrl.types import Policy, Transition


class Experience(NamedTuple):
    """Arrays only: the part of an off-policy agent's State that does not learn."""

    episode: EpisodeState  # [num_envs, ...]
    memory: Any  # [num_envs, ...] of the exploring policy
    window: Any  # [n_step − 1, num_envs, ...] the steps whose transitions are not complete; () for one-step transitions
    replay: Any  # jaxrl.replay.uniform.ReplayState
    obs_moments: Any  # normalize.Moments, or () where observations are not normalised
    env_steps: jax.Array  # i32[]


class Source(NamedTuple):
    """Four pure functions over an Experience; they close over an environment and sizes."""

    init: Callable[..., Experience]
    """(key, env_params, gamma, memory=()) -> Experience, filled by random actions; memory: of one environment."""
    collect: Callable[[Experience, Any, Any, Policy, jax.Array], tuple[Experience, EpisodeStats]]
    """(experience, env_params, gamma, policy, key) -> (experience, finished episodes): rollout_length steps."""
    sample: Callable[[Experience, jax.Array], Transition]
    """(experience, key) -> transitions [draws, batch_size, ...] with normalised observations."""
    in_env: Callable[[Experience, Policy], Policy]
    """(experience, policy of the unit box) -> the same in terms of the environment; extras are its unit actions."""
    warmup_steps: int
    """Environment steps that `init` takes."""


def make(
    env: Env,
    *,
    num_envs: int,
    rollout_length: int,
    warmup_steps: int,
    capacity: int,
    batch_size: int,
    draws: int,
    n_step: int = 1,
    normalize_obs: bool = False,
) -> Source:
    """Binds the functions to an environment.

    Args:
        env: the environment; actions Discrete or a Box.
        num_envs: environments stepped in parallel.
        rollout_length: steps in each of them per `collect`.
        warmup_steps: random steps in `init`, rounded up to whole rounds of the environments.
        capacity: transitions that the replay holds.
        batch_size: transitions in a batch.
        draws: batches per `sample`; one gather serves them all.
        n_step: steps that a stored transition reaches over (`jaxrl.n_step`).
        normalize_obs: give observations mean 0 and standard deviation 1 by running statistics.

    Raises:
        InputError: sizes that cannot work together, or observations that cannot be normalised.
    """
    warmup_length = -(-warmup_steps // num_envs)
    if not 1 <= warmup_length * num_envs <= capacity:
        raise InputError(
            f"warmup_steps={warmup_steps} (whole rounds of {num_envs} environments) must be at least 1 and at most "
            f"replay_capacity={capacity}."
        )
    observation_space, action_space = env.observation_space, env.action_space
    if not isinstance(action_space, Box | Discrete):
        raise InputError(f"actions must be Box or Discrete; the environment has {action_space}.")
    if normalize_obs and not isinstance(observation_space, Box):
        raise InputError(f"normalize_obs needs Box observations; the environment has {observation_space}.")
    # The last n − 1 steps of the warm-up complete no transition yet.
    warmup_length += n_step - 1
    example = n_steps.stored(example_of(env), n_step)
    buffer = replay.make(capacity, batch_size * draws, example)

    def normalized(experience: Experience, obs: Any) -> Any:
        return normalize.normalize(experience.obs_moments, obs) if normalize_obs else obs

    def to_env(action: jax.Array) -> jax.Array:
        return unit_box(action_space).to_env(action) if isinstance(action_space, Box) else action

    def in_env(experience: Experience, policy: Policy) -> Policy:
        def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
            action, memory, _ = policy.act(key, normalized(experience, obs), memory)
            return to_env(action), memory, action

        return Policy(act, policy.memory)

    def random_act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        del obs
        if isinstance(action_space, Box):
            return jax.random.uniform(key, (num_envs, *action_space.shape), minval=-1.0, maxval=1.0), memory, ()
        return jax.random.randint(key, (num_envs,), 0, action_space.n), memory, ()

    def gather(
        experience: Experience, env_params: Any, gamma: Any, policy: Policy, key: jax.Array, length: int
    ) -> tuple[Experience, EpisodeStats]:
        policy = in_env(experience, policy)
        out = rollout(env, env_params, policy, experience.episode, experience.memory, key, length)
        steps = out.transitions._replace(action=out.transitions.extras, extras=())
        window, complete = n_steps.extend(experience.window, steps, gamma, n_step)
        rows = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), complete)
        following = Experience(
            episode=out.episode,
            memory=out.memory,
            window=window,
            replay=buffer.add(experience.replay, rows),
            obs_moments=normalize.update(experience.obs_moments, steps.obs) if normalize_obs else (),
            env_steps=experience.env_steps + length * num_envs,
        )
        return following, out.stats

    def init(key: jax.Array, env_params: Any, gamma: Any, memory: Any = ()) -> Experience:
        key_episode, key_warmup = jax.random.split(key)
        policy = Policy(random_act, memory)
        empty = Experience(
            episode=episode.reset(env, env_params, key_episode, num_envs),
            memory=initial_memory(policy, num_envs),
            window=(),
            replay=buffer.init(),
            obs_moments=normalize.init(example.obs) if normalize_obs else (),
            env_steps=jnp.int32(0),
        )
        return gather(empty, env_params, gamma, policy, key_warmup, warmup_length)[0]

    def collect(
        experience: Experience, env_params: Any, gamma: Any, policy: Policy, key: jax.Array
    ) -> tuple[Experience, EpisodeStats]:
        return gather(experience, env_params, gamma, policy, key, rollout_length)

    def sample(experience: Experience, key: jax.Array) -> Transition:
        rows = buffer.sample(experience.replay, key)
        rows = jax.tree.map(lambda x: x.reshape(draws, batch_size, *x.shape[1:]), rows)
        return rows._replace(obs=normalized(experience, rows.obs), next_obs=normalized(experience, rows.next_obs))

    return Source(init, collect, sample, in_env, warmup_length * num_envs)
