import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
import jaxrl
from envs import probes
from envs.errors import InputError
from jaxrl import losses, networks
from jaxrl.agents import rainbow
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

OFF = {
    "double": False,
    "prioritized": False,
    "dueling": False,
    "n_step": 1,
    "distributional": False,
    "noisy": False,
}
SIZES = {"num_envs": 4, "batch_size": 64, "warmup_steps": 200, "replay_capacity": 2_000, "hidden": (16,)}
HP = rainbow.Hyperparams(learning_rate=0.0, gamma=0.9, v_min=0.0, v_max=2.0, total_steps=1e4)


def one_step(discount=()):
    one_hot, no = jnp.eye(2), jnp.zeros(1, bool)
    return Transition(one_hot[:1], jnp.array([1]), jnp.array([-1.0]), no, no, one_hot[1:], discount=discount)


def test_everything_off_is_dqn():
    """The worked example: Q(s, a) = 3, r = −1, γ = 0.9, target values (2, 5) in s', where the online net prefers 0."""
    net = networks.Network(lambda key: jnp.zeros((2, 2)), lambda params, obs: obs @ params)
    learner = rainbow.init_learner(net, jax.random.key(0), HP)
    online, target = jnp.array([[0.0, 3.0], [9.0, 1.0]]), jnp.array([[0.0, 0.0], [2.0, 5.0]])
    learner = learner._replace(params=online, target_params=target)
    for options, batch, error in [
        ({}, one_step(), 0.5),
        ({"double": True}, one_step(), -2.2),
        ({"n_step": 3}, one_step(jnp.array([0.729])), -1 + 0.729 * 5 - 3),
    ]:
        config = rainbow.Config(**{**OFF, **options})
        batch = batch._replace(weight=jnp.array([0.5]))
        _, told = rainbow.update(config, net, HP, Context(), learner, batch, jax.random.key(0))
        np.testing.assert_allclose(told.priority, [abs(error)], rtol=1e-5)
        np.testing.assert_allclose(told.scalars["error"], abs(error), rtol=1e-5)
        np.testing.assert_allclose(told.scalars["loss"], 0.5 * 0.5 * error**2, rtol=1e-5)


def test_distributional_double_by_hand():
    """The online net (means 0.5, 1) chooses action 1 in s', the target's distribution of which is ½, ½, 0."""
    net = networks.Network(
        lambda key: jnp.zeros((2, 2, 3)), lambda params, obs: jnp.einsum("...s,sav->...av", obs, params)
    )
    tiny = 1e-20
    online = jnp.log(jnp.array([[[1.0, tiny, tiny], [0.5, 0.25, 0.25]], [[0.5, 0.5, tiny], [tiny, 1.0, tiny]]]))
    target = jnp.log(jnp.array([[[1.0, tiny, tiny], [1.0, tiny, tiny]], [[tiny, tiny, 1.0], [0.5, 0.5, tiny]]]))
    learner = rainbow.init_learner(net, jax.random.key(0), HP)._replace(params=online, target_params=target)
    batch = one_step()._replace(reward=jnp.array([1.0]))
    config = rainbow.Config(**{**OFF, "distributional": True, "double": True, "num_atoms": 3})
    hp = dataclasses.replace(HP, gamma=0.5)
    _, told = rainbow.update(config, net, hp, Context(), learner, batch, jax.random.key(0))
    # 1 + ½ z: ½ on 1 and ½ on 1.5, which is shared by 1 and 2
    want = 0.75 * np.log(0.75 / 0.25) + 0.25 * np.log(0.25 / 0.25)
    np.testing.assert_allclose(told.priority, [want], rtol=1e-5)
    np.testing.assert_allclose(losses.categorical_mean(target[1], 0.0, 2.0), [2.0, 0.5], atol=1e-6)


def learns_a_probe(**options):
    """DelayedActionReward: the first of two actions decides the second reward. V = γ, 0, 1."""
    env = probes.DelayedActionReward()
    agent = rainbow.make(env, rainbow.Config(**SIZES, num_updates=2, num_atoms=21, **options))
    hp = dataclasses.replace(HP, learning_rate=5e-3, target_period=20, v_min=-2.0, v_max=3.0)

    @jax.jit
    def learn(key):
        state, _ = jaxrl.run(agent, agent.init(key, hp, env.default_params()), 600)
        net = rainbow.build(agent.config, env.observation_space, 2)
        return rainbow.q_values(agent.config, hp, net.apply(state.learner.params, jnp.eye(3))).max(-1)

    np.testing.assert_allclose(learn(jax.random.key(7)), env.values(0.9), atol=0.12)


@pytest.mark.parametrize("off", [("double", "n_step"), ("prioritized", "noisy"), ("dueling", "distributional")])
def test_two_switches_off_leave_the_rest_right(off):
    learns_a_probe(**{name: OFF[name] for name in off})


@pytest.mark.slow
@pytest.mark.parametrize("off", OFF)
def test_each_switch_off_leaves_the_rest_right(off):
    learns_a_probe(**{off: OFF[off]})


def test_bad_input():
    env, _ = envs.make("CartPole-v1")
    for options, message in [
        ({"num_atoms": 1}, "num_atoms=1"),
        ({"n_step": 0}, "n_step=0"),
        ({"warmup_steps": 1}, "wa"),
    ]:
        with pytest.raises(InputError, match=message):
            rainbow.make(env, rainbow.Config(**options))
    with pytest.raises(InputError, match="rainbow needs a Discrete action space"):
        rainbow.make(envs.make("Pendulum-v1")[0])


@pytest.mark.slow
def test_learns_cartpole(optimised):
    env, params = envs.make("CartPole-v1")
    train = make_train(rainbow.make(env), env_steps=100_000, num_evals=5)
    result = optimised(train)(jax.random.key(12), rainbow.Hyperparams(), params)
    assert float(result.evaluation.returns.mean(-1).max()) >= 400
