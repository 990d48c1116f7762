"""The Lagrangian signal by hand: what an episode costs, whatever the length of a rollout."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

from jaxrl import signals
from jaxrl.types import Transition

EPISODE = 12


@struct.dataclass
class Hyperparams:
    cost_limit: float = 10.0
    multiplier: float = 0.5
    multiplier_learning_rate: float = 0.01


def rollouts(length, lanes, staggered, hp, number=12):
    """Episodes of EPISODE steps that cost 1 and 2 a step, fed to the signal in rollouts; yields what it reports."""
    signal = signals.lagrangian(2, lanes)
    state = signal.init(jax.random.key(0), hp)
    for index in range(number):
        t = index * length + np.arange(length)[:, None] + np.arange(lanes) % EPISODE * staggered
        ended = jnp.asarray((t + 1) % EPISODE == 0)
        cost = jnp.ones((length, lanes, 2)) * jnp.asarray([1.0, 2.0])
        flags = (ended, jnp.zeros_like(ended))
        batch = Transition((), (), jnp.zeros((length, lanes)), *flags, (), cost=cost)
        before = state
        state, changed, scalars = signal.gathered(hp, state, batch, jax.random.key(0))
        np.testing.assert_allclose(changed.reward, -(before.multiplier[0] + 2 * before.multiplier[1]), rtol=1e-6)
        yield bool(ended.any()), before.multiplier, state.multiplier, scalars


@pytest.mark.parametrize("length", [1, 5, 12, 30])
@pytest.mark.parametrize("lanes", [1, 8])
def test_the_cost_is_that_of_whole_episodes(length, lanes):
    hp, seen = Hyperparams(), 0
    for ended, before, after, scalars in rollouts(length, lanes, False, hp):
        if not ended:  # nothing is known, so nothing moves
            np.testing.assert_array_equal(before, after)
            continue
        seen += 1
        costs = np.asarray([scalars["episode_cost_0"], scalars["episode_cost_1"]])
        np.testing.assert_allclose(costs, [EPISODE, 2 * EPISODE], rtol=1e-6)
        np.testing.assert_allclose(after, np.maximum(before + 0.01 * (costs - 10.0), 0), rtol=1e-6)
    assert seen


def test_a_kept_limit_lets_the_multiplier_fall():
    """Staggered episodes, of which the first ends early and costs less, on rollouts shorter than an episode."""
    hp = Hyperparams(cost_limit=30.0)
    *_, (_, before, after, _) = rollouts(5, 16, True, hp)
    assert (after <= before).all()
    assert (after < 0.5).all()


def test_before_any_episode_has_ended_the_limit_is_reported():
    ended, _, _, scalars = next(rollouts(3, 2, False, Hyperparams()))
    assert not ended
    assert float(scalars["episode_cost_0"]) == 10.0
