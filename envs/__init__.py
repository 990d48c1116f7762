"""Pure-JAX environments behind one interface: `env, params = envs.make("CartPole-v1")`.

`envs.base` is the MDP, `envs.episode` the clock, auto-reset and batching, `envs.spaces` the spaces,
`envs.registry` the names.
"""

from envs import catalogue as _catalogue  # noqa: F401  (fills the registry)
from envs import episode, spaces
from envs.base import Env, Step
from envs.errors import InputError
from envs.registry import make, names, register

__all__ = ["Env", "InputError", "Step", "episode", "make", "names", "register", "spaces"]
