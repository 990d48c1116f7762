"""Advantage-weighted regression: targets and weights in NumPy, what the replay holds, learning."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError
from envs.spaces import Box
from jaxrl import policies
from jaxrl.agents import awr
from jaxrl.distributions import Categorical
from jaxrl.train import make_train
from jaxrl.types import Context, Transition


def simple_networks():
    """V = v · s; the log-odds of action 1 are w · s."""

    def policy(params, obs):
        return Categorical(jnp.stack([0.0 * obs[..., 0], params["actor"] * obs[..., 0]], -1))

    def value(params, obs):
        return params["critic"] * obs[..., 0]

    def init(key):
        return {"actor": jnp.float32(0.5), "critic": jnp.float32(2.0)}

    return policies.Networks(
        init, policy, value, lambda params, obs: (policy(params, obs), value(params, obs)), lambda x: x
    )


def numpy_returns(rows, value, gamma, lam):
    """TD(λ) returns by the definition, backwards over each of the parallel episodes."""
    out = np.zeros_like(rows.reward)
    num, length, width = out.shape
    for k in range(num):
        for b in range(width):
            for t in reversed(range(length)):
                at = k, t, b
                following = value * rows.next_obs[at][0]
                if t + 1 < length and not (rows.terminated[at] or rows.truncated[at]):
                    following = (1 - lam) * following + lam * out[k, t + 1, b]
                out[at] = rows.reward[at] + gamma * (not rows.terminated[at]) * following
    return out


def test_update_against_numpy():
    """One step of the value, one of the policy; of three places two are filled, and the third holds what would show."""
    rng = np.random.default_rng(0)
    shape = (3, 6, 2)
    arrays: Any = {
        "obs": rng.normal(size=(*shape, 1)).astype(np.float32),
        "action": np.zeros(shape, np.int32),
        "reward": rng.normal(size=shape).astype(np.float32),
        "terminated": rng.random(shape) < 0.2,
        "truncated": rng.random(shape) < 0.2,
        "next_obs": rng.normal(size=(*shape, 1)).astype(np.float32),
        "extras": policies.Sampled(rng.integers(0, 2, shape).astype(np.int32), np.zeros(shape, np.float32)),
    }
    arrays["reward"][2] = 1e6
    rows = Transition(**arrays)
    config = awr.Config(num_rollouts=3, critic_steps=1, policy_steps=1, batch_size=64)
    hp = awr.Hyperparams(
        gamma=0.9, td_lambda=0.7, temperature=0.5, max_weight=3.0, policy_learning_rate=0.1, critic_learning_rate=0.25
    )
    nets, key = simple_networks(), jax.random.key(3)
    steps = awr.Steps(rows.obs, rows.extras.unit_action, *rows[2:5], rows.next_obs)
    before = awr.init_learner(config, nets, Box(-1, 1, (1,)), key, hp)
    # The first rollout is there already, the second comes with the update; its place holds what would show as well.
    replay = jax.tree.map(lambda x: jnp.asarray(x).at[1].set(x[2]), steps)
    before = before._replace(replay=replay, gathered=jnp.int32(1))
    update = jax.jit(functools.partial(awr.update, config, nets))
    after, (scalars, _) = update(hp, Context(), before, jax.tree.map(lambda x: x[1], rows), key)
    jax.tree.map(np.testing.assert_array_equal, after.replay, steps)
    assert int(after.gathered) == 2

    drawn = [np.asarray(jax.random.randint(k, (1, 64), 0, 24))[0] for k in jax.random.split(key)]
    seen, action = rows.obs.reshape(-1), rows.extras.unit_action.reshape(-1)
    target = numpy_returns(rows, 2.0, 0.9, 0.7).reshape(-1)
    error = 2.0 * seen[drawn[0]] - target[drawn[0]]
    np.testing.assert_allclose(scalars["value_loss"], 0.5 * np.square(error).mean(), rtol=1e-4)
    value = 2.0 - 0.25 * np.sign((error * seen[drawn[0]]).mean())
    np.testing.assert_allclose(after.params["critic"], value, rtol=1e-4)
    # Targets once more, with the value that has moved.
    advantage = (numpy_returns(rows, value, 0.9, 0.7) - value * rows.obs[..., 0])[:2]
    np.testing.assert_allclose(scalars["advantage_std"], advantage.std(), rtol=1e-4)
    weight = np.minimum(np.exp((advantage - advantage.mean()) / advantage.std() / 0.5), 3.0).reshape(-1)
    assert 0 < (weight == 3.0).mean() < 0.5
    np.testing.assert_allclose(scalars["weight_mean"], weight.mean(), rtol=1e-3)
    odds = np.where(action == 1, 1, -1) * 0.5 * seen
    loss = np.log1p(np.exp(-odds))[:24] * weight
    np.testing.assert_allclose(scalars["policy_loss"], loss[drawn[1]].mean(), rtol=1e-3)
    assert abs(float(after.params["actor"]) - 0.5) == pytest.approx(0.1, rel=1e-3)


def test_the_newest_rollouts_are_kept():
    """Of three rollouts two: the third in the place of the first, and each going on where the one before stopped."""
    env, params = envs.make("CartPole-v1")
    agent = awr.make(env, awr.Config(num_envs=2, rollout_length=4, num_rollouts=2, hidden=(4,)))

    def one(state, _):
        state, _ = agent.step(state)
        return state, (state.learner, state.episode.obs)

    @jax.jit
    def three(key):
        return jax.lax.scan(one, agent.init(key, awr.Hyperparams(), params), None, length=3)[1]

    out = three(jax.random.key(0))
    (first, obs_1), (second, obs_2), (third, obs_3) = (jax.tree.map(lambda x, i=i: x[i], out) for i in range(3))
    assert [int(learner.gathered) for learner in (first, second, third)] == [1, 2, 3]
    assert not np.asarray(first.replay.next_obs[1]).any()
    np.testing.assert_array_equal(second.replay.next_obs[0], first.replay.next_obs[0])
    np.testing.assert_array_equal(third.replay.next_obs[1], second.replay.next_obs[1])
    np.testing.assert_array_equal(second.replay.obs[1, 0], obs_1)
    np.testing.assert_array_equal(third.replay.obs[0, 0], obs_2)
    np.testing.assert_array_equal(third.replay.next_obs[0, -1], obs_3)  # no episode is so short that it ended here


def test_the_number_of_rollouts_does_not_wrap():
    """Only the place of the next one counts once the ring of three is full."""
    batch = Transition(*[jnp.zeros((1, 1))] * 6, policies.Sampled(jnp.zeros((1, 1)), jnp.zeros((1, 1))))
    ring = awr.Steps(*[jnp.zeros((3, 1, 1))] * 6)
    learner, seen = awr.Learner((), (), (), ring, jnp.int32(0)), []
    for i in range(10):
        learner = awr.add(learner, batch._replace(reward=jnp.full((1, 1), i)))
        seen.append((int(learner.gathered), *map(int, learner.replay.reward[:, 0, 0])))
    assert [row[0] for row in seen] == [1, 2, 3, 4, 5, 3, 4, 5, 3, 4]
    assert seen[-1][1:] == (9, 7, 8)


def test_a_replay_needs_room():
    with pytest.raises(InputError, match="num_rollouts=0 must be at least 1"):
        awr.make(envs.make("CartPole-v1")[0], awr.Config(num_rollouts=0))


@pytest.mark.slow
def test_learns_cartpole(optimised):
    """40,000 steps; a random policy has 22."""
    env, params = envs.make("CartPole-v1")
    train = make_train(awr.make(env), env_steps=40_000, num_evals=1)
    result = optimised(train)(jax.random.key(1000), awr.Hyperparams(), params)
    assert float(result.evaluation.returns.mean()) >= 475
