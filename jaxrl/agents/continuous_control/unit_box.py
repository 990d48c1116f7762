"""What the agents of this family share: sizes, and how policies of the unit box act and explore."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from jaxrl import exploration, networks
from jaxrl.distributions import SquashedNormal
from jaxrl.loops import off_policy
from jaxrl.types import Policy


@dataclass(frozen=True)
class Config(off_policy.Config):
    """What is static: a new value means a new compilation."""

    hidden: tuple[int, ...] = (256, 256)
    """Sizes of the dense layers, in all networks."""
    activation: networks.Activation = "relu"
    """After every dense layer."""


def greedy(action: Callable[[Any], jax.Array]) -> Policy:
    """Takes what `action` says: obs [B, ...] -> f32[B, D] in the unit box."""

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        del key
        return action(obs), memory, ()

    return Policy(act)


def sampling(action: Callable[[jax.Array, Any], jax.Array]) -> Policy:
    """As `greedy`, for actions that are drawn: (key, obs [B, ...]) -> f32[B, D] in the unit box."""
    return Policy(lambda key, obs, memory: (action(key, obs), memory, ()))


def noisy(action: Callable[[Any], jax.Array], size: int, theta: Any, std: Any) -> Policy:
    """As `greedy`, with noise that is new at every step to the part θ, and clipped to the box (`exploration.ou_step`).

    Args:
        action: obs [B, ...] -> f32[B, D] in the unit box.
        size: D.
        theta: 1: independent noise; less: correlated in time.
        std: of what is new, in the unit box.
    """

    def act(key: jax.Array, obs: Any, noise: jax.Array) -> tuple[Any, Any, Any]:
        noise = exploration.ou_step(key, noise, theta, std, 1.0)
        return jnp.clip(action(obs) + noise, -1.0, 1.0), noise, ()

    return Policy(act, exploration.ou_init((size,)))


def correlated(policy: Callable[[Any], SquashedNormal], size: int, theta: Any) -> Policy:
    """Draws of a squashed Gaussian whose noise is new at every step to the part θ; at θ = 1 they are independent.

    Args:
        policy: obs [B, ...] -> the distribution over [B, D].
        size: D.
        theta: the part that is new.
    """
    scale = jnp.sqrt(1.0 - jnp.square(1.0 - theta))  # the noise settles at standard deviation 1

    def act(key: jax.Array, obs: Any, noise: jax.Array) -> tuple[Any, Any, Any]:
        noise = exploration.ou_step(key, noise, theta, scale, 1.0)
        pi = policy(obs)
        return jnp.tanh(pi.mean + pi.std * noise), noise, ()

    return Policy(act, exploration.ou_init((size,)))
