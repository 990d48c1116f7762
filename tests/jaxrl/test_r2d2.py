import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs import probes
from envs.errors import InputError
from envs.spaces import Box
from jaxrl import losses, networks
from jaxrl.agents import r2d2
from jaxrl.replay import packing
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

HP = r2d2.Hyperparams(learning_rate=0.0, gamma=0.5, total_steps=1e4)


def unrolled_table(params, obs, memory, ended):
    return (obs @ params,), jnp.broadcast_to(memory, (len(obs), *memory.shape))


# Q is a table of 5 states × 2 actions, whatever the memory; the observation is the state's one-hot vector.
TABLE = networks.Recurrent(
    lambda key: jnp.zeros((5, 2)),
    jnp.zeros(1),
    lambda params, obs, memory: ((obs @ params,), memory),
    unrolled_table,
)
ONLINE = jnp.array([[9.0, 9.0], [0.0, 1.0], [3.0, 0.0], [0.0, 8.0], [7.0, 0.0]])
TARGET = jnp.array([[9.0, 9.0], [0.0, 0.0], [4.0, 6.0], [2.0, 0.0], [8.0, 0.0]])


@pytest.mark.parametrize(
    ("options", "flag", "want"),
    [
        # 0 → 1 → 2 → 3 → 4 with actions 0, 1, 0, 1 and rewards 50, 1, 2, 4; one step of burn-in, two learnt from.
        # γ = ½, two steps: G(1) = 1 + ½·2 + ¼ Q⁻(3, a*), G(2) = 2 + ½·4 + ¼ Q⁻(4, a*); a* = 1 and 0 of the online
        # network, valued 0 and 8: targets 2 and 6, errors of Q(1, 1) = 1 and Q(2, 0) = 3.
        ({}, None, (1.0, 3.0)),
        ({"double": False}, None, (1.5, 3.0)),  # a* = 0 in state 3, valued 2
        # The episode is cut after the step out of 1: G(1) = 1 + ½ Q⁻(2, 0) = 1 + ½·4, from the state reached.
        ({}, "truncated", (2.0, 3.0)),
        ({}, "terminated", (0.0, 3.0)),  # G(1) = 1
        ({"n_step": 1}, None, (2.0, -1.0, 0.0)),  # three learnt from, targets 1 + ½·4, 2 + ½·0, 4 + ½·8
    ],
)
def test_loss_by_hand(options, flag, want):
    one_hot = jnp.eye(5)[None]
    flags = {name: jnp.array([[False, name == flag, False, False]]) for name in ("terminated", "truncated")}
    batch = Transition(
        obs=one_hot[:, :4],
        action=jnp.array([[0, 1, 0, 1]]),
        reward=jnp.array([[50.0, 1.0, 2.0, 4.0]]),
        next_obs=one_hot[:, 1:],
        memory=jnp.zeros((1, 1)),
        weight=jnp.array([0.5]),
        **flags,
    )
    learner = r2d2.init_learner(TABLE, jax.random.key(0), HP)._replace(params=ONLINE, target_params=TARGET)
    config = r2d2.Config(**{"burn_in": 1, "n_step": 2, "rollout_length": 2} | options)
    _, told = r2d2.update(config, TABLE, HP, Context(), learner, batch, jax.random.key(0))
    np.testing.assert_allclose(told.scalars["loss"], 0.5 * np.mean(np.square(want)) / 2, rtol=1e-6)
    size = np.abs(want)
    np.testing.assert_allclose(told.priority, [0.9 * size.max() + 0.1 * size.mean()], rtol=1e-6)


def counted_steps(params, obs, memory, ended):
    memories = []
    for t in range(len(obs)):
        memories.append(memory + 1)
        memory = jnp.where(ended[t][:, None], 0.0, memories[-1])
    return (obs @ params + jnp.stack(memories),), jnp.stack(memories)


# The same table plus the number of observations so far.
COUNTER = networks.Recurrent(
    TABLE.init, jnp.zeros(1), lambda params, obs, memory: ((obs @ params + memory + 1,), memory + 1), counted_steps
)


def test_a_cut_is_valued_with_the_memory_of_its_own_episode():
    """0 → 1 → 2 is cut there, 2 → 3 → 4 is a new episode; the actor had seen 10 observations before the first.

    Targets, with actions, rewards and γ as above and one step: 1 + ½ (6 + 13), the state reached being the thirteenth
    observation; 2 + ½ (2 + 2), the second of the new episode; 4 + ½ (8 + 3). Values: 1 + 12, 3 + 1, 8 + 2.
    """
    one_hot = jnp.eye(5)[None]
    batch = Transition(
        obs=one_hot[:, :4],
        action=jnp.array([[0, 1, 0, 1]]),
        reward=jnp.array([[50.0, 1.0, 2.0, 4.0]]),
        terminated=jnp.zeros((1, 4), bool),
        truncated=jnp.array([[False, True, False, False]]),
        next_obs=one_hot[:, 1:],
        memory=jnp.full((1, 1), 10.0),
    )
    learner = r2d2.init_learner(COUNTER, jax.random.key(0), HP)._replace(params=ONLINE, target_params=TARGET)
    config = r2d2.Config(burn_in=1, n_step=1, rollout_length=3, double=False)
    _, told = r2d2.update(config, COUNTER, HP, Context(), learner, batch, jax.random.key(0))
    np.testing.assert_allclose(told.scalars["loss"], np.mean(np.square([-2.5, 0.0, -0.5])) / 2, rtol=1e-6)


def test_unrolling_is_stepping():
    """Outputs and memories of whole sequences are those of single steps, set back where an episode ended."""
    net = networks.recurrent(Box(-1, 1, (3,)), [("q", 2, 1.0), ("value", 1, 1.0)], "mlp", (5,), "relu", 4)
    params = net.init(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (6, 2, 3))
    ended = jnp.zeros((6, 2), bool).at[2, 0].set(True)
    start = memory = jax.random.normal(jax.random.key(2), (2, 4))
    outputs, memories = jax.jit(net.unroll)(params, obs, start, ended)
    step = jax.jit(net.step)
    for t in range(6):
        out, memory = step(params, obs[t], memory)
        np.testing.assert_allclose(memory, memories[t], atol=1e-6)
        for mine, theirs in zip(out, outputs, strict=True):
            np.testing.assert_allclose(mine, theirs[t], atol=1e-6)
        memory = jnp.where(ended[t][:, None], net.memory, memory)
    fresh = step(params, obs[3], jnp.zeros((2, 4)))[1]
    np.testing.assert_allclose(memories[3, 0], fresh[0], atol=1e-6)
    assert np.abs(memories[3, 1] - fresh[1]).max() > 0.01


def test_sequences_overlap_and_begin_with_the_memory_of_the_actor():
    """Unrolling a stored sequence by its stride from its stored memory gives the next one's, over resets too."""
    env, params = envs.make("CartPole-Hidden-v0")
    config = r2d2.Config(num_envs=4, rollout_length=8, burn_in=3, n_step=2, hidden=(8,), memory_size=6, batch_size=4)
    agent = r2d2.make(env, config)
    assert agent.warmup_steps == 4 * (3 + 1 + 32 * 8)
    state = jax.jit(lambda key: agent.step(agent.init(key, HP, params))[0])(jax.random.key(0))
    assert int(state.replay.filled) == 33 * 4
    one = jax.tree.map(lambda x: x[:0, 0], state.window)  # shapes of a step
    length = 8 + 3 + 1
    sequence = jax.tree.map(lambda x: jax.ShapeDtypeStruct((length, *x.shape[1:]), x.dtype), one)
    sequence = sequence._replace(extras=(), memory=jax.ShapeDtypeStruct((6,), jnp.float32))
    stored = packing.unpack(packing.layout_of(sequence), state.replay.rows)
    stored = jax.tree.map(lambda x: x[: 33 * 4].reshape(33, 4, *x.shape[1:]), stored)
    np.testing.assert_array_equal(stored.obs[:-1, :, 8:], stored.obs[1:, :, :4])
    net = r2d2.build(config, env.observation_space, 2)
    flat = jax.tree.map(lambda x: jnp.swapaxes(x.reshape(-1, *x.shape[2:]), 0, 1)[:8], stored._replace(memory=()))
    ended = flat.terminated | flat.truncated
    start = stored.memory.reshape(-1, 6)
    _, memories = jax.jit(net.unroll)(state.learner.target_params, flat.obs, start, ended)
    after = jnp.where(ended[-1][:, None], 0.0, memories[-1]).reshape(33, 4, 6)
    np.testing.assert_allclose(after[:-1], stored.memory[1:], atol=1e-5)
    assert ended.any()
    assert np.abs(after).max() > 0.01


@pytest.mark.parametrize("remedies", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_learns_what_needs_a_memory(remedies, optimised):
    """Recall: V = γ at the cue and 1 at the blank, where a policy without a memory gets 0. Without remedies: DRQN."""
    env, params = probes.Recall(), probes.Params()
    config = r2d2.Config(
        num_envs=8,
        rollout_length=6,
        burn_in=3 if remedies else 0,
        stored_memory=remedies,
        double=remedies,
        prioritized=remedies,
        value_rescaling=remedies,
        n_step=1,  # the second action is random, and longer returns are of the policy that acts
        warmup_steps=480,
        replay_capacity=400,
        hidden=(),
        memory_size=16,
    )
    agent = r2d2.make(env, config)
    hp = r2d2.Hyperparams(learning_rate=5e-3, gamma=0.9, target_period=20, epsilon_end=1.0, total_steps=1e6)
    net = r2d2.build(config, env.observation_space, 2)

    @optimised
    def learn(key):
        state, _ = jaxrl.run(agent, agent.init(key, hp, params), 300)
        obs = jnp.eye(3)[jnp.array([[0, 1], [2, 2]])]  # time first: two episodes, a cue and the blank
        (q,), _ = net.unroll(state.learner.params, obs, jnp.zeros((2, 16)), jnp.zeros((2, 2), bool))
        return q.max(-1), jaxrl.evaluate(env, params, agent.policy(state), jax.random.key(1), 32, max_steps=3).returns

    values, returns = learn(jax.random.key(7))
    if config.value_rescaling:
        values = losses.signed_parabolic(values)
    np.testing.assert_allclose(values, [[0.9, 0.9], [1.0, 1.0]], atol=0.1)
    np.testing.assert_allclose(returns, 1.0)


def test_bad_input():
    env, _ = envs.make("CartPole-v1")
    for options, message in [
        ({"burn_in": -1}, "burn_in=-1"),
        ({"n_step": 0}, "n_step=0"),
        ({"replay_capacity": 30}, "replay_capacity=30 must be at least 100"),
        ({"hindsight": 1}, "hindsight=1 must be 0"),
    ]:
        with pytest.raises(InputError, match=message):
            r2d2.make(env, r2d2.Config(**options))
    with pytest.raises(InputError, match="r2d2 needs a Discrete action space"):
        r2d2.make(envs.make("Pendulum-v1")[0])


@pytest.mark.slow
def test_learns_cartpole_without_velocities(optimised):
    """A random policy has 22."""
    env, params = envs.make("CartPole-Hidden-v0")
    train = make_train(r2d2.make(env), env_steps=200_000, num_evals=5)
    result = optimised(train)(jax.random.key(12), r2d2.Hyperparams(), params)
    assert float(result.evaluation.returns.mean(-1).max()) >= 200
