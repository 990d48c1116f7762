"""Wrappers that change the parameters."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Step
from envs.errors import InputError, unknown
from envs.wrappers.base import Wrapper, flat


class Range(NamedTuple):
    """Where a parameter is drawn from, once per episode."""

    field: str  # the parameter's name
    low: float
    high: float
    log: bool = False  # uniform in its logarithm, instead of uniform


class Drawn(NamedTuple):
    """A wrapped state and the parameters of its episode."""

    env: Any  # the state of the wrapped environment
    values: jax.Array  # f32[number of ranges] in the order of `ranges`


@dataclass(frozen=True)
class RandomParams(Wrapper):
    """Draws some parameters anew for every episode, independently of one another (domain randomisation).

    Tobin et al. (2017); Peng et al. (2018). What was drawn is part of the state and not observed. In the parameters
    of the wrapper, a field `length` that is drawn gives way to its bounds, `length_low` and `length_high`, so that
    ranges can be swept, or widened while training.
    """

    ranges: tuple[Range, ...]  # the bounds here are the standard values of the parameters

    def __post_init__(self) -> None:
        """Raises InputError for a name that is no scalar float parameter, or appears twice, or an impossible range."""
        super().__post_init__()
        object.__setattr__(self, "ranges", tuple(Range(*r) for r in self.ranges))  # plain tuples come from flags
        params = self.env.default_params()
        scalars = [
            name
            for name in getattr(params, "_fields", ())
            if np.ndim(getattr(params, name)) == 0
            and np.issubdtype(np.asarray(getattr(params, name)).dtype, np.floating)
        ]
        for r in self.ranges:
            if r.field not in scalars:
                raise unknown("scalar float parameter", r.field, scalars)
            if not (r.low <= r.high and np.isfinite([r.low, r.high]).all() and (r.low > 0 or not r.log)):
                raise InputError(f"RandomParams: {r} must be finite, with low ≤ high, and positive where log is set.")
        if not self.ranges or len({r.field for r in self.ranges}) < len(self.ranges):
            raise InputError(f"RandomParams needs one or more ranges of different parameters, got {self.ranges}.")

    def default_params(self) -> Any:
        """The parameters of `env` that are not drawn, then the bounds of the others."""
        params = self.env.default_params()._asdict()
        for r in self.ranges:
            del params[r.field]
        for r in self.ranges:
            params |= {f"{r.field}_low": r.low, f"{r.field}_high": r.high}
        return flat(*params)(*params.values())

    def _of_episode(self, params: Any, values: jax.Array) -> Any:
        """The parameters of `env`: those that are drawn from `values`, the others from `params`."""
        drawn = {r.field: values[i] for i, r in enumerate(self.ranges)}
        own = self.env.default_params()
        return type(own)(*(drawn[name] if name in drawn else getattr(params, name) for name in own._fields))

    def reset(self, key: jax.Array, params: Any) -> tuple[Any, Drawn]:
        """Draws the parameters of the episode, then its start."""
        key_params, key = jax.random.split(key)
        low, high = (
            jnp.stack([jnp.asarray(getattr(params, f"{r.field}_{end}"), jnp.float32) for r in self.ranges])
            for end in ("low", "high")
        )
        log = np.array([r.log for r in self.ranges])
        share = jax.random.uniform(key_params, log.shape)
        # The bounds of the others go through no logarithm: it may not exist, and not even a gradient may see it.
        ratio = jnp.where(log, high, 1.0) / jnp.where(log, low, 1.0)
        values = jnp.where(log, low * ratio**share, low + (high - low) * share)
        values = jnp.clip(values, low, high)  # rounding
        obs, state = self.env.reset(key, self._of_episode(params, values))
        return obs, Drawn(state, values)

    def step(self, key: jax.Array, state: Drawn, action: Any, params: Any) -> Step:
        """Steps `env` with the parameters of the episode."""
        out = self.env.step(key, state.env, action, self._of_episode(params, state.values))
        return out._replace(state=Drawn(out.state, state.values))

    def render(self, state: Drawn, params: Any) -> np.ndarray:
        """The picture that `env` draws."""
        return self.env.render(state.env, self._of_episode(params, state.values))
