"""Craftax and Craftax-Classic behind our interface.

    from envs.interop.from_craftax import from_craftax

    env, params = from_craftax("Craftax-Classic-Symbolic-v1")

They have gymnax's interface, so what `envs.interop.from_gymnax` says holds here: the time limit (`max_timesteps`:
10,000, or 100,000 in the full game) is `max_steps`, and only death, lava and the beaten boss terminate.

Kept: dynamics, parameters, spaces, the achievements in `info` (at the end of an episode), pictures. New worlds are
costly; they are made in steps in which an episode ends, not in all.
Lost: Craftax's own restart from a pool of worlds ("optimistic resets").
"""

from typing import Any, ClassVar

import jax
import numpy as np

from envs.base import Step
from envs.errors import unknown
from envs.interop.foreign import load
from envs.interop.from_gymnax import GymnaxEnv, adapt

NAMES = (
    "Craftax-Classic-Pixels-v1",
    "Craftax-Classic-Symbolic-v1",
    "Craftax-Pixels-v1",
    "Craftax-Symbolic-v1",
)


class CraftaxEnv(GymnaxEnv):
    """A Craftax environment as ours; see `from_craftax`."""

    limit: ClassVar[str] = "max_timesteps"

    @property
    def costly_reset(self) -> bool:
        """True: a reset makes a world."""
        return True

    def step(self, key: jax.Array, state: Any, action: Any, params: Any) -> Step:
        """Takes Craftax's step; what it calls done is asked for again without the time limit."""
        restored = self._restored(params)
        obs, following, reward, _, info = self.env.step_env(key, state, action, restored)
        terminated = self.env.is_terminal(following, self._endless(restored))
        return self._step(state, obs, following, reward, terminated, False, info)

    def render(self, state: Any, params: Any) -> np.ndarray:
        """Craftax's own picture, 16 pixels for each block."""
        del params
        module = "craftax_classic" if "Classic" in self.env.name else "craftax"
        draw = load(f"craftax.{module}.renderer", "craftax").make_craftax_pixel_renderer(block_pixel_size=16)
        return np.asarray(jax.jit(draw)(state)).astype(np.uint8)


def from_craftax(name: str, *, max_steps: int | None = None) -> tuple[CraftaxEnv, Any]:
    """Puts a Craftax environment behind our interface.

    Args:
        name: one of `NAMES`.
        max_steps: the time limit; by default Craftax's.

    Returns:
        (env, params), as `envs.make` does.

    Raises:
        InputError: Craftax is not installed, or knows no such name.
    """
    if name not in NAMES:
        raise unknown("Craftax environment", name, NAMES)
    env = load("craftax.craftax_env", "craftax").make_craftax_env_from_name(name, auto_reset=False)
    return adapt(CraftaxEnv, env, env.default_params, max_steps)
