"""The networks of the on-policy agents: the maps into a Box, and action masks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs.errors import InputError
from envs.spaces import Box, Discrete, MultiDiscrete
from jaxrl import policies

SHAPE = ("mlp", (8,), "tanh")


@pytest.mark.parametrize("shared", [False, True])
def test_masked_actions_are_never_taken_and_leave_no_nan(shared):
    space = {"board": Box(-1, 1, (4,)), "action_mask": Box(0, 1, (3,), jnp.bool_)}
    nets = policies.build("test", space, Discrete(3), *SHAPE, shared)
    params = nets.init(jax.random.key(0))
    mask = jnp.tile(jnp.array([[True, False, True], [False, False, True]]), (200, 1))
    obs = {"board": jax.random.normal(jax.random.key(1), (400, 4)), "action_mask": mask}
    action, _, extras = jax.jit(policies.sampling(nets, params).act)(jax.random.key(2), obs, ())
    taken = np.asarray(action)
    assert set(taken[0::2]) == {0, 2}  # both that are allowed
    assert set(taken[1::2]) == {2}
    np.testing.assert_array_equal(extras.log_prob[1::2], 0.0)
    best = policies.greedy(nets, params).act(jax.random.key(2), obs, ())[0]
    assert not (np.asarray(best) == 1).any()

    def loss(params):
        policy, value = nets.both(params, obs)
        return (policy.log_prob(action) - policy.entropy() + value).sum()

    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(jax.grad(loss)(params)))
    # The mask is no input of the network: what is seen is the board alone.
    other = {**obs, "action_mask": ~mask}
    np.testing.assert_array_equal(nets.value(params, obs), nets.value(params, other))


@pytest.mark.parametrize(("space", "actions"), [(Box(0, 1, (2,)), Discrete(3)), (Box(0, 1, (3,)), Box(-1, 1, (3,)))])
def test_masks_that_do_not_fit(space, actions):
    with pytest.raises(InputError, match="action_mask"):
        policies.build("test", {"board": Box(-1, 1, (4,)), "action_mask": space}, actions, *SHAPE)


def test_ways_into_the_box():
    box = Box((-2.0, 0.0), (2.0, 10.0), (2,))
    unit = jnp.array([[0.5, -3.0], [20.0, 0.0]])
    clip = policies.build("test", Box(-1, 1, (4,)), box, *SHAPE).to_env(unit)
    np.testing.assert_allclose(clip, [[1.0, 0.0], [2.0, 5.0]])
    tanh = policies.build("test", Box(-1, 1, (4,)), box, *SHAPE, squash="tanh").to_env(unit)
    np.testing.assert_allclose(tanh, [[2 * np.tanh(0.5), 5 + 5 * np.tanh(-3.0)], [2.0, 5.0]], rtol=1e-4)
    with pytest.raises(InputError, match="finite bounds"):
        policies.build("test", Box(-1, 1, (4,)), Box(-np.inf, np.inf, (2,)), *SHAPE, squash="tanh")


def test_a_mask_that_forbids_everything_forbids_nothing():
    space = {"board": Box(-1, 1, (4,)), "action_mask": Box(0, 1, (3,), jnp.bool_)}
    nets = policies.build("test", space, Discrete(3), *SHAPE)
    obs = {"board": jnp.ones((1, 4)), "action_mask": jnp.zeros((1, 3), bool)}
    policy = nets.policy(nets.init(jax.random.key(0)), obs)
    np.testing.assert_allclose(policy.entropy(), np.log(3), rtol=1e-2)


def test_several_actions_have_masks_of_all_of_them():
    space = {"board": Box(-1, 1, (4,)), "action_mask": Box(0, 1, (5,), jnp.bool_)}
    nets = policies.build("test", space, MultiDiscrete((2, 3)), *SHAPE)
    obs = {"board": jnp.ones((1, 4)), "action_mask": jnp.array([[False, True, True, True, False]])}
    policy = nets.policy(nets.init(jax.random.key(0)), obs)
    np.testing.assert_allclose(policy.entropy(), np.log(2), rtol=1e-2)
    with pytest.raises(InputError, match="action_mask"):
        policies.build("test", space, MultiDiscrete((2, 2)), *SHAPE)
