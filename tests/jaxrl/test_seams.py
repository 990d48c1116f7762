"""What the seams must carry: a reference policy that runs share, a cost with a multiplier, a learned model as an
environment, a game in turns, a dataset. Small problems with known answers, by the library's own learners."""

from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import struct

import envs
import jaxrl
from envs import episode, probes
from envs.base import Env, Step
from envs.errors import InputError
from envs.games.nim import Nim
from envs.spaces import Box
from jaxrl import placement, signals
from jaxrl.agents import dqn, ppo, sac
from jaxrl.loops import off_policy, offline, on_policy
from jaxrl.rollout import rollout
from jaxrl.signals import multipliers
from jaxrl.types import Context, Policy, Transition


def with_reference(config, nets, hp, context, learner, params, samples):
    """PPO's loss and a penalty on the KL to a policy that all runs share."""
    total, scalars = ppo.loss(config, nets, hp, context, learner, params, samples)
    reference = nets.policy(context.shared["reference"], samples.obs)
    kl = reference.kl(nets.policy(params, samples.obs)).mean()
    return total + 100.0 * kl, scalars | {"reference_kl": kl}


def test_a_reference_policy_is_shared(tmp_path):
    """Held to it, PPO stays near; left alone it goes far. One copy for all runs, known to checkpoints by its hash."""
    env, params = envs.make("CartPole-v1")
    config = ppo.Config(num_envs=4, rollout_length=32, hidden=(8,), num_minibatches=2)
    nets = ppo.build(config, env.observation_space, env.action_space)
    reference = nets.init(jax.random.key(5))
    hp = ppo.Hyperparams(learning_rate=1e-2)
    options = {"seeds": (0, 1, 2, 3), "env_steps": 4_000, "num_evals": 2, "eval_episodes": 2}
    agent = ppo.make(env, config, loss=with_reference)

    def fit(reference, **more):
        return jaxrl.fit(agent, params, hp, shared={"reference": reference}, **options, **more)

    held = fit(reference, directory=tmp_path / "held")
    kl = np.asarray(held.results.learner_reference_kl[:, 1:])
    assert (kl[:, 1] < 0.01).all()
    free = jaxrl.fit(ppo.make(env, config), params, hp, **options)
    obs = jnp.asarray(np.random.default_rng(0).normal(size=(64, 4)), jnp.float32)

    def distance(state):
        return nets.policy(reference, obs).kl(nets.policy(state.learner.params, obs)).mean()

    assert (jax.vmap(distance)(held.state) < 0.1 * jax.vmap(distance)(free.state)).all()
    # A run alone, by the function of a whole run, is a lane of the batch.
    train = jax.jit(jaxrl.make_train(agent, 4_000, 2, 2))
    alone = train(jax.random.key(2), hp, params, {"reference": reference})
    np.testing.assert_allclose(alone.evaluation.returns.mean(-1), held.results.evaluation_return[2, 1:], rtol=1e-5)
    fit(reference, directory=tmp_path / "held", resume=True)
    with pytest.raises(InputError, match="shared"):
        fit(jax.tree.map(lambda x: x + 1, reference), directory=tmp_path / "held", resume=True)
    run = jaxrl.load(tmp_path / "held", agent=agent, shared={"reference": reference})
    np.testing.assert_array_equal(distance(run.state_of(2)), distance(jax.tree.map(lambda x: x[2], held.state)))
    with pytest.raises(InputError, match="shared: ours absent"):
        jaxrl.load(tmp_path / "held", agent=agent)


@struct.dataclass
class Limited(ppo.Hyperparams, multipliers.Hyperparams):
    """PPO's hyper-parameters and those of the multiplier."""


def test_a_cost_is_kept_to_its_limit():
    """`ActionCost`: with one unit of cost an episode, the costly action belongs to state 1 alone, at 1 ≤ λ ≤ 2."""
    env = probes.ActionCost()
    config = ppo.Config(num_envs=16, rollout_length=16, hidden=(8,), anneal_learning_rate=False)
    learner = ppo.algorithm(config, env.observation_space, env.action_space)
    agent = on_policy.make(
        "limited", env, learner, config, signals=(signals.lagrangian(env.num_costs, config.num_envs),)
    )
    hp = Limited(
        learning_rate=1e-2,
        gamma=0.9,
        entropy_coef=0.1,  # keeps the multiplier from swinging past both ends
        cost_limit=1.0,
        multiplier_learning_rate=0.05,
        total_steps=1e6,
    )
    state = agent.init(jax.random.key(0), hp, env.default_params())
    state, metrics = jax.jit(lambda state: jaxrl.run(agent, state, 400))(state)
    nets = ppo.build(config, env.observation_space, env.action_space)
    costly = jax.nn.softmax(nets.policy(state.learner.params, jnp.eye(2)).logits)[:, 1]
    np.testing.assert_allclose(costly, [0.0, 1.0], atol=0.15)
    multiplier, cost = metrics.scalars["multiplier_0"][-50:], metrics.scalars["episode_cost_0"][-50:]
    assert ((multiplier > 0.9) & (multiplier < 2.1)).all()
    np.testing.assert_allclose(cost.mean(), 1.0, atol=0.1)
    # The clock, the evaluation and the transitions know the cost, too.
    done = jaxrl.evaluate(env, env.default_params(), agent.policy(state), jax.random.key(1), 8, max_steps=4)
    np.testing.assert_array_equal(done.costs, np.ones((8, 1)))
    episodes = jax.tree.map(lambda x: x.sum(0), metrics.episodes)
    assert episodes.cost_sum.shape == (1,)
    assert 0 < float(episodes.cost_sum[0] / episodes.count) < 2


class Weights(NamedTuple):
    """Of the linear model: x' = x A + a B, r = −x Q x."""

    a: Any
    b: Any


@dataclass(frozen=True)
class Line(Env):
    """A point on a line is pushed to 0: x' = x + 0.2 a, reward 1 − x'². Its parameters may as well be learnt."""

    @property
    def observation_space(self):
        return Box(-np.inf, np.inf, (1,))

    @property
    def action_space(self):
        return Box(-1.0, 1.0, (1,))

    def default_params(self):
        return Weights(1.0, 0.2)

    def reset(self, key, params):
        x = jax.random.uniform(key, (1,), minval=-1.0, maxval=1.0)
        return x, x

    def step(self, key, state, action, params):
        x = params.a * state + params.b * action
        return Step(x, x, 1.0 - jnp.square(x[0]), jnp.bool_(False), {})


def test_a_learned_model_is_an_environment():
    """SAC's update on steps of a model whose weights are its parameters: fitted to 64 true steps, then 1,000 imagined
    ones from states that were met, and the policy pushes the true point to 0. Nothing of it knows a loop."""
    env = Line(max_steps=10)
    config = sac.Config(hidden=(32, 32), batch_size=64)
    learner = sac.algorithm(config, env.observation_space, env.action_space)
    hp = sac.Hyperparams(gamma=0.8, policy_learning_rate=3e-3, critic_learning_rate=3e-3, temperature=0.05)
    random = Policy(lambda key, obs, memory: (jax.random.uniform(key, (len(obs), 1), minval=-1), memory, ()))
    start = episode.reset(env, env.default_params(), jax.random.key(0), 8)
    seen = rollout(env, env.default_params(), random, start, (), jax.random.key(1), 8).transitions
    x = jnp.concatenate([seen.obs.reshape(-1, 1), seen.action.reshape(-1, 1)], 1)
    model = Weights(*jnp.linalg.lstsq(x, seen.next_obs.reshape(-1))[0])
    np.testing.assert_allclose(model, env.default_params(), atol=1e-4)

    def imagine_and_learn(state, key):
        key_start, key_rollout, key_update = jax.random.split(key, 3)
        rows = jax.random.randint(key_start, (64,), 0, 64)
        branch = episode.begin(env, x[rows, :1], x[rows, :1])
        acting = learner.explore(hp, Context(), state)
        # The explorer remembers its noise; a branch of one step starts without.
        memory = jnp.zeros((64, 1))
        imagined = rollout(env, model, acting, branch, memory, key_rollout, 1).transitions
        batch = jax.tree.map(lambda x: x[0], imagined._replace(extras=()))
        return learner.update(hp, Context(), state, batch, key_update)

    def train(key):
        key, key_init = jax.random.split(key)
        state, _ = jax.lax.scan(imagine_and_learn, learner.init(key_init, hp), jax.random.split(key, 1_000))
        return jaxrl.evaluate(env, env.default_params(), learner.greedy(hp, Context(), state), jax.random.key(2), 32)

    scores = jax.jit(jax.vmap(train))(jax.random.split(jax.random.key(3), 2)).returns.mean(-1)
    idle = jaxrl.evaluate(
        env,
        env.default_params(),
        Policy(lambda key, obs, memory: (jnp.zeros((len(obs), 1)), memory, ())),
        jax.random.key(2),
        32,
    )
    best = 10 - 0.5  # what pushing straight to 0 costs on average is less than half a step's reward
    assert (scores > best).all()
    assert idle.returns.mean() < 8


def test_players_in_turn_share_a_learner():
    """Nim with seven stones: PPO against itself finds the winning move wherever there is one."""
    game = Nim(max_steps=10)
    config = ppo.Config(num_envs=16, rollout_length=32, hidden=(32,), activation="tanh", anneal_learning_rate=False)
    agent = ppo.make(game, config)
    hp = ppo.Hyperparams(learning_rate=3e-3, gamma=1.0, entropy_coef=0.01, total_steps=1e6)
    state = agent.init(jax.random.key(0), hp, game.default_params())
    state, metrics = jax.jit(lambda state: jaxrl.run(agent, state, 300))(state)
    assert np.isfinite(metrics.scalars["loss"]).all()
    nets = ppo.build(config, game.observation_space, game.action_space)
    heap = np.eye(9, dtype=np.float32)[1:8]
    heap[:, -1] = 1.0
    mask = np.ones((7, 2), bool)
    mask[0, 1] = False
    policy = nets.policy(state.learner.params, {"heap": heap, "action_mask": mask})
    moves = np.asarray(policy.mode()) + 1
    for stones in range(1, 8):
        if stones % 3:
            assert moves[stones - 1] == stones % 3, stones
    # Both seats at once: who begins with seven stones wins.
    played = jaxrl.evaluate(game, game.default_params(), agent.policy(state), jax.random.key(1), 4)
    np.testing.assert_array_equal(played.returns, [[1, -1]] * 4)
    value = nets.value(state.learner.params, {"heap": heap, "action_mask": mask})
    np.testing.assert_allclose(value[:4], [1, 1, -1, 1], atol=0.35)


def test_the_same_learner_learns_from_a_dataset():
    """DQN's update on random steps of a probe that all runs share: the exact values; the loop gathers nothing."""
    env, gamma = probes.DelayedReward(), 0.9
    config = dqn.Config(hidden=(16,), batch_size=32, num_updates=50)
    random = Policy(lambda key, obs, memory: (jax.random.randint(key, (len(obs),), 0, 2), memory, ()))
    start = episode.reset(env, env.default_params(), jax.random.key(0), 8)
    steps = rollout(env, env.default_params(), random, start, (), jax.random.key(1), 32).transitions
    data = jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), steps)
    learner = dqn.algorithm(config, env.observation_space, env.action_space)
    agent = offline.make("dqn", env, learner, config)
    hp = dqn.Hyperparams(gamma=gamma, learning_rate=5e-3, total_steps=1e6)
    shared = {"data": data}

    def train(key, shared):
        state = agent.init(key, hp, env.default_params(), shared)
        return jaxrl.run(agent, state, 40, shared)[0].learner.params

    mapped = placement.map_runs(train)
    params = jax.jit(lambda keys, shared: mapped(keys, shared=shared))(jax.random.split(jax.random.key(2), 4), shared)
    net = dqn.build(config, env.observation_space, 2)
    values = jax.vmap(net.apply, (0, None))(params, jnp.eye(2)).max(-1)
    np.testing.assert_allclose(values, np.broadcast_to(env.values(gamma), (4, 2)), atol=0.1)
    with pytest.raises(InputError, match="learns from a dataset"):
        agent.init(jax.random.key(0), hp, env.default_params())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"obs": np.zeros((2, 2))}, "obs of the dataset has the shape"),
        ({"obs": np.zeros((4, 5))}, "obs of the dataset has the shape"),
        ({"action": np.zeros((4, 1), np.int32)}, "action of the dataset has the shape"),
        ({"terminated": False}, "terminated of the dataset has the shape"),
        ({"reward": np.zeros(0)}, "at least 1"),
        ({"reward": np.zeros((2, 2, 2))}, "at least 1"),
    ],
)
def test_a_dataset_that_does_not_fit_is_refused(change, message):
    env, config = probes.DelayedReward(), dqn.Config(hidden=(4,))
    agent = offline.make("dqn", env, dqn.algorithm(config, env.observation_space, env.action_space), config)
    flags = np.zeros(4, bool)
    good = Transition(np.zeros((4, 2)), np.zeros(4, np.int32), np.zeros(4), flags, flags, np.zeros((4, 2)))
    hp = dqn.Hyperparams(total_steps=1e3)
    agent.init(jax.random.key(0), hp, env.default_params(), {"data": good})
    with pytest.raises(InputError, match=message):
        agent.init(jax.random.key(0), hp, env.default_params(), {"data": good._replace(**change)})
    with pytest.raises(InputError, match=r"must be a jaxrl\.Transition"):
        agent.init(jax.random.key(0), hp, env.default_params(), {"data": {"obs": good.obs}})


@pytest.mark.parametrize("make", [partial(off_policy.make, "dqn")])
def test_a_game_is_refused_where_one_player_learns(make):
    game = Nim()
    learner = dqn.algorithm(dqn.Config(), Box(0, 1, (3,)), game.action_space)
    with pytest.raises(InputError, match="plays alone: Nim has 2 players"):
        make(game, learner, dqn.Config())


def test_weights_of_a_batch_count():
    """Rows of weight 0 might as well not be there, in PPO's loss as in its normalised advantages."""
    env, _ = envs.make("CartPole-v1")
    config = ppo.Config(num_envs=4, rollout_length=8, hidden=(8,), num_minibatches=1, num_epochs=1)
    learner = ppo.algorithm(config, env.observation_space, env.action_space)
    hp = ppo.Hyperparams(gae_lambda=0.0)
    state = learner.init(jax.random.key(0), hp)
    params = env.default_params()
    start = episode.reset(env, params, jax.random.key(1), 4)
    acting = learner.explore(hp, Context(progress=0.0), state)
    batch = rollout(env, params, acting, start, (), jax.random.key(2), 8).transitions
    half = jax.tree.map(lambda x: x[:, :2], batch)
    weight = jnp.broadcast_to(jnp.array([1.0, 1.0, 0.0, 0.0]), (8, 4))
    one, _ = learner.update(hp, Context(progress=0.0), state, half, jax.random.key(3))
    other, _ = learner.update(hp, Context(progress=0.0), state, batch._replace(weight=weight), jax.random.key(3))
    for a, b in zip(jax.tree.leaves(one.params), jax.tree.leaves(other.params), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-5)
    assert isinstance(batch, Transition)
