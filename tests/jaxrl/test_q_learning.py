import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs.errors import InputError
from jaxrl.agents import q_learning
from jaxrl.types import Context, Transition

KEY = jax.random.key(0)
START = Context(progress=jnp.float32(0.0))


def test_worked_example():
    """Q(s, right) = 3, r = −1, γ = 0.9, max Q(s') = 5: target 3.5, error 0.5; α = 0.1 moves it to 3.05."""
    q = jnp.array([[2.0, 3.0, 1.5, 1.0], [1.0, 0.0, 5.0, 2.0]])
    hp = q_learning.Hyperparams(learning_rate=0.1, gamma=0.9)
    no = jnp.array([False])
    batch = Transition(jnp.array([0]), jnp.array([1]), jnp.array([-1.0]), no, no, jnp.array([1]), ())
    before = q_learning.Learner(q, jnp.int32(0))
    learner, told = q_learning.update(q_learning.Config(), hp, START, before, batch, KEY)
    np.testing.assert_allclose(learner.q[0], [2.0, 3.05, 1.5, 1.0], rtol=1e-6)
    np.testing.assert_array_equal(learner.q[1], q[1])
    np.testing.assert_allclose(told.scalars["td_error"], 0.5, rtol=1e-6)
    np.testing.assert_allclose(told.priority, [0.5], rtol=1e-6)


@pytest.mark.parametrize(("terminated", "want"), [(False, 3.05), (True, 3 + 0.1 * (-1 - 3))])
def test_only_termination_cuts(terminated, want):
    q = jnp.array([[0.0, 3.0], [5.0, 0.0]])
    flags = (jnp.array([terminated]), jnp.array([True]))
    batch = Transition(jnp.array([0]), jnp.array([1]), jnp.array([-1.0]), *flags, jnp.array([1]), ())
    before = q_learning.Learner(q, jnp.int32(0))
    learner, _ = q_learning.update(q_learning.Config(), q_learning.Hyperparams(), START, before, batch, KEY)
    np.testing.assert_allclose(learner.q[0, 1], want, rtol=1e-6)
    assert learner.episodes == 1


def test_a_transition_counts_as_it_weighs():
    """Two in the same place with error 0.5 and weights 1 and 0.5: 3 + 0.1 (0.5 + 0.25)."""
    q = jnp.array([[0.0, 3.0], [5.0, 0.0]])
    no = jnp.zeros(2, bool)
    batch = Transition(jnp.zeros(2, int), jnp.ones(2, int), jnp.full(2, -1.0), no, no, jnp.ones(2, int))
    before = q_learning.Learner(q, jnp.int32(0))
    weighted = batch._replace(weight=jnp.array([1.0, 0.5]))
    learner, told = q_learning.update(q_learning.Config(), q_learning.Hyperparams(), START, before, weighted, KEY)
    np.testing.assert_allclose(learner.q[0, 1], 3.075, rtol=1e-6)
    np.testing.assert_allclose(told.scalars["td_error"], 0.5, rtol=1e-6)


def test_4x4_grid_world_in_six_steps():
    """α = 0.1, γ = 0.9, ε = 0.1: the greedy policy reaches the goal in 6 steps, in every seed."""
    env, params = envs.make("GridWorld-4x4")
    out = jaxrl.fit(
        q_learning.make(env), params, q_learning.Hyperparams(), seeds=range(8), env_steps=50_000, num_evals=2
    )
    final = out.results.isel(env_step=-1)
    np.testing.assert_array_equal(final.evaluation_return, 1.0)
    np.testing.assert_array_equal(final.evaluation_length, 6.0)
    # Along the path the values are the discounted distance to the goal.
    q = np.asarray(out.state.learner.q)
    np.testing.assert_allclose(q[:, 0].max(-1), 0.9**5, atol=0.02)


def test_5x5_grid_world_is_optimal_from_every_cell():
    """−1 a step, +10 at the goal, random starts: from every cell the greedy policy takes the shortest way."""
    env, params = envs.make("GridWorld-5x5")
    out = jaxrl.fit(
        q_learning.make(env), params, q_learning.Hyperparams(), seeds=range(4), env_steps=100_000, num_evals=1
    )
    policy = np.asarray(out.state.learner.q).argmax(-1)
    step = jax.jit(jax.vmap(env.step, (None, 0, 0, None)))
    _, example = env.reset(jax.random.key(0), params)
    for lane in range(4):
        cells = jnp.arange(25)
        state = jax.tree.map(lambda x: jnp.broadcast_to(x, (25, *jnp.shape(x))), example)
        state = state._replace(cell=cells)
        length, ended = np.zeros(25, int), np.asarray(cells) == 24
        obs = cells
        for _ in range(8):
            moved = step(jax.random.key(0), state, jnp.asarray(policy[lane])[obs], params)
            length += ~ended
            ended |= np.asarray(moved.terminated)
            state, obs = moved.state, moved.obs
        assert ended.all()
        row, column = np.divmod(np.arange(25), 5)
        np.testing.assert_array_equal(length, (4 - row) + (4 - column))


def test_needs_discrete_observations():
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match="Discrete observation space"):
        q_learning.make(env)
