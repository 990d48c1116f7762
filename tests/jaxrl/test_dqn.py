import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs import probes
from envs.errors import InputError
from envs.spaces import Box
from jaxrl import networks
from jaxrl.agents import dqn
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

HP = dqn.Hyperparams(learning_rate=0.0, gamma=0.9, total_steps=1e4)


def table_network():
    """Q is a table of 2 states × 2 actions; the observation is the state's one-hot vector."""
    return networks.Network(lambda key: jnp.zeros((2, 2)), lambda params, obs: obs @ params)


def transition(terminated=False, truncated=False):
    one_hot = jnp.eye(2)
    flags = (jnp.array([terminated]), jnp.array([truncated]))
    return Transition(one_hot[:1], jnp.array([1]), jnp.array([-1.0]), *flags, one_hot[1:], ())


@pytest.mark.parametrize(
    ("config", "terminated", "truncated", "error"),
    [
        # Q(s, a) = 3, r = −1, γ = 0.9, max target Q(s') = 5: target 3.5, error 0.5 (the worked example).
        (dqn.Config(), False, False, 0.5),
        (dqn.Config(), False, True, 0.5),  # a time limit changes nothing
        (dqn.Config(), True, False, -4.0),  # target −1
        (dqn.Config(), True, True, -4.0),
        # The online network prefers action 0 in s', which the target network values at 2: target 0.8.
        (dqn.Config(double=True), False, False, -2.2),
        # The target network values both actions of s alike: bonus 0.9 · 0.03 log ½; it is sure of the 5 in s'.
        (dqn.Config(munchausen=True), False, False, 0.5 + 0.027 * np.log(0.5)),
        (dqn.Config(munchausen=True), True, False, -4.0 + 0.027 * np.log(0.5)),
    ],
)
@pytest.mark.parametrize("huber", [False, True])
def test_loss_by_hand(config, terminated, truncated, error, huber):
    config = dataclasses.replace(config, huber=huber)
    learner = dqn.init_learner(table_network(), jax.random.key(0), HP)
    online, target = jnp.array([[0.0, 3.0], [9.0, 1.0]]), jnp.array([[0.0, 0.0], [2.0, 5.0]])
    learner = learner._replace(params=online, target_params=target)
    batch = transition(terminated, truncated)
    _, told = dqn.update(config, table_network(), HP, Context(), learner, batch, jax.random.key(0))
    want = abs(error) - 0.5 if huber and abs(error) > 1 else 0.5 * error**2
    np.testing.assert_allclose(told.scalars["loss"], want, rtol=1e-5)
    np.testing.assert_allclose(told.scalars["td_error"], abs(error), rtol=1e-5)
    np.testing.assert_allclose(told.priority, [abs(error)], rtol=1e-5)


def test_discounts_of_n_steps_and_weights_enter_the_loss():
    """Two transitions, the second of three steps with γ³ = 0.729: targets 3.5 and 2.645, errors 0.5 and −0.355."""
    learner = dqn.init_learner(table_network(), jax.random.key(0), HP)
    online, target = jnp.array([[0.0, 3.0], [9.0, 1.0]]), jnp.array([[0.0, 0.0], [2.0, 5.0]])
    learner = learner._replace(params=online, target_params=target)
    batch = jax.tree.map(lambda x: jnp.repeat(x, 2, 0), transition())
    batch = batch._replace(discount=jnp.array([0.9, 0.729]), weight=jnp.array([1.0, 0.25]))
    _, told = dqn.update(dqn.Config(n_step=3), table_network(), HP, Context(), learner, batch, jax.random.key(0))
    np.testing.assert_allclose(told.priority, [0.5, 0.355], rtol=1e-5)
    np.testing.assert_allclose(told.scalars["loss"], (0.5 * 0.5**2 + 0.25 * 0.5 * 0.355**2) / 2, rtol=1e-5)


@pytest.mark.parametrize(("period", "rate"), [(3, 1.0), (1, 0.25)])
def test_target_moves(period, rate):
    hp = dataclasses.replace(HP, learning_rate=0.1, target_period=period, target_rate=rate)
    learner = dqn.init_learner(table_network(), jax.random.key(0), hp)
    target = np.zeros((2, 2))
    for i in range(1, 7):
        learner, _ = dqn.update(dqn.Config(), table_network(), hp, Context(), learner, transition(), jax.random.key(0))
        if i % period == 0:
            target = target + rate * (np.asarray(learner.params) - target)
        np.testing.assert_allclose(learner.target_params, target, atol=1e-6)
    assert np.abs(target).max() > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"warmup_steps": 64}, "warmup_steps=64 .* between 128, what a draw needs"),
        ({"warmup_steps": 20_000}, "replay_capacity=10000"),
        ({"n_step": 0}, "n_step=0 must be at least 1"),
        ({"munchausen": True, "double": True}, "munchausen .* double=True"),
        ({"munchausen": True, "n_step": 2}, "munchausen .* n_step=2"),
    ],
)
def test_options_that_do_not_fit(options, message):
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match=message):
        dqn.make(env, dqn.Config(**options))


def test_continuous_actions_are_refused():
    env, _ = envs.make("Pendulum-v1")
    with pytest.raises(InputError, match="dqn needs a Discrete action space"):
        dqn.make(env)


def test_dueling_and_double_share_the_update():
    space = Box(-1, 1, (3,))
    config = dqn.Config(double=True, dueling=True, hidden=(8,))
    net = dqn.build(config, space, 2)
    hp = dataclasses.replace(HP, learning_rate=1e-2)
    learner = jax.jit(lambda key: dqn.init_learner(net, key, hp))(jax.random.key(0))
    obs = jax.random.normal(jax.random.key(1), (16, 3))
    flags = jnp.zeros(16, bool)
    batch = Transition(obs, jnp.zeros(16, int), jnp.ones(16), flags | True, flags, obs, ())
    step = jax.jit(lambda learner: dqn.update(config, net, hp, Context(), learner, batch, jax.random.key(0)))
    first = None
    for _ in range(200):
        learner, told = step(learner)
        first = told.scalars["loss"] if first is None else first
    assert told.scalars["loss"] < 0.01 * first  # regresses to the reward 1


# Together they are one program; what each does alone is tested by hand above and where it lives.
VARIANTS = {
    "all": {"double": True, "dueling": True, "n_step": 3, "prioritized": True, "exploration": "noisy"},
    "munchausen": {"munchausen": True, "prioritized": True},
}


@pytest.mark.parametrize("variant", VARIANTS)
def test_variants_treat_the_time_limit_right(variant):
    """Values 1 / (1 − γ²) of the state that is met only where the time limit cuts, γ and γ² of it before."""
    sizes = {"num_envs": 4, "batch_size": 64, "warmup_steps": 200, "replay_capacity": 2_000, "hidden": (16,)}
    agent = dqn.make(probes.TimeLimit(), dqn.Config(**sizes, num_updates=2, **VARIANTS[variant]))
    hp = dqn.Hyperparams(learning_rate=5e-3, gamma=0.9, target_period=20, epsilon_end=1.0, total_steps=1e4)
    hp = dataclasses.replace(
        hp, munchausen_alpha=0.0
    )  # without the bonus: what is left of softness is τ log 2 at every step

    @jax.jit
    def learn(key):
        state, _ = jaxrl.run(agent, agent.init(key, hp, probes.Params()), 800)
        return dqn.build(agent.config, agent.env.observation_space, 2).apply(state.learner.params, jnp.eye(3)).max(-1)

    np.testing.assert_allclose(learn(jax.random.key(7)), probes.TimeLimit().values(0.9), atol=0.5)


def test_warm_up_fills_the_replay_with_whole_n_step_transitions():
    """Rows of CartPole, whose reward is 1: the stored return is 1 + γ + γ² where three steps fitted, and says so."""
    env, params = envs.make("CartPole-v1")
    agent = dqn.make(env, dqn.Config(num_envs=4, warmup_steps=200, n_step=3, hidden=(8,)))
    assert agent.warmup_steps == 52 * 4
    state = jax.jit(agent.init)(jax.random.key(0), HP, params)
    assert int(state.replay.filled) == 200
    rows = np.asarray(state.replay.rows["uint32"][:200])
    # words: obs 4, action, reward, next_obs 4, discount
    reward, discount = rows[:, 5].view(np.float32), rows[:, 10].view(np.float32)
    flags = np.asarray(state.replay.rows["uint8"][:200])
    whole = ~flags.any(1)
    assert 0 < whole.sum() < 200
    np.testing.assert_allclose(reward[whole], 1 + 0.9 + 0.81, rtol=1e-6)
    np.testing.assert_allclose(discount[whole], 0.9**3, rtol=1e-6)
    ended = flags[:, 0] == 1  # CartPole's random episodes end by termination
    assert set(reward[ended].astype(np.float64).round(4).tolist()) == {1.0, 1.9, 2.71}
    assert not discount[ended].any()


def test_noisy_explores_by_its_weights_and_is_evaluated_without():
    env, params = envs.make("CartPole-v1")
    agent = dqn.make(env, dqn.Config(num_envs=4, exploration="noisy", hidden=(8,)))
    state = jax.jit(agent.init)(jax.random.key(0), HP, params)
    obs = 0.1 * jax.random.normal(jax.random.key(1), (50, 4))
    net = dqn.build(agent.config, env.observation_space, 2)
    q = jax.jit(jax.vmap(lambda key: net.apply(state.learner.params, obs, key)))(
        jax.random.split(jax.random.key(2), 20)
    )
    assert 0.1 < np.mean(np.argmax(q, -1)) < 0.9  # near the start the noise decides
    actions, _, _ = agent.policy(state).act(jax.random.key(3), obs, ())
    mean = networks.q_network(env.observation_space, 2, "mlp", (8,), "relu")
    np.testing.assert_array_equal(actions, np.argmax(mean.apply(state.learner.params["mean"], obs), -1))


def test_softmax_explores_by_its_temperature():
    """Without learning: always the same action, so rewards all 0 or all 1, when cold; both as often when hot."""
    env, params = probes.ActionReward(), probes.Params()
    agent = dqn.make(env, dqn.Config(num_envs=50, exploration="softmax", hidden=(8,), rollout_length=10))

    def mean_reward(temperature):
        state = agent.init(jax.random.key(0), dataclasses.replace(HP, temperature=temperature), params)
        stats = agent.step(state)[1].episodes
        return stats.return_sum / stats.count

    cold, hot = jax.jit(jax.vmap(mean_reward))(jnp.array([1e-6, 1e6]))
    assert cold in (0.0, 1.0)
    np.testing.assert_allclose(hot, 0.5, atol=0.08)  # 500 draws


@pytest.mark.slow
def test_learns_cartpole_quickly(optimised):
    """50,000 steps with an update every 4 reach a return above 150; a random policy has 22."""
    env, params = envs.make("CartPole-v1")
    config = dqn.Config(num_envs=4, double=True)
    train = make_train(dqn.make(env, config), env_steps=50_000, num_evals=5)
    result = optimised(train)(jax.random.key(12), dqn.Hyperparams(learning_rate=1e-3), params)
    assert float(result.evaluation.returns.mean(-1).max()) >= 150
