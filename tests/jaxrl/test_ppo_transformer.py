import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs import episode, probes
from envs.errors import InputError
from envs.spaces import Box
from jaxrl import policies, transformer
from jaxrl.agents import ppo_transformer
from jaxrl.rollout import initial_memory, rollout


def by_loops(params, seen, num_layers, num_heads, memory_length):
    """The equations for one episode in f64, one step and one head after the other: outputs of "q", [T, features]."""

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def norm(x, p):
        return (x - x.mean()) / np.sqrt(x.var() + 1e-6) * p["scale"] + p["bias"]

    def linear(x, p):
        return x @ p["kernel"] + p.get("bias", 0.0)

    def gate(x, y, p):
        y_r, y_z, y_h = np.split(linear(y, p["y"]), 3)
        x_r, x_z = np.split(linear(x, p["x"]), 2)
        z = sigmoid(y_z + x_z - p["bias"])
        return (1 - z) * x + z * np.tanh(y_h + linear(sigmoid(y_r + x_r) * x, p["reset"]))

    outputs, past = [], [[] for _ in range(num_layers)]
    for obs in seen:
        x = linear(obs, params["embed"])
        for i in range(num_layers):
            p = params[f"layer_{i}"]
            past[i].append(x)
            window = past[i][-memory_length - 1 :]
            query = np.split(linear(norm(x, p["norm"]), p["query"]), num_heads)
            found = []
            for h in range(num_heads):
                keys_values = [linear(norm(w, p["norm"]), p["key_value"]) for w in window]
                parts = [np.split(kv.reshape(num_heads, -1)[h], 2) for kv in keys_values]
                logits = [
                    query[h] @ key / np.sqrt(len(key)) + p["position"][h, len(window) - 1 - j]
                    for j, (key, _) in enumerate(parts)
                ]
                weights = np.exp(logits) / np.exp(logits).sum()
                found.append(sum(w * value for w, (_, value) in zip(weights, parts, strict=True)))
            x = gate(x, np.maximum(linear(np.concatenate(found), p["found"]), 0), p["gate"])
            wide = np.maximum(linear(norm(x, p["norm_mlp"]), p["wide"]), 0)
            x = gate(x, np.maximum(linear(wide, p["narrow"]), 0), p["gate_mlp"])
        outputs.append(linear(x, params["q"]))
    return np.array(outputs)


def test_network_by_loops():
    """Two layers of two heads that look back 3 steps, over an episode of 9, against single steps and plain NumPy."""
    net = transformer.gated_transformer(Box(-1, 1, (3,)), [("q", 2, 1.0)], "mlp", (), "tanh", 4, 2, 2, 3)
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(9, 1, 3)).astype(np.float32)
    begun = jax.jit(net.init)(jax.random.key(0))
    np.testing.assert_array_equal(begun["layer_1"]["gate"]["bias"], 2.0)  # σ(−2) of what a layer makes gets through
    params = jax.tree.map(lambda x: rng.normal(size=x.shape, scale=0.7).astype(np.float32), begun)
    start = jax.tree.map(lambda x: x[None], net.memory)
    (q,), _ = jax.jit(net.unroll)(params, seen, start, np.zeros((9, 1), bool))
    want = by_loops(jax.tree.map(lambda x: x.astype(np.float64), params), seen[:, 0], 2, 2, 3)
    np.testing.assert_allclose(q[:, 0], want, rtol=1e-4, atol=1e-4)
    assert want.std() > 0.1


def test_replaying_is_acting():
    """From the memory that a rollout began with, its log-probabilities and values come out again, over resets too.

    Two layers that look back 4 steps, episodes of at most 11. Values of true successors are those that the next step
    would have had, also where the time limit cut the episode and the memory was set back.
    """
    env, env_params = envs.make("CartPole-Hidden-v0", max_steps=11)
    config = ppo_transformer.Config(features=8, num_layers=2, memory_length=4)
    nets = ppo_transformer.build(config, env.observation_space, env.action_space)
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
    # What was seen in the first step moves the values of its episode as far as two layers of 4 steps reach, 8 steps,
    # and, to the last bit, none beyond and none behind its end.
    moved = (np.cumsum(ended, 0) - ended == 0) & (np.arange(length)[:, None] <= 8)
    np.testing.assert_array_equal(other[~moved], value[~moved])
    assert (np.abs(other - value)[moved] > 1e-7).all()


@pytest.mark.slow
def test_learns_what_needs_a_memory():
    """Recall: V = γ at the cue and 1 at the blank, where a policy without a memory gets 0."""
    env, params = probes.Recall(), probes.Params()
    config = ppo_transformer.Config(
        rollout_length=16, features=8, memory_length=2, num_minibatches=1, normalize_reward=False
    )
    agent = ppo_transformer.make(env, config)
    hp = ppo_transformer.Hyperparams(learning_rate=1e-2, gamma=0.9, total_steps=60 * agent.steps_per_iteration)
    nets = ppo_transformer.build(config, env.observation_space, env.action_space)

    @jax.jit
    def learn(key):
        state, _ = jaxrl.run(agent, agent.init(key, hp, params), 60)
        cues = jnp.eye(3)[jnp.array([[0, 1], [2, 2]])]  # time first: two episodes, a cue and the blank
        start = jax.tree.map(lambda x: jnp.stack([x, x]), nets.memory)
        _, value, _ = nets.unroll(state.learner.params, cues, start, jnp.zeros((2, 2), bool))
        return value, jaxrl.evaluate(env, params, agent.policy(state), jax.random.key(1), 32, max_steps=3).returns

    value, returns = learn(jax.random.key(7))
    np.testing.assert_allclose(value, [[0.9, 0.9], [1.0, 1.0]], atol=0.1)
    np.testing.assert_allclose(returns, 1.0)


def test_bad_input():
    env, _ = envs.make("CartPole-v1")
    for options, message in [
        ({"num_minibatches": 3}, "num_minibatches=3 does not divide num_envs=16"),
        ({"num_heads": 3}, "num_heads=3 does not divide features=32"),
        ({"memory_length": 0}, "memory_length=0"),
    ]:
        with pytest.raises(InputError, match=message):
            ppo_transformer.make(env, ppo_transformer.Config(**options))
