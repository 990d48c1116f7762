"""Probes of actions: several at once, and actions that are not always allowed; see `envs.probes`."""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.probes.rewards import Params, Probe, State
from envs.spaces import Box, MultiDiscrete


@dataclass(frozen=True)
class ActionCombination(Probe):
    """One step, three actions at once, of 2, 3 and 4; the right ones depend on the observation. V* = 1, 1, 1.

    In state s the i-th is right if it is (s + i) mod nvec[i]. The reward is the share of those that are right, so a
    policy that chooses at random earns (1/2 + 1/3 + 1/4) / 3 = 13/36.
    """

    nvec: tuple[int, ...] = (2, 3, 4)

    num_states = 3
    num_starts = 3

    @property
    def action_space(self) -> MultiDiscrete:
        """Three choices."""
        return MultiDiscrete(self.nvec)

    def best(self) -> np.ndarray:
        """Returns the right actions in every state, i32[num_states, 3]."""
        return (np.arange(self.num_states)[:, None] + np.arange(len(self.nvec))).astype(np.int32) % self.nvec

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Pays the share of right actions and terminates."""
        del key
        right = jnp.mean(action == jnp.asarray(self.best())[state.index], dtype=jnp.float32)
        return self._outcome(state.index, state.memory, right, params, ends=True)

    def values(self, gamma: float) -> np.ndarray:
        """[1, 1, 1]."""
        return np.ones(self.num_states)


@dataclass(frozen=True)
class ForbiddenAction(Probe):
    """Two steps; in state 1, which costs 1 to leave, action 1 is not allowed. V* = −γ, −1.

    The observation is {"state": f32[2], "action_mask": bool[2]}. Nothing is known of what is never tried: a target that
    takes the greatest value of all actions, the forbidden one too, is above −γ wherever the network happens to value it
    above −1. Whoever takes it all the same earns 3, so that an agent that ignores the mask is found by its return: 3.
    """

    num_states = 2

    @property
    def observation_space(self) -> dict[str, Box]:
        """The state, one-hot, and what is allowed in it."""
        return {"state": Box(0.0, 1.0, (2,)), "action_mask": Box(0, 1, (2,), np.bool_)}

    def observe(self, state: State) -> dict[str, jax.Array]:
        """Returns the observation of `state`."""
        mask = jnp.stack([jnp.bool_(True), state.index == 0])
        return {"state": jax.nn.one_hot(state.index, 2, dtype=jnp.float32), "action_mask": mask}

    def step(self, key: jax.Array, state: State, action: jax.Array, params: Params) -> Step:
        """Pays nothing in state 0; terminates out of state 1."""
        del key
        last = state.index == 1
        reward = jnp.where(last, jnp.where(action == 1, 3.0, -1.0), 0.0)
        return self._outcome(jnp.int32(1), state.memory, reward, params, ends=last)

    def values(self, gamma: float) -> np.ndarray:
        """[−γ, −1]."""
        return np.array([-gamma, -1.0])


ACTIONS = (ActionCombination, ForbiddenAction)
