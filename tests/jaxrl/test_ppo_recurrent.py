import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs import episode, probes
from envs.errors import InputError
from envs.spaces import Box, Discrete
from jaxrl import networks, policies
from jaxrl.agents import ppo_recurrent
from jaxrl.rollout import initial_memory, rollout
from jaxrl.types import Context, Transition


@pytest.mark.parametrize("cell", ["gru", "lstm"])
def test_cells_are_those_of_flax(cell):
    """One product for all gates, the part of the features taken out of the loop: the same memory as flax's cells."""
    net = networks.recurrent(Box(-1, 1, (3,)), [("q", 2, 1.0)], "mlp", (), "relu", 24, cell, 20)
    params = jax.device_get(jax.jit(net.init)(jax.random.key(0)))
    # The gates begin so that without input a unit keeps 1/e after 1 … 20 steps, evenly in the logarithm.
    bias = params["memory"]["iz" if cell == "gru" else "hf"]["bias"]
    steps = 1 / np.log1p(np.exp(-bias))
    assert 1 < steps.min() < 2
    assert 15 < steps.max() < 21
    assert np.mean(bias) == pytest.approx(np.log(20) / 2, abs=0.5)

    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda x: (x + 0.3 * rng.normal(size=x.shape)).astype(np.float32), params)
    obs, before = (rng.normal(size=(2, n)).astype(np.float32) for n in (3, net.memory.size))

    @jax.jit
    def both(params, obs, before):
        weights = {"params": params["memory"]}
        if cell == "gru":
            want, output = nn.GRUCell(24).apply(weights, before, obs)
        else:
            carry, output = nn.OptimizedLSTMCell(24).apply(weights, (before[:, :24], before[:, 24:]), obs)
            want = jnp.concatenate(carry, -1)
        return net.step(params, obs, before), want, output

    ((q,), after), want, output = both(params, obs, before)
    np.testing.assert_allclose(after, want, atol=1e-5)
    np.testing.assert_allclose(q, output @ params["q"]["kernel"] + params["q"]["bias"], atol=1e-5)


@pytest.mark.parametrize("cell", [pytest.param("gru", marks=pytest.mark.slow), "lstm"])
def test_replaying_is_acting(cell):
    """From the memory that a rollout began with, its log-probabilities and values come out again, over resets too.

    Values of true successors are those that the next step would have had, also where the time limit cut the episode,
    after at most 7 steps, and the memory was set back.
    """
    env, env_params = envs.make("CartPole-Hidden-v0", max_steps=7)
    config = ppo_recurrent.Config(hidden=(8,), memory_size=6, cell=cell)
    nets = ppo_recurrent.build(config, env.observation_space, env.action_space)
    before, length = 9, 16  # the first 9 of 25 steps only make a memory

    @jax.jit
    def play(key):
        params = nets.init(key)
        params["net"]["policy"]["kernel"] *= 100.0  # so that the probabilities depend on the memory
        acting = policies.sampling_with_memory(nets, params)

        def noting(key, obs, memory):
            action, after, extras = acting.act(key, obs, memory)
            value = nets.step(params, obs, memory)[1]
            return action, after, (extras, value, memory, after)

        start = episode.reset(env, env_params, key, 4)
        policy = acting._replace(act=noting)
        out = rollout(env, env_params, policy, start, initial_memory(acting, 4), key, before + length)
        batch = jax.tree.map(lambda x: x[before:], out.transitions)
        drawn, acted, before_step, after_step = batch.extras
        memory = jax.tree.map(lambda x: x[0], before_step)
        ended = batch.terminated | batch.truncated
        # Beside it the same, had all that was seen in the first step been something else.
        obs = jnp.concatenate([batch.obs, batch.obs.at[0].add(1.0)], 1)
        twice = jax.tree.map(lambda x: jnp.concatenate([x, x]), memory)
        replayed = nets.unroll(params, obs, twice, jnp.tile(ended, 2), jnp.tile(batch.next_obs, (1, 2, 1)))
        flat = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), (batch.next_obs, after_step))
        return batch, drawn, acted, ended, replayed, nets.step(params, *flat)[1].reshape(length, 4)

    batch, drawn, acted, ended, (policy, value, next_value), successor = jax.device_get(play(jax.random.key(0)))
    policy = jax.tree.map(lambda x: x[:, :4], policy)
    value, other, next_value = value[:, :4], value[:, 4:], next_value[:, :4]
    log_prob = policy.log_prob(drawn.unit_action)
    np.testing.assert_allclose(log_prob, drawn.log_prob, atol=1e-6)
    np.testing.assert_allclose(value, acted, atol=1e-6)
    np.testing.assert_allclose(next_value, successor, atol=1e-6)
    np.testing.assert_allclose(next_value[:-1][~ended[:-1]], value[1:][~ended[:-1]], atol=1e-6)
    # The test means something: cuts in every lane, memories that matter, values that differ across a cut.
    assert batch.truncated[:-1].any(0).all()
    assert np.asarray(log_prob).std() > 1e-3
    assert np.abs(next_value[:-1] - value[1:])[ended[:-1]].min() > 1e-5
    # What was seen in the first step moves the values of its episode and, to the last bit, none behind it.
    later = np.cumsum(ended, 0) - ended > 0
    np.testing.assert_array_equal(other[later], value[later])
    assert (np.abs(other - value)[~later] > 1e-6).all()


def test_loss_by_hand():
    """Before the first gradient step the ratio is 1: −mean A = 0, and ½ (V − G)² with G from the replayed values."""
    config = ppo_recurrent.Config(num_epochs=1, num_minibatches=1, hidden=(), memory_size=4)
    hp = ppo_recurrent.Hyperparams(gamma=0.5, gae_lambda=0.8)
    nets = ppo_recurrent.build(config, Box(-1, 1, (2,)), Discrete(3))
    rng = np.random.default_rng(0)
    obs, next_obs = rng.normal(size=(2, 6, 4, 2)).astype(np.float32)
    reward, memory = (rng.normal(size=shape).astype(np.float32) for shape in ((6, 4), (4, 4)))
    terminated, truncated = rng.random((2, 6, 4)) < 0.2
    action = rng.integers(3, size=(6, 4))

    @jax.jit
    def learn(key):
        learner = ppo_recurrent.init_learner(nets, key, hp)
        policy, value, next_value = nets.unroll(learner.params, obs, memory, terminated | truncated, next_obs)
        extras = policies.Sampled(action, policy.log_prob(action))
        batch = Transition(obs, action, reward, terminated, truncated, next_obs, extras, memory=memory)
        context = Context(progress=jnp.float32(0))
        return value, next_value, ppo_recurrent.update(config, nets, hp, context, learner, batch, key)[1].scalars

    value, next_value, scalars = jax.device_get(learn(jax.random.key(3)))
    target, following = np.zeros((6, 4)), next_value[-1]
    for t in reversed(range(6)):
        lam = 0.8 * ~(terminated | truncated)[t]
        following = reward[t] + 0.5 * ~terminated[t] * ((1 - lam) * next_value[t] + lam * following)
        target[t] = following
    scalars = {name: float(x) for name, x in scalars.items()}
    assert scalars["policy_loss"] == pytest.approx(0.0, abs=1e-6)
    assert scalars["approx_kl"] == pytest.approx(0.0, abs=1e-6)
    assert scalars["value_loss"] == pytest.approx(np.square(target - value).mean() / 2, rel=1e-5)
    assert scalars["loss"] == pytest.approx(0.5 * scalars["value_loss"] - 0.01 * scalars["entropy"], rel=1e-4)


def test_learns_what_needs_a_memory():
    """Recall: V = γ at the cue and 1 at the blank, where a policy without a memory gets 0."""
    env, params = probes.Recall(), probes.Params()
    config = ppo_recurrent.Config(
        rollout_length=16, hidden=(), memory_size=8, num_minibatches=1, normalize_reward=False, cell="lstm"
    )
    agent = ppo_recurrent.make(env, config)
    hp = ppo_recurrent.Hyperparams(learning_rate=1e-2, gamma=0.9, total_steps=60 * agent.steps_per_iteration)
    nets = ppo_recurrent.build(config, env.observation_space, env.action_space)

    @jax.jit
    def learn(key):
        state, _ = jaxrl.run(agent, agent.init(key, hp, params), 60)
        cues = jnp.eye(3)[jnp.array([[0, 1], [2, 2]])]  # time first: two episodes, a cue and the blank
        _, value, _ = nets.unroll(state.learner.params, cues, jnp.zeros((2, 16)), jnp.zeros((2, 2), bool))
        return value, jaxrl.evaluate(env, params, agent.policy(state), jax.random.key(1), 32, max_steps=3).returns

    value, returns = learn(jax.random.key(7))
    np.testing.assert_allclose(value, [[0.9, 0.9], [1.0, 1.0]], atol=0.1)
    np.testing.assert_allclose(returns, 1.0)


def test_bad_input():
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match="num_minibatches=3 does not divide num_envs=16"):
        ppo_recurrent.make(env, ppo_recurrent.Config(num_minibatches=3))
    with pytest.raises(InputError, match="time_scale=0"):
        ppo_recurrent.make(env, ppo_recurrent.Config(time_scale=0))
