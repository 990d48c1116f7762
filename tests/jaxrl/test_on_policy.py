"""The on-policy loop around an algorithm that only notes what it is given."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import threefry
from envs.base import Env, Step
from envs.errors import InputError
from envs.spaces import Box, Discrete
from jaxrl import networks, signals
from jaxrl.loops import clock, on_policy
from jaxrl.types import Algorithm, Diagnostics, Policy, Signal, Transition

SIZES = {"num_envs": 3, "rollout_length": 10}


class Noted(NamedTuple):
    """What the policy attaches to a step."""

    obs: Any  # as it saw it
    age: Any  # its memory: steps since the episode began
    updates: Any  # of the learner that acted


def policy_of(learner):
    def act(key, obs, age):
        del key
        noted = Noted(obs, age, jnp.broadcast_to(learner["updates"], age.shape))
        return age % 2, age + 1, noted

    return Policy(act, jnp.int32(0))


def update(hp, context, learner, batch, key):
    told = {"batch": batch, "context": context, "hp": hp, "key": jax.random.key_data(key)}
    return learner | {"updates": learner["updates"] + 1}, Diagnostics(told)


def algorithm(update=update, **flags):
    return Algorithm(
        init=lambda key, hp: {"updates": jnp.int32(0)},
        update=update,
        explore=lambda hp, context, learner: policy_of(learner),
        greedy=lambda hp, context, learner: policy_of(learner),
        **flags,
    )


def cartpole(config, learner=None, **options):
    """(agent, jitted init, jitted step, parameters), with episodes of at most 4 steps: none ends before."""
    env, params = envs.make("CartPole-v1", max_steps=4)
    agent = on_policy.make("fake", env, learner or algorithm(), config, **options)
    return agent, jax.jit(agent.init), jax.jit(agent.step), params


def key_data(key):
    return np.asarray(jax.random.key_data(key))


def test_what_an_update_receives():
    """Two rollouts, the second of which goes on where the first stopped, in environment and memory alike."""
    agent, init, step, params = cartpole(on_policy.Config(**SIZES))
    assert (agent.steps_per_iteration, agent.warmup_steps) == (30, 0)
    hp = on_policy.Hyperparams(gamma=0.5, total_steps=120.0)
    state = init(jax.random.key(0), hp, params)
    for i in range(2):
        before = state
        state, (episodes, told) = step(state, {"data": jnp.arange(3)})
        batch, context = told["batch"], told["context"]
        np.testing.assert_array_equal(batch.obs[0], before.episode.obs)
        np.testing.assert_array_equal(batch.memory, before.memory)
        goes_on = ~np.asarray(batch.truncated)
        np.testing.assert_allclose(batch.next_obs[-1][goes_on[-1]], state.episode.obs[goes_on[-1]], atol=1e-7)
        np.testing.assert_allclose(batch.next_obs[:-1][goes_on[:-1]], batch.obs[1:][goes_on[:-1]], atol=1e-7)
        assert batch.obs.shape == batch.next_obs.shape == (10, 3, 4)
        age = (np.arange(10) + 10 * i)[:, None] % 4 + np.zeros((1, 3), int)
        np.testing.assert_array_equal(batch.extras.age, age)
        np.testing.assert_array_equal(batch.action, age % 2)
        np.testing.assert_array_equal(batch.truncated, age == 3)
        np.testing.assert_array_equal(state.memory, (age[-1] + 1) % 4)
        assert not np.asarray(batch.terminated).any()
        assert batch.weight == batch.discount == batch.cost == ()
        np.testing.assert_array_equal(batch.extras.updates, i)
        np.testing.assert_array_equal(context.shared["data"], [0, 1, 2])
        assert jax.tree.all(jax.tree.map(np.array_equal, context.env_params, params))
        assert float(context.progress) == 0.25 * i
        assert float(told["hp"].gamma) == 0.5
        assert int(episodes.count) == int((age == 3).sum())
        assert int(episodes.length_sum) == 4 * int((age == 3).sum())
    assert int(state.iteration) == int(state.learner["updates"]) == 2


def test_an_algorithm_that_does_not_draw_costs_no_key():
    """The keys are those that `spawn` gives: to carry on, for the rollout, and for the update if it wants one."""
    config, hp = on_policy.Config(**SIZES), on_policy.Hyperparams()
    for draws in (True, False):
        _, init, step, params = cartpole(config, algorithm(update_draws=draws, init_draws=draws))
        key = jax.random.key(1)
        state = init(key, hp, params)
        np.testing.assert_array_equal(key_data(state.key), key_data(jax.random.split(key, 2 + draws)[0]))
        following, metrics = step(state)
        carried, *others = threefry.spawn(state.key, 2 + draws)
        np.testing.assert_array_equal(key_data(following.key), key_data(carried))
        if draws:
            np.testing.assert_array_equal(metrics.scalars["key"], key_data(others[1]))


def test_whole_episodes_begin_anew_and_weigh_what_is_surely_whole():
    """Ten steps, episodes of four: the third would not fit, and the next rollout does not go on with it."""
    _, init, step, params = cartpole(on_policy.Config(**SIZES), whole_episodes=True)
    state = init(jax.random.key(0), on_policy.Hyperparams(), params)
    for _ in range(2):
        before = state
        state, metrics = step(state)
        batch = metrics.scalars["batch"]
        assert (np.asarray(batch.obs[0]) != before.episode.obs).all()
        np.testing.assert_array_equal(batch.memory, np.zeros(3))
        np.testing.assert_array_equal(batch.extras.age[:, 0], np.arange(10) % 4)
        np.testing.assert_array_equal(batch.weight, np.repeat(np.arange(10) < 8, 3).reshape(10, 3))
        assert batch.weight.dtype == jnp.float32
        carried, _, _, key_update = threefry.spawn(before.key, 4)
        np.testing.assert_array_equal(key_data(state.key), key_data(carried))
        np.testing.assert_array_equal(metrics.scalars["key"], key_data(key_update))  # not that of the new episodes


def test_which_episodes_count():
    """A limit of 3 steps in a rollout of 6: those that begin at 0 … 3."""
    ended = np.zeros((6, 3), bool)
    ended[[0, 2, 3, 5], 0] = True  # begin at 0, 1, 3, 4
    ended[[2, 5], 1] = True  # 0, 3
    ended[[1, 4], 2] = True  # 0, 2, 5
    want = np.array([[1, 1, 1, 1, 0, 0], [1, 1, 1, 1, 1, 1], [1, 1, 1, 1, 1, 0]], bool).T
    np.testing.assert_array_equal(on_policy.surely_whole(jnp.asarray(ended), 3), want)


def test_counting_does_not_prefer_short_episodes():
    """Episodes of 1 or 9 steps with equal probability, a limit of 9, a rollout of 12: half of those that count are
    long, though most of the steps and most of the endings say otherwise."""
    rng = np.random.default_rng(0)
    long = rng.random((13, 20_000)) < 0.5
    ended = np.zeros((12, 20_000), bool)
    began_counted = {True: 0, False: 0}
    for b in range(20_000):
        t, k = 0, 0
        while t < 12:
            length = 9 if long[k, b] else 1
            if t + length <= 12:
                ended[t + length - 1, b] = True
            t, k = t + length, k + 1
    counted = np.asarray(on_policy.surely_whole(jnp.asarray(ended), 9)) > 0
    first = np.concatenate([np.ones((1, 20_000), bool), ended[:-1]])
    for t, b in zip(*np.nonzero(first & counted), strict=True):
        began_counted[bool(not ended[t, b])] += 1
    share = began_counted[True] / sum(began_counted.values())
    np.testing.assert_allclose(share, 0.5, atol=0.01)


def test_online_agents_learn_after_every_step():
    """An iteration of five steps in two environments: [B, ...] five times, each acted on by a learner one update on."""

    def note(hp, context, learner, batch, key):
        del hp, key
        at = learner["updates"]
        following = {
            "updates": at + 1,
            "obs": learner["obs"].at[at].set(batch.obs),
            "acted": learner["acted"].at[at].set(batch.extras.updates),
        }
        assert batch.reward.shape == batch.truncated.shape == (2,)
        assert batch.memory == batch.weight == ()
        return following, Diagnostics({"progress": context.progress, "ended": batch.truncated.sum()})

    empty = {"updates": jnp.int32(0), "obs": jnp.zeros((10, 2, 4)), "acted": jnp.zeros((10, 2), jnp.int32)}
    learner = algorithm(note)._replace(init=lambda key, hp: empty)
    config = on_policy.OnlineConfig(num_envs=2, steps_per_iteration=5)
    agent, init, step, params = cartpole(config, learner)
    assert agent.steps_per_iteration == 10
    first = init(jax.random.key(0), on_policy.Hyperparams(total_steps=100.0), params)
    middle, metrics = step(first)
    last, _ = step(middle)
    np.testing.assert_array_equal(last.learner["obs"][0], first.episode.obs)
    np.testing.assert_array_equal(last.learner["obs"][5], middle.episode.obs)
    np.testing.assert_array_equal(last.learner["acted"], np.repeat(np.arange(10), 2).reshape(10, 2))
    assert int(last.iteration) == 10
    # Sums over the episodes, means over what the updates tell; updates are 2 of 100 steps apart.
    np.testing.assert_allclose(metrics.scalars["progress"], np.mean([0, 2, 4, 6, 8]) / 100, rtol=1e-6)
    np.testing.assert_allclose(metrics.scalars["ended"], 2 / 5)
    assert tuple(map(int, metrics.episodes[:3])) == (8, 8, 2)


def shifting(by, times, draws=False):
    """A signal whose state grows by `by` with every rollout; it adds its state to observations and multiplies them."""

    def seen(hp, state, obs):
        return times * (obs + state)

    def gathered(hp, state, batch, key):
        told = {f"state_{by}": state, f"key_{by}": jax.random.key_data(key)}
        return state + by, batch._replace(obs=seen(hp, state, batch.obs), reward=times * batch.reward), told

    return Signal(lambda key, hp: jnp.float32(by), gathered, seen=seen, draws=draws)


def test_the_update_sees_what_the_policy_saw_and_signals_move_afterwards():
    """The first signal comes first: 10 (2 (obs + a) + b)."""
    signals = (shifting(1, 2.0), shifting(100, 10.0, draws=True))
    agent, init, step, params = cartpole(on_policy.Config(**SIZES), signals=signals)
    state = init(jax.random.key(0), on_policy.Hyperparams(), params)
    for i in range(1, 4):
        before = state
        state, metrics = step(state)
        told, batch = metrics.scalars, metrics.scalars["batch"]
        np.testing.assert_array_equal(batch.obs, batch.extras.obs)
        want = 10 * (2 * (np.asarray(before.episode.obs) + i) + 100 * i)
        np.testing.assert_allclose(batch.obs[0], want, rtol=1e-6)
        np.testing.assert_array_equal(batch.reward, 20.0)
        assert (float(told["state_1"]), float(told["state_100"])) == (i, 100 * i)
        assert tuple(map(float, state.signals)) == (i + 1, 100 * (i + 1))
        # The greedy policy, evaluated now, sees with what has moved.
        _, _, noted = agent.policy(state).act(jax.random.key(0), jnp.zeros((3, 4)), before.memory)
        np.testing.assert_allclose(noted.obs, 10 * (2 * (i + 1) + 100 * (i + 1)))
        keys = {tuple(np.asarray(told[name]).tolist()) for name in ("key", "key_1", "key_100")}
        assert len(keys) == 3


class Coin(Env):
    """Ends after one step or after nine, as likely; reward 1. The mean return is 5."""

    @property
    def observation_space(self):
        return Box(0.0, 9.0, (1,))

    @property
    def action_space(self):
        return Discrete(2)

    def default_params(self):
        return ()

    def reset(self, key, params):
        left = jnp.where(jax.random.bernoulli(key), 9, 1)
        return left[None].astype(jnp.float32), left

    def step(self, key, state, action, params):
        return Step((state - 1)[None].astype(jnp.float32), state - 1, jnp.float32(1), state == 1, {})


def test_episodes_that_are_reported_are_no_shorter_than_others():
    """Of those that end within the rollout too many are short."""
    config = on_policy.Config(num_envs=2000, rollout_length=12)
    agent = on_policy.make("fake", Coin(max_steps=9), algorithm(), config, whole_episodes=True)
    state = jax.jit(agent.init)(jax.random.key(0), on_policy.Hyperparams(), ())
    _, metrics = jax.jit(agent.step)(state)
    stats, batch = metrics.episodes, metrics.scalars["batch"]
    assert abs(float(stats.return_sum) / int(stats.count) - 5.0) < 0.3
    assert int(stats.length_sum) == float(stats.return_sum) == float(batch.weight.sum())
    ended = np.asarray(batch.terminated | batch.truncated)
    last = np.where(ended, np.arange(1, 13)[:, None], 0).max(0)  # steps of all that ended
    assert last.sum() / ended.sum() < 4.5
    assert int(stats.count) >= 2000


def test_parts_of_an_observation_are_normalised_each_for_itself():
    space = {
        "picture": Box(0, 255, (2,), np.uint8),
        "kind": Discrete(3),
        "action_mask": Box(0, 1, (2,), np.bool_),
    }
    signal = signals.observations(space)
    rng = np.random.default_rng(0)
    obs = {
        "picture": jnp.asarray(rng.integers(0, 256, (500, 1, 2)), jnp.uint8),
        "kind": jnp.asarray(rng.integers(0, 3, (500, 1)), jnp.int32),
        "action_mask": jnp.asarray(rng.random((500, 1, 2)) < 0.5),
    }
    flag = jnp.zeros((500, 1), bool)
    batch = Transition(obs, flag, jnp.zeros((500, 1)), flag, flag, obs)
    state, _, _ = signal.gathered((), signal.init(jax.random.key(0), ()), batch, jax.random.key(0))
    seen = signal.seen((), state, obs)
    np.testing.assert_array_equal(seen["kind"], obs["kind"])
    np.testing.assert_array_equal(seen["action_mask"], obs["action_mask"])
    # The network's encoder leaves what is normalised as it is: no second division by 255.
    encoded = np.asarray(networks.encode(space, "mlp", seen))
    np.testing.assert_allclose(encoded[..., -2:].std((0, 1)), 1.0, atol=1e-3)
    with pytest.raises(InputError, match="normalize_obs needs Box observations"):
        signals.observations({"kind": Discrete(3)})


def test_normalisation_is_what_the_configuration_asks_for():
    config = on_policy.Config(**SIZES, normalize_obs=True, normalize_reward=True)
    _, init, step, params = cartpole(config)
    state, raw = init(jax.random.key(0), on_policy.Hyperparams(gamma=0.5), params), []
    for _ in range(2):
        before = state
        state, metrics = step(state)
        batch, moments = metrics.scalars["batch"], before.signals[0]
        np.testing.assert_array_equal(batch.obs, batch.extras.obs)
        std = np.sqrt(moments.m2 / moments.count) if float(moments.count) else np.ones(4)
        raw.append(np.asarray(batch.obs) * std + moments.mean)
        np.testing.assert_allclose(raw[-1][0], before.episode.obs, rtol=1e-3, atol=1e-5)
        np.testing.assert_allclose(state.signals[0].mean, np.concatenate(raw).mean((0, 1)), rtol=1e-3, atol=1e-5)
    assert float(state.signals[1].moments.count) == 60
    assert np.unique(batch.reward).size == 1
    assert float(batch.reward[0, 0]) != 1.0


@pytest.mark.parametrize("iteration", [0, 3, 4, 5, 2**31 - 2, 2**31 - 1])
def test_progress_stays_between_0_and_1(iteration):
    """Four iterations are a run; the counter stops instead of wrapping."""
    _, init, step, params = cartpole(on_policy.Config(**SIZES))
    state = init(jax.random.key(0), on_policy.Hyperparams(total_steps=120.0), params)
    state, metrics = step(state._replace(iteration=jnp.int32(iteration)))
    assert float(metrics.scalars["context"].progress) == min(iteration / 4, 1.0)
    assert int(state.iteration) == min(iteration + 1, 2**31 - 1)


def test_progress_of_runs_that_count_beyond_integers():
    """Near 2^31 iterations of 2^20 steps each, about 2.25e15 steps, of a run of 4.5e15, and of none at all."""
    near = jnp.int32(2**31 - 2)
    hp = on_policy.Hyperparams(total_steps=2.0**52)
    np.testing.assert_allclose(clock.progress(hp, near, 2**20), 0.5, rtol=1e-6)
    np.testing.assert_allclose(clock.progress(hp, near, 2**20, warmup_steps=1000), 0.5, rtol=1e-6)
    assert float(clock.progress(on_policy.Hyperparams(total_steps=0.0), jnp.int32(0), 8)) == 1.0
    assert clock.progress(on_policy.Hyperparams(), near, 8) is None
