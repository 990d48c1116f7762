"""Wrappers that change the reward."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp

from envs.base import Env, Step
from envs.errors import InputError
from envs.wrappers.base import Wrapper


@dataclass(frozen=True)
class RewardWrapper(Wrapper):
    """The base of those below: they change nothing but the reward."""

    def with_own_reward(self) -> Env[Any, Any]:
        """What `env` says, without this wrapper."""
        return self.env.with_own_reward()


@dataclass(frozen=True)
class TransformReward(RewardWrapper):
    """Puts the reward through `function`: f32[] -> f32[], a JAX function.

    Two instances are equal only if they hold the same function object: define it once, at module level.
    """

    function: Callable[[jax.Array], jax.Array]

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env` and transforms its reward."""
        out = super().step(key, state, action, params)
        return out._replace(reward=jnp.asarray(self.function(out.reward), jnp.float32))


@dataclass(frozen=True)
class ScaleReward(RewardWrapper):
    """Multiplies the reward by `reward_scale`."""

    reward_scale: float = 1.0  # standard value of the parameter

    def own_params(self) -> dict[str, Any]:
        """`reward_scale`, the factor."""
        return {"reward_scale": self.reward_scale}

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env` and scales its reward."""
        out = super().step(key, state, action, params)
        return out._replace(reward=out.reward * params.reward_scale)


@dataclass(frozen=True)
class ClipReward(RewardWrapper):
    """Clips the reward to `reward_low` … `reward_high`."""

    reward_low: float = -1.0  # standard values of the parameters
    reward_high: float = 1.0

    def own_params(self) -> dict[str, Any]:
        """The bounds."""
        return {"reward_low": self.reward_low, "reward_high": self.reward_high}

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env` and clips its reward."""
        out = super().step(key, state, action, params)
        return out._replace(reward=jnp.clip(out.reward, params.reward_low, params.reward_high))


@dataclass(frozen=True)
class SignReward(RewardWrapper):
    """Replaces the reward by its sign: −1, 0 or 1 (Mnih et al. 2015, for Atari games)."""

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env` and keeps the sign of its reward."""
        out = super().step(key, state, action, params)
        return out._replace(reward=jnp.sign(out.reward))


@dataclass(frozen=True)
class NoisyReward(RewardWrapper):
    """Adds independent Gaussian noise of standard deviation `reward_noise` to every reward.

    Osband et al., "Behaviour Suite for Reinforcement Learning" (2020): its `*_noise` experiments with 0.1 … 10.
    """

    reward_noise: float = 1.0  # standard value of the parameter

    def __post_init__(self) -> None:
        """Raises InputError if `reward_noise` is negative."""
        super().__post_init__()
        if not self.reward_noise >= 0:
            raise InputError(f"NoisyReward: reward_noise={self.reward_noise} must not be negative.")

    def own_params(self) -> dict[str, Any]:
        """`reward_noise`, the standard deviation."""
        return {"reward_noise": self.reward_noise}

    @property
    def random_step(self) -> bool:
        """True."""
        return True

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env` and adds noise to its reward."""
        key_noise, key = self.keys(key)
        out = super().step(key, state, action, params)
        return out._replace(reward=out.reward + params.reward_noise * jax.random.normal(key_noise))


@dataclass(frozen=True)
class PotentialShaping(RewardWrapper):
    """Adds F(s, s') = γ Φ(s') − Φ(s) to the reward, which changes no optimal policy.

    Ng, Harada & Russell, "Policy invariance under reward transformations" (1999), where γ is the agent's discount: that
    is `shaping_discount`, which must be the same number. `potential` is Φ, a JAX function of (state, params) of `env`
    that returns f32[].

    The potential of a terminal state counts as 0, whatever the function says: otherwise the terminal states themselves
    would be rewarded, and the invariance lost. An episode that a time limit cuts off keeps the true Φ(s'), since the
    value that is bootstrapped there is one of the shaped problem as well.
    """

    potential: Callable[[Any, Any], jax.Array]
    shaping_discount: float = 0.99  # standard value of the parameter

    def own_params(self) -> dict[str, Any]:
        """`shaping_discount`, γ."""
        return {"shaping_discount": self.shaping_discount}

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env` and adds the difference of potentials to its reward."""
        inner = self.inner(params)
        out = self.env.step(key, state, action, inner)
        after = jnp.where(out.terminated, 0.0, self.potential(out.state, inner))
        shaping = params.shaping_discount * after - self.potential(state, inner)
        return out._replace(reward=(out.reward + shaping).astype(jnp.float32))
