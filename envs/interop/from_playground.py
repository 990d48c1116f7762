"""MuJoCo Playground's environments (MuJoCo MJX) behind our interface.

    from envs.interop.from_playground import from_playground

    env, params = from_playground("CartpoleBalance", impl="jax")

They have brax's interface, so what `envs.interop.from_brax` says is kept and lost holds here. `max_steps` is the
configuration's `episode_length`. Options are those of the configuration, e.g. impl="jax": the standard "warp" needs an
NVIDIA GPU. The tasks of the DeepMind Control Suite never terminate; robots of the other suites need files that
Playground downloads when the first one is made.
"""

from typing import Any

import numpy as np

from envs.errors import unknown
from envs.interop.foreign import load
from envs.interop.from_brax import BraxEnv, Params, adapt, picture


class PlaygroundEnv(BraxEnv):
    """A Playground environment as ours; see `from_playground`. Its state is Playground's whole State."""

    def render(self, state: Any, params: Params) -> np.ndarray:
        """The picture of MuJoCo's renderer, 240 × 320 pixels.

        Raises:
            InputError: the renderer finds no OpenGL here.
        """
        del params
        return picture(self.env, state)


def from_playground(env: Any, *, max_steps: int | None = None, **options: Any) -> tuple[PlaygroundEnv, Params]:
    """Puts an environment of MuJoCo Playground behind our interface.

    Args:
        env: the name of one of Playground's, or an environment without wrappers.
        max_steps: the time limit; by default the configuration's `episode_length`, or 1000 without one.
        options: of the named environment's configuration, e.g. impl="jax", ctrl_dt=0.02.

    Returns:
        (env, params), as `envs.make` does.

    Raises:
        InputError: Playground is not installed, it knows no such name or option, or the environment wears wrappers.
    """
    limit = 1000
    if isinstance(env, str):
        registry = load("mujoco_playground", "playground").registry
        if env not in registry.ALL_ENVS:
            raise unknown("Playground environment", env, registry.ALL_ENVS)
        config = registry.get_default_config(env)
        for name, value in options.items():
            if name not in config:
                raise unknown(f"option of {env}", name, config.keys())
            config[name] = value
        limit = config.get("episode_length", limit)
        env = registry.load(env, config=config)
    return adapt(PlaygroundEnv, env, max_steps or limit), Params()
