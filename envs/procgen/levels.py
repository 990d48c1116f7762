"""Numbered levels: what procedurally generated games share.

Source: K. Cobbe, C. Hesse, J. Hilton and J. Schulman, "Leveraging Procedural Generation to Benchmark Reinforcement
Learning" (ICML 2020, arXiv 1912.01588): a level is a function of its number, and a game is played on a range of
numbers, so that levels for training and levels for testing are different by construction.

    train, params = envs.make("Maze-Procgen-v0", num_levels=50)   # levels 0 … 49
    test, params = envs.make("Maze-Procgen-v0", start_level=50)   # all others

Each episode plays one level, uniformly drawn from the range. The range is part of the parameters, not of the instance:
one compiled program serves all ranges, and a sweep over `num_levels` is a vmap.

Deviation from the Procgen package: there, `num_levels=0` means all levels whatever `start_level` is.
"""

from dataclasses import dataclass
from typing import Any, Generic

import jax
import jax.numpy as jnp
import numpy as np

from envs.base import Env, ParamsT, StateT
from envs.errors import InputError

NUM_LEVELS = 1 << 31  # numbers 0 … 2³¹ − 1


@dataclass(frozen=True)
class Leveled(Env[StateT, ParamsT], Generic[StateT, ParamsT]):
    """A game with numbered levels.

    Its parameters have two fields: `start_level`, the first number, at least 0; and `num_levels`, how many, where 0
    stands for all from the first on.
    """

    def level(self, number: jax.Array) -> StateT:
        """Builds the level of a number, i32[]: the state in which its episodes start. Nothing else has an effect."""
        raise NotImplementedError

    def observe(self, state: StateT) -> Any:
        """Returns the observation of a state."""
        raise NotImplementedError

    def held_out(self, params: Any) -> Any:
        """All levels but those from `start_level` on that `params` plays: the numbers beyond them.

        Raises:
            InputError: `num_levels` is 0, or reaches the last level, so that none are left.
        """
        start, number = params.start_level, params.num_levels
        if not any(isinstance(x, jax.core.Tracer) for x in (start, number)):  # pyright: ignore[reportAttributeAccessIssue]
            if np.any(np.asarray(number) == 0):
                raise InputError("num_levels is 0: training plays all levels, and none are held out. Give a number.")
            last = np.asarray(start, np.int64) + np.asarray(number, np.int64)
            if np.any(last >= NUM_LEVELS):
                raise InputError(
                    f"start_level={start} and num_levels={number} leave no level beyond them to be held out: "
                    f"the last one is {NUM_LEVELS - 1}."
                )
        return params._replace(start_level=params.start_level + params.num_levels, num_levels=params.num_levels * 0)

    @property
    def random_step(self) -> bool:
        """False: all chance is in the level."""
        return False

    @property
    def costly_reset(self) -> bool:
        """True: a level costs more than a step."""
        return True

    def reset(self, key: jax.Array, params: Any) -> tuple[Any, StateT]:
        """Draws one of the levels."""
        start = jnp.asarray(params.start_level, jnp.uint32)
        number = jnp.asarray(params.num_levels, jnp.uint32)
        number = jnp.where(number == 0, jnp.uint32(NUM_LEVELS) - start, number)
        state = self.level((start + jax.random.bits(key, (), jnp.uint32) % number).astype(jnp.int32))
        return self.observe(state), state


def level_key(number: jax.Array) -> jax.Array:
    """The key from which a level is drawn. The generator is named, so that levels do not depend on JAX's default."""
    return jax.random.fold_in(jax.random.key(0, impl="threefry2x32"), number)
