"""gymnax's environments behind our interface.

    import gymnax
    from envs.interop.from_gymnax import from_gymnax

    env, params = from_gymnax(*gymnax.make("CartPole-v1"))      # or from_gymnax("CartPole-v1")
    params = params._replace(length=0.7)

gymnax's `step` restarts by itself and so overwrites the observation in which an episode ended; `step_env` does not,
and only that is used here.

Time limits. Up to gymnax 0.0.9 `done` is a termination or the time limit, without saying which. The limit is a field of
the parameters, `max_steps_in_episode`: raised beyond reach it leaves the terminations of the MDP alone. So the limit
becomes `max_steps` of the environment here, applied by our clock, and is no longer a parameter. An observation that
shows the fraction of the time (DiscountingChain) is still computed with gymnax's limit. From gymnax 1.0 on `step_env`
returns terminations only; the limit is treated in the same way.

Kept: dynamics, parameters (a named tuple here, so that they can be replaced, swept and randomised as ours),
`info`; spaces are what gymnax declares, even where its observations leave them (MemoryChain, UmbrellaChain).
Lost: pictures, since gymnax draws whole recorded episodes with its own Visualizer; gymnax's parameters that
are no numbers.
"""

import dataclasses
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.errors import InputError, unknown
from envs.interop.foreign import bound, like, load, strong
from envs.registry import as_arrays
from envs.spaces import Box, Discrete, Space
from envs.wrappers.base import flat

_NEVER = 2**30


@dataclasses.dataclass(frozen=True, eq=False)
class GymnaxEnv(Env[Any, Any]):
    """A gymnax environment as ours; see `from_gymnax`."""

    env: Any  # gymnax's
    original: Any  # gymnax's parameters, with its time limit
    spaces: tuple[Space, Space]  # of observations and of actions

    limit: ClassVar[str] = "max_steps_in_episode"  # the parameter that is the time limit

    @property
    def observation_space(self) -> Space:
        """gymnax's, in ours; of floats where either the space or the observations are."""
        return self.spaces[0]

    @property
    def action_space(self) -> Space:
        """gymnax's, in ours."""
        return self.spaces[1]

    def default_params(self) -> Any:
        """The parameters of gymnax without the time limit, as a named tuple."""
        values = numbers(self.original)
        values.pop(self.limit, None)
        return flat(*values)(**values)

    def reset(self, key: jax.Array, params: Any) -> tuple[Any, Any]:
        """Draws gymnax's initial state."""
        obs, state = self.env.reset_env(key, self._restored(params))
        return self._observation(obs), strong(state)

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Takes gymnax's step, without its restart and without its time limit."""
        restored = self._restored(params)
        obs, following, reward, terminated, info = self.env.step_env(key, state, action, restored)
        truncated = False
        if hasattr(self.env, "is_truncated"):  # gymnax 1.0: `terminated` is that; time may not be all that cuts
            truncated = self.env.is_truncated(following, self._endless(restored))
        else:
            # What is computed twice here the compiler computes once.
            _, following, reward, terminated, _ = self.env.step_env(key, state, action, self._endless(restored))
        return self._step(state, obs, following, reward, terminated, truncated, info)

    def render(self, state: Any, params: Any) -> np.ndarray:
        """Not possible.

        Raises:
            InputError: always.
        """
        raise InputError("gymnax draws no single states; gymnax.visualize.Visualizer draws recorded episodes.")

    def _restored(self, params: Any) -> Any:
        values = jax.tree.map(jnp.asarray, params._asdict())  # gymnax indexes some of them with traced numbers
        return dataclasses.replace(self.original, **values)

    def _endless(self, restored: Any) -> Any:
        """Parameters of gymnax without a time limit."""
        return dataclasses.replace(restored, **{self.limit: _NEVER}) if hasattr(restored, self.limit) else restored

    def _step(
        self, state: Any, obs: Any, following: Any, reward: Any, terminated: Any, truncated: Any, info: dict[str, Any]
    ) -> Step:
        return Step(
            self._observation(obs),
            like(following, strong(state)),
            jnp.asarray(reward, jnp.float32),
            jnp.asarray(terminated, jnp.bool_),
            {name: value for name, value in info.items() if name != "discount"},  # that is `terminated` again
            jnp.asarray(truncated, jnp.bool_),
        )

    def _observation(self, obs: Any) -> Any:
        return like(obs, self.observation_space)


def from_gymnax(env: Any, params: Any = None, *, max_steps: int | None = None) -> tuple[GymnaxEnv, Any]:
    """Puts a gymnax environment behind our interface.

    Args:
        env: a gymnax environment, or the name of one.
        params: its parameters; gymnax's own by default.
        max_steps: the time limit; by default that of the parameters.

    Returns:
        (env, params), as `envs.make` does.

    Raises:
        InputError: gymnax is not installed, or knows no such name.
    """
    if isinstance(env, str):
        gymnax = load("gymnax", "gymnax")
        names = gymnax.registration.registered_envs
        if env not in names:
            raise unknown("gymnax environment", env, names)
        env, standard = gymnax.make(env)
    else:
        standard = env.default_params
    return adapt(GymnaxEnv, env, standard if params is None else params, max_steps)


def adapt(kind: type[GymnaxEnv], env: Any, original: Any, max_steps: int | None) -> tuple[Any, Any]:
    """Builds a `GymnaxEnv` (or a `kind` of it) around an environment with gymnax's interface; returns (env, params)."""
    limit = getattr(original, kind.limit, None)
    key = jax.random.key(0)
    action_space = env.action_space(original)
    spaces = (
        _space(env.observation_space(original), jax.eval_shape(env.reset_env, key, original)[0]),
        _space(action_space, jax.eval_shape(action_space.sample, key)),
    )
    adapted = kind(env, original, spaces, max_steps=max_steps or (None if limit is None else int(limit)))
    return adapted, as_arrays(adapted.default_params())


def numbers(params: Any) -> dict[str, Any]:
    """The fields of a dataclass that are numbers or arrays of them."""
    values = {field.name: getattr(params, field.name) for field in dataclasses.fields(params)}
    return {name: value for name, value in values.items() if np.asarray(value).dtype.kind in "biuf"}


def _space(space: Any, like: Any) -> Space:
    """Our space for gymnax's whose elements have the shapes and dtypes of `like`."""
    kind = type(space).__name__
    if kind == "Discrete":
        return Discrete(int(space.n))
    if kind == "Box":
        floating = any(jnp.issubdtype(dtype, jnp.floating) for dtype in (space.dtype, like.dtype))
        low, high = (np.broadcast_to(np.asarray(side, np.float32), like.shape) for side in (space.low, space.high))
        return Box(bound(low), bound(high), like.shape, np.float32 if floating else like.dtype)
    if kind == "Dict":
        return {name: _space(part, like[name]) for name, part in space.spaces.items()}
    if kind == "Tuple":
        return tuple(_space(part, one) for part, one in zip(space.spaces, like, strict=True))
    raise InputError(f"gymnax's space {space!r} has no counterpart.")
