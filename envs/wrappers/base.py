"""The base of all wrappers.

The time limit stays the innermost environment's: `wrapper.replace(max_steps=100)` changes it there, as every static
field of every layer can be changed from outside.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Self

import jax
import numpy as np

from envs.base import Env, Step
from envs.spaces import Space


@dataclass(frozen=True)
class Wrapper(Env[Any, Any]):
    """Passes everything on to `env`; the base of all wrappers."""

    env: Env
    max_steps: int | None = dataclasses.field(init=False, default=None)  # of `env`

    def __post_init__(self) -> None:
        """Takes over the time limit."""
        object.__setattr__(self, "max_steps", self.env.max_steps)

    def options(self) -> dict[str, Any]:
        """The static fields of all layers; where two layers share a name, the outermost one's."""
        return self.env.options() | {name: getattr(self, name) for name in self._own()}

    def replace(self, **changes: Any) -> Self:
        """Returns a copy in which some of `options` have other values, in whichever layer they are."""
        own = {name: value for name, value in changes.items() if name in self._own()}
        inner = {name: value for name, value in changes.items() if name not in own}
        return dataclasses.replace(self, env=self.env.replace(**inner), **own)

    def _own(self) -> list[str]:
        return [field.name for field in dataclasses.fields(self) if field.init and field.name != "env"]

    @property
    def random_step(self) -> bool:
        """As in `env`."""
        return self.env.random_step

    @property
    def observation_space(self) -> Space:
        """As in `env`."""
        return self.env.observation_space

    @property
    def action_space(self) -> Space:
        """As in `env`."""
        return self.env.action_space

    def default_params(self) -> Any:
        """The parameters of `env`."""
        return self.env.default_params()

    def reset(self, key: jax.Array, params: Any) -> tuple[Any, Any]:
        """Resets `env`."""
        return self.env.reset(key, params)

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env`."""
        return self.env.step(key, state, action, params)

    def render(self, state: Any, params: Any) -> np.ndarray:
        """The picture that `env` draws."""
        return self.env.render(state, params)
