"""brax's environments behind our interface.

    from envs.interop.from_brax import from_brax

    env, params = from_brax("ant", backend="spring")             # or from_brax(MyBraxEnv(), max_steps=1000)

brax's own training wraps an environment in a clock, a batch and a restart that goes back to the first initial state
again and again. None of that is used here: `envs.episode` does it, with fresh starts.

Kept: dynamics, observations (also dicts), `metrics` as info, pictures where MuJoCo's renderer finds OpenGL.
`done` is a termination, unless the environment also sets `info["time_out"]`: that is brax's word for a cut by a clock
of its own, so `truncated`. Its InvertedPendulum sets that at every fall; there it is a termination, as in Gymnasium.
Where an episode ends because the simulation has lost its way, numbers that are none (NaN) become zeros, so that the
learner, which multiplies what follows by zero, gets zero.
Lost: parameters: brax's physics are constants of the program here.

The physics backends take long to compile on a CPU. brax is no longer developed by its authors, who name MuJoCo
Playground (`envs.interop.from_playground`) as its successor.
"""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, Step
from envs.errors import InputError, unknown
from envs.interop.foreign import like, load, strong
from envs.spaces import Box, Space

_WRAPPERS = ("EpisodeWrapper", "VmapWrapper", "AutoResetWrapper", "EvalWrapper")
_ENDS_CALLED_TIME_OUTS = ("InvertedPendulum",)


class Params(NamedTuple):
    """None: the physics are constants of the program."""


@dataclass(frozen=True, eq=False)
class BraxEnv(Env[Any, Params]):
    """An environment with brax's interface as ours; see `from_brax`. Its state is brax's whole State."""

    env: Any  # brax's
    observations: Space

    @property
    def random_step(self) -> bool:
        """False: brax keeps keys in its state."""
        return False

    @property
    def observation_space(self) -> Space:
        """f32 without bounds, or a dict of such."""
        return self.observations

    @property
    def action_space(self) -> Box:
        """f32[action_size] within ±1, which brax maps to the actuators' ranges."""
        return Box(-1.0, 1.0, (self.env.action_size,))

    def default_params(self) -> Params:
        """None."""
        return Params()

    def reset(self, key: jax.Array, params: Params) -> tuple[Any, Any]:
        """Draws brax's initial state."""
        del params
        state = strong(self.env.reset(key))
        return like(state.obs, self.observations), state

    def step(self, key: jax.Array, state: Any, action: Any, params: Params) -> Step:
        """Takes brax's step."""
        del key, params
        following = like(self.env.step(state, action), state)
        done = following.done.astype(jnp.bool_)
        time_out = jnp.zeros((), jnp.bool_)
        if "time_out" in following.info and type(self.env).__name__ not in _ENDS_CALLED_TIME_OUTS:
            time_out = done & following.info["time_out"].astype(jnp.bool_)

        def finite(leaf: jax.Array) -> jax.Array:
            return jnp.where(done & jnp.isnan(leaf), jnp.zeros_like(leaf), leaf)

        obs, reward, metrics = jax.tree.map(finite, (following.obs, following.reward, following.metrics))
        return Step(
            like(obs, self.observations), following, reward.astype(jnp.float32), done & ~time_out, metrics, time_out
        )

    def render(self, state: Any, params: Params) -> np.ndarray:
        """The picture of MuJoCo's renderer, 240 × 320 pixels.

        Raises:
            InputError: the renderer finds no OpenGL here.
        """
        del params
        return picture(self.env, state.pipeline_state)


def from_brax(env: Any, *, max_steps: int | None = 1000, **options: Any) -> tuple[BraxEnv, Params]:
    """Puts a brax environment behind our interface.

    Args:
        env: the name of one of brax's, or a brax environment without wrappers.
        max_steps: the time limit; brax's own trainers also cut after 1000 steps.
        options: of the named environment, e.g. backend="spring".

    Returns:
        (env, params), as `envs.make` does.

    Raises:
        InputError: brax is not installed, it knows no such name, or the environment wears wrappers that have a clock,
            a batch or a restart.
    """
    if isinstance(env, str):
        library = load("brax.envs", "brax")
        if env not in library._envs:
            raise unknown("brax environment", env, library._envs)
        env = library.get_environment(env, **options)
    return adapt(BraxEnv, env, max_steps), Params()


def adapt(kind: type[BraxEnv], env: Any, max_steps: int | None) -> Any:
    """Builds a `BraxEnv` (or a `kind` of it) around an environment with brax's interface.

    Raises:
        InputError: it wears wrappers.
    """
    layer = env
    while layer is not None:
        if type(layer).__name__ in _WRAPPERS:
            raise InputError(
                f"give the bare environment, without {type(layer).__name__}: time limits, batches and restarts are "
                "those of envs.episode."
            )
        layer = layer.__dict__.get("env")
    obs = jax.eval_shape(env.reset, jax.random.key(0)).obs
    return kind(env, _unbounded(obs), max_steps=max_steps)


def picture(env: Any, state: Any, **options: Any) -> np.ndarray:
    """Renders one state with MuJoCo.

    Raises:
        InputError: there is no OpenGL; the message says how to choose another.
    """
    try:
        (frame,) = env.render([jax.device_get(state)], **options)
    except Exception as error:  # what is missing where there is no OpenGL differs from one platform to the next
        raise InputError(
            f"MuJoCo cannot draw here ({type(error).__name__}: {error}). Without a display set the environment "
            "variable MUJOCO_GL to egl (a GPU) or osmesa (the CPU) before the start."
        ) from None
    return np.asarray(frame, np.uint8)


def _unbounded(obs: Any) -> Space:
    """Boxes without bounds for observations that are an array or a dict of them."""
    if isinstance(obs, dict):
        return {name: _unbounded(part) for name, part in obs.items()}
    return Box(-np.inf, np.inf, obs.shape, np.float32 if jnp.issubdtype(obs.dtype, jnp.floating) else obs.dtype)
