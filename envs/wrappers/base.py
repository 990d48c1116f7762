"""The base of all wrappers.

Static fields: the time limit stays the innermost environment's, and `wrapper.replace(max_steps=100)` changes it there,
as every static field of every layer can be changed from outside.

Parameters: those of the wrapped environment, followed by the wrapper's own (`own_params`) in one flat named tuple. So
`params.length`, `params._replace(length=0.7)`, the registry, the command line and sweeps work as on the bare
environment, however many layers there are. `inner` takes them apart again.
"""

import collections
import dataclasses
import functools
from dataclasses import dataclass
from typing import Any, Self

import jax
import numpy as np

from envs.base import Env, Game, Step
from envs.errors import InputError
from envs.spaces import Space


@dataclass(frozen=True)
class Wrapper(Env[Any, Any]):
    """Passes everything on to `env`; the base of all wrappers."""

    env: Env
    max_steps: int | None = dataclasses.field(init=False, default=None)  # of `env`

    def __post_init__(self) -> None:
        """Takes over the time limit.

        Raises:
            InputError: `env` is a game: a wrapper would hide its players and whose turn it is.
        """
        if isinstance(self.env, Game):
            raise InputError(
                f"{type(self).__name__} is for environments of one player; {type(self.env).__name__} has more."
            )
        object.__setattr__(self, "max_steps", self.env.max_steps)

    def options(self) -> dict[str, Any]:
        """The static fields of all layers; where two layers share a name, the outermost one's."""
        return self.env.options() | {name: getattr(self, name) for name in self._own_options()}

    def replace(self, **changes: Any) -> Self:
        """Returns a copy in which some of `options` have other values, in whichever layer they are."""
        own = {name: value for name, value in changes.items() if name in self._own_options()}
        inner = {name: value for name, value in changes.items() if name not in own}
        return dataclasses.replace(self, env=self.env.replace(**inner), **own)

    def _own_options(self) -> list[str]:
        return [field.name for field in dataclasses.fields(self) if field.init and field.name != "env"]

    def own_params(self) -> dict[str, Any]:
        """The wrapper's own parameters and their standard values; {} for most.

        A static field of the same name holds the standard value: `Wrapper(env, noise=0.1)`.
        """
        return {}

    def default_params(self) -> Any:
        """The parameters of `env`, then `own_params`.

        Raises:
            InputError: they share a name, or those of `env` are no named tuple that could be extended.
        """
        params, own = self.env.default_params(), self.own_params()
        if not own:
            return params
        name = type(self).__name__
        fields = getattr(params, "_fields", None if params != () else ())
        if fields is None:
            raise InputError(f"{name} cannot add {', '.join(own)} to parameters of type {type(params).__name__}.")
        for field in own:
            if field in fields:
                raise InputError(f"{name}: the wrapped environment already has a parameter {field!r}.")
        return flat(*fields, *own)(*params, *own.values())

    def inner(self, params: Any) -> Any:
        """Returns the parameters of `env` out of the wrapper's."""
        if not self.own_params():
            return params
        own = self.env.default_params()
        return type(own)(*params[: len(own)]) if own else own

    def keys(self, key: jax.Array) -> tuple[jax.Array, jax.Array]:
        """Returns (a key for the wrapper's own draws in a step, the key for the step of `env`)."""
        own, inner = jax.random.split(key) if self.env.random_step else (key, key)
        return own, inner

    @property
    def random_step(self) -> bool:
        """As in `env`."""
        return self.env.random_step

    @property
    def costly_reset(self) -> bool:
        """As in `env`."""
        return self.env.costly_reset

    @property
    def num_costs(self) -> int:
        """As in `env`."""
        return self.env.num_costs

    def with_own_reward(self) -> Env[Any, Any]:
        """This wrapper around what `env` says; one that changes the reward leaves itself out."""
        inner = self.env.with_own_reward()
        return self if inner == self.env else dataclasses.replace(self, env=inner)

    def held_out(self, params: Any) -> Any:
        """As in `env`; the wrapper's own parameters stay."""
        changed = self.env.held_out(self.inner(params))
        return params._replace(**changed._asdict()) if self.own_params() else changed

    @property
    def observation_space(self) -> Space:
        """As in `env`."""
        return self.env.observation_space

    @property
    def action_space(self) -> Space:
        """As in `env`."""
        return self.env.action_space

    def reset(self, key: jax.Array, params: Any) -> tuple[Any, Any]:
        """Resets `env`."""
        return self.env.reset(key, self.inner(params))

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Steps `env`."""
        return self.env.step(key, state, action, self.inner(params))

    def render(self, state: Any, params: Any) -> np.ndarray:
        """The picture that `env` draws."""
        return self.env.render(state, self.inner(params))


@functools.cache
def flat(*fields: str) -> type:
    """The named tuple with these fields: always the same type for the same fields, so that pytrees match."""
    return collections.namedtuple("Params", fields)
