"""Jumanji's environments behind our interface.

    from envs.interop.from_jumanji import from_jumanji

    env, params = from_jumanji("Snake-v1")                       # or from_jumanji(jumanji.make("Maze-v0", ...))

Time limits. Almost every Jumanji environment ends with discount 0 both when the task is over and when its time limit is
reached. They are told apart by asking a copy without time limit (its attribute `time_limit` raised beyond reach)
whether it would have ended too: if not, the episode is truncated. Jumanji's clock stays the one that cuts.

Kept: dynamics, observations (nested ones as dicts of their fields, action masks included), `extras` as info.
Lost: parameters (Jumanji has none), pictures (Jumanji draws through viewers that own a window), environments whose
reward is one number for each of several agents.
"""

import copy
import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.errors import InputError, unknown
from envs.interop.foreign import like, load, strong
from envs.interop.gymnasium_spaces import from_gymnasium_space
from envs.spaces import Space

_WRAPPERS = ("AutoResetWrapper", "VmapWrapper", "VmapAutoResetWrapper")


class Params(NamedTuple):
    """None: Jumanji's environments have none."""


@dataclass(frozen=True, eq=False)
class JumanjiEnv(Env[Any, Params]):
    """A Jumanji environment as ours; see `from_jumanji`."""

    env: Any  # Jumanji's
    endless: Any  # the same without time limit
    spaces: tuple[Space, Space]  # of observations and of actions

    @property
    def random_step(self) -> bool:
        """False: Jumanji keeps keys in its state."""
        return False

    @property
    def observation_space(self) -> Space:
        """Jumanji's, in ours."""
        return self.spaces[0]

    @property
    def action_space(self) -> Space:
        """Jumanji's, in ours."""
        return self.spaces[1]

    def default_params(self) -> Params:
        """None."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[Any, Any]:
        """Draws Jumanji's initial state."""
        del params
        state, timestep = self.env.reset(key)
        return self._observation(timestep), strong(state)

    def step(self, key: jax.Array, state: Any, action: Any, params: Params) -> Step:
        """Takes Jumanji's step."""
        del key, params
        spec = self.env.action_spec
        action = jnp.asarray(action, spec.dtype).reshape(spec.shape)
        following, timestep = self.env.step(state, action)
        # Of this second step the compiler keeps what the flag needs.
        _, without_limit = self.endless.step(state, action)
        terminated = without_limit.last() & (without_limit.discount == 0)
        return Step(
            self._observation(timestep),
            like(following, state),
            jnp.asarray(timestep.reward, jnp.float32),
            terminated,
            timestep.extras or {},
            timestep.last() & ~terminated,
        )

    def render(self, state: Any, params: Params) -> np.ndarray:
        """Not possible.

        Raises:
            InputError: always.
        """
        raise InputError("Jumanji draws through viewers that own a window: use the render of its own environment.")

    def _observation(self, timestep: Any) -> Any:
        return like(_plain(timestep.observation), self.observation_space)


def from_jumanji(env: Any, **options: Any) -> tuple[JumanjiEnv, Params]:
    """Puts a Jumanji environment behind our interface.

    Args:
        env: the name of one of Jumanji's, or a Jumanji environment without wrappers that batch or restart.
        options: of the named environment, e.g. time_limit=100.

    Returns:
        (env, params), as `envs.make` does.

    Raises:
        InputError: Jumanji is not installed, it knows no such name, the environment wears such wrappers, or pays
            several agents.
    """
    jumanji = load("jumanji", "jumanji")
    if isinstance(env, str):
        names = jumanji.registered_environments()
        if env not in names:
            raise unknown("Jumanji environment", env, names)
        env = jumanji.make(env, **options)
    name = type(env).__name__
    if name in _WRAPPERS:
        raise InputError(f"give the bare environment, without {name}: batches and restarts are those of envs.episode.")
    if env.reward_spec.shape != ():
        raise InputError(f"{name} pays {env.reward_spec.shape} rewards in each step; only one can be handled here.")
    convert = load("jumanji.specs", "jumanji").jumanji_specs_to_gym_spaces
    observation_space, action_space = (
        from_gymnasium_space(convert(spec)) for spec in (env.observation_spec, env.action_spec)
    )
    endless = copy.copy(env)
    limit = getattr(env, "time_limit", None)
    if limit is not None:
        endless.time_limit = 2**30
    return JumanjiEnv(env, endless, (observation_space, action_space), max_steps=limit), Params()


def _plain(obs: Any) -> Any:
    """Turns named tuples and dataclasses into dicts of their fields."""
    if hasattr(obs, "_asdict"):
        return {name: _plain(value) for name, value in obs._asdict().items()}
    if dataclasses.is_dataclass(obs):
        return {field.name: _plain(getattr(obs, field.name)) for field in dataclasses.fields(obs)}
    return obs
