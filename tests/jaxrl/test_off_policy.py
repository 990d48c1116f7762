"""The off-policy loop around an algorithm that keeps the batches it is given: what is stored, drawn and reported."""

import dataclasses
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import probes
from envs.base import Env, Step
from envs.errors import InputError
from envs.goals.bit_flipping import BitFlipping
from envs.spaces import Box, Discrete, MultiDiscrete
from jaxrl import n_step
from jaxrl.loops import off_policy
from jaxrl.replay import ring, sequences
from jaxrl.rollout import example
from jaxrl.types import Algorithm, Diagnostics, Policy, Transition

CONFIG = off_policy.Config(
    num_envs=3, rollout_length=2, num_updates=2, batch_size=4, replay_capacity=200, warmup_steps=10
)
HP = off_policy.Hyperparams(total_steps=1e6)


class Kept(NamedTuple):
    """What the last update was given."""

    batch: Transition
    progress: Any
    shared: Any
    key: Any
    updates: jax.Array


def constant(env, value=0.75):
    """A policy of the unit box that says one thing; actions that are numbers are 1."""

    def act(key, obs, memory):
        num = jax.tree.leaves(obs)[0].shape[0]
        space = env.action_space
        return jnp.full((num, *space.shape), value) if hasattr(space, "lower") else jnp.ones(num, jnp.int32), memory, ()

    return Policy(act)


def counting(env):
    """A policy that counts its steps in its memory, and attaches the count before each of them."""

    def act(key, obs, count):
        return jnp.zeros((obs.shape[0], *env.action_space.shape)), count + 1, count

    return Policy(act, jnp.zeros(()))


def keeper(policy, like, surprise=lambda batch: jnp.ones(batch.reward.shape)):
    """Learns nothing; `like` are the shapes of a batch."""

    def init(key, hp):
        nothing = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), like)
        return Kept(nothing, jnp.zeros(()), jnp.zeros(()), jax.random.key_data(key), jnp.int32(0))

    def update(hp, context, learner, batch, key):
        kept = Kept(batch, context.progress, jnp.float32(context.shared), jax.random.key_data(key), learner.updates + 1)
        return kept, Diagnostics({"updates": learner.updates.astype(jnp.float32)}, surprise(batch))

    return Algorithm(init, update, lambda *_: policy, lambda *_: policy)


class Bound(NamedTuple):
    """An agent and what its replay is made of."""

    agent: Any
    params: Any
    row: Any
    init: Any
    step: Any

    def rows(self, state):
        """All transitions that the replay holds, the oldest first."""
        memory = getattr(state.replay, "ring", state.replay)
        storage = ring.make(self.agent.config.replay_capacity, self.row)
        return jax.tree.map(np.asarray, storage.read(memory, jnp.arange(int(memory.filled))))


def bind(env, params, config=CONFIG, policy=None, surprise=None, **options):
    """The loop around a `keeper`."""
    row = example(env)._replace(extras=options.get("extras", ()))
    if isinstance(env.action_space, Box):
        row = row._replace(action=jax.ShapeDtypeStruct(env.action_space.shape, jnp.float32))
    if "burn_in" in options:
        row = sequences.stored(row, options["burn_in"] + config.n_step - 1 + config.rollout_length)
    else:
        row = n_step.stored(row, config.n_step)
    num = config.batch_size * options.get("steps_per_update", 1)
    like = jax.tree.map(lambda x: jax.ShapeDtypeStruct((num, *x.shape), x.dtype), row)
    like = like._replace(weight=jax.ShapeDtypeStruct((num,), jnp.float32) if config.prioritized else ())
    learner = keeper(policy or constant(env), like, *(() if surprise is None else (surprise,)))
    agent = off_policy.make("keeper", env, learner, config, **options)

    def init(key, hp=HP):
        return agent.init(key, hp, params, 0.0)

    return Bound(agent, params, row, jax.jit(init), jax.jit(lambda state: agent.step(state, 7.0)))


def pendulum(config=CONFIG, **options):
    return bind(*envs.make("Pendulum-v1"), config, **options)


def cut(config=CONFIG, **options):
    """The probe whose episodes 0 → 1 → 2 → 1 are cut after three steps, of which the last pays 1."""
    env = probes.TimeLimit(continuous=True)
    return bind(env, env.default_params(), config, **options)


def changed(**fields):
    return dataclasses.replace(CONFIG, **fields)


def where(part, rows):
    """The number of the row that each drawn observation came from."""
    same = (np.asarray(part)[:, None] == rows.obs[None]).all(-1)
    assert (same.sum(-1) == 1).all()
    return same.argmax(-1)


def test_actions_are_scaled_for_the_environment_and_kept_in_the_unit_box():
    """Pendulum's torque is ±2: a policy that says ¾ moves it with 1.5, and the replay remembers ¾."""
    it = pendulum()
    assert (it.agent.warmup_steps, it.agent.steps_per_iteration) == (12, 6)
    state = it.init(jax.random.key(0))
    before = it.rows(state)
    assert before.action.shape == (12, 1)
    assert np.all(np.abs(before.action) <= 1)
    assert before.action.std() > 0.3
    state, _ = it.step(state)
    rows = it.rows(state)
    np.testing.assert_array_equal(rows.action[:12], before.action)
    np.testing.assert_array_equal(rows.action[12:], 0.75)
    assert len(rows.action) == 18
    # The reward's share of the torque tells what reached the environment.
    angle, torque = np.arctan2(rows.obs[:, 1], rows.obs[:, 0]), 2 * rows.action[:, 0]
    np.testing.assert_allclose(
        rows.reward, -(angle**2 + 0.1 * rows.obs[:, 2] ** 2 + 0.001 * torque**2), rtol=1e-4, atol=1e-5
    )
    for policy in (it.agent.policy(state), it.agent.explore(state)):
        action, _, _ = policy.act(jax.random.key(0), jnp.zeros((2, 3)), ())
        np.testing.assert_array_equal(action, [[1.5], [1.5]])


@dataclasses.dataclass(frozen=True)
class Dial(Env):
    """Shows the last number it was set to, 0 … 20, and a mask of two actions; pays it, as an integer."""

    max_steps: int | None = 4
    discrete: bool = False

    @property
    def observation_space(self):
        mask = {"action_mask": Box(0, 1, (2,), np.bool_)} if self.discrete else {}
        return {"number": Box(0, 20, (1,), np.int32), **mask}

    @property
    def action_space(self):
        return Discrete(2) if self.discrete else Box(0, 20, (1,), np.int32)

    def default_params(self):
        return ()

    def show(self, number):
        return {"number": number} | ({"action_mask": jnp.array([False, True])} if self.discrete else {})

    def reset(self, key, params):
        return self.show(jnp.zeros(1, jnp.int32)), jnp.int32(0)

    def step(self, key, state, action, params):
        number = jnp.atleast_1d(action)
        assert number.dtype == jnp.int32  # what the environment declares, not what the policy thinks in
        return Step(self.show(number), state, number[0], jnp.bool_(False), {})


def test_integer_actions_and_rewards():
    """The policy says ¾ of the unit box: 17.5, so 18; the replay keeps ¾ and rewards as floats."""
    it = bind(Dial(), ())
    state, _ = it.step(it.init(jax.random.key(0)))
    rows = it.rows(state)
    assert rows.reward.dtype == np.float32
    assert rows.action.dtype == np.float32
    np.testing.assert_array_equal(rows.action[-6:], np.full((6, 1), 0.75))
    np.testing.assert_array_equal(rows.reward[-6:], np.full(6, 18.0))
    random = rows.action[:-6, 0]
    np.testing.assert_array_equal(rows.reward[:-6], np.round(10 + 10 * random))
    assert len(np.unique(random)) == len(random)


def test_the_warmup_takes_what_is_allowed():
    it = bind(Dial(discrete=True), (), changed(warmup_steps=30))
    assert set(it.rows(it.init(jax.random.key(0))).action.tolist()) == {1}


@pytest.mark.parametrize(
    ("actions", "message"),
    [
        (MultiDiscrete((2, 3)), r"keeper needs a Box or Discrete action space.* ppo, a2c, trpo, reinforce"),
        (Box(-1.0, 1.0, (2,)), "keeper masks Discrete actions"),
        (Discrete(3), "keeper masks Discrete actions"),
    ],
)
def test_actions_that_do_not_fit_are_refused(actions, message):
    @dataclasses.dataclass(frozen=True)
    class Other(Dial):
        @property
        def action_space(self):
            return actions

    env = Other(discrete=True)
    with pytest.raises(InputError, match=message):
        off_policy.make("keeper", env, keeper(constant(env), ()), CONFIG)


def test_discrete_actions_are_left_as_they_are():
    it = bind(*envs.make("CartPole-v1"))
    state = it.init(jax.random.key(0))
    assert it.rows(state).action.dtype == np.int32
    assert set(it.rows(state).action.tolist()) == {0, 1}
    np.testing.assert_array_equal(it.rows(it.step(state)[0]).action[12:], 1)


def test_what_an_update_receives():
    """Batches of rows, fresh keys, how far the run is, and what all runs share; metrics are the mean of the updates."""
    hp = dataclasses.replace(HP, total_steps=24.0)
    for options in ({}, {"together": False}, {"steps_per_update": 2}):
        it = pendulum(changed(num_updates=4), **options)
        state, draws = it.init(jax.random.key(0), hp), 4 // options.get("steps_per_update", 1)
        assert int(state.iteration) == 0
        keys, batches = set(), set()
        for i, progress in enumerate((12 / 24, 18 / 24, 1.0, 1.0)):
            state, metrics = it.step(state)
            kept, rows = state.learner, it.rows(state)
            assert int(state.iteration) == i + 1
            assert int(kept.updates) == draws * (i + 1)
            np.testing.assert_allclose(metrics.scalars["updates"], draws * i + (draws - 1) / 2)
            np.testing.assert_allclose(kept.progress, progress)
            assert float(kept.shared) == 7.0
            drawn = where(kept.batch.obs, rows)
            assert len(drawn) == 4 * options.get("steps_per_update", 1)
            for mine, stored in zip(jax.tree.leaves(kept.batch), jax.tree.leaves(rows), strict=True):
                np.testing.assert_array_equal(mine, stored[drawn])
            keys.add(tuple(kept.key.tolist()))
            batches.add(tuple(drawn.tolist()))
        assert len(keys) == len(batches) == 4


def test_observations_are_stored_raw_and_normalised_when_drawn_and_seen():
    """A policy whose action is a fifth of the cosine that it sees writes down, in the replay, what it saw."""
    see = Policy(lambda key, obs, memory: (0.2 * obs[:, :1], memory, ()))
    sizes = {"num_envs": 20, "warmup_steps": 400, "replay_capacity": 1_000, "rollout_length": 1}
    it = pendulum(changed(**sizes, normalize_obs=True), policy=see)
    state = it.init(jax.random.key(0))
    for _ in range(2):
        before, rows = state.signals[0], it.rows(state)
        np.testing.assert_allclose(before.count, len(rows.obs))
        np.testing.assert_allclose(before.mean, rows.obs.mean(0), rtol=1e-3, atol=1e-4)
        assert np.abs(rows.obs[:, 2]).max() > 3  # speeds up to 8
        scale = rows.obs.std(0)
        action, _, _ = it.agent.policy(state).act(jax.random.key(0), jnp.asarray(rows.obs[:5]), ())
        np.testing.assert_allclose(action, 0.4 * ((rows.obs[:5] - before.mean) / scale)[:, :1], rtol=1e-3, atol=1e-3)
        state, _ = it.step(state)
        rows = it.rows(state)
        seen = (rows.obs[-20:] - before.mean) / scale  # statistics from before the step
        np.testing.assert_allclose(rows.action[-20:], 0.2 * seen[:, :1], rtol=1e-3, atol=1e-3)
        # Drawn rows, of the first as of the last steps, are normalised by the statistics of now, successors alike.
        moments, drawn = state.signals[0], state.learner.batch
        scale = np.sqrt(np.asarray(moments.m2 / moments.count))
        for part, raw in ((drawn.obs, rows.obs), (drawn.next_obs, rows.next_obs)):
            back = np.asarray(part) * scale + np.asarray(moments.mean)
            assert np.abs(back[:, None] - raw[None]).max(-1).min(-1).max() < 1e-4


def test_memory_of_the_exploring_policy_is_carried_and_reset_with_episodes():
    """Episodes end after three steps."""
    env = probes.TimeLimit(continuous=True)
    silent = Policy(lambda key, obs, count: (jnp.zeros((3, 1)), count + 1, ()), jnp.zeros(()))
    it = bind(env, env.default_params(), changed(warmup_steps=3, rollout_length=1), policy=silent)
    state, seen = it.init(jax.random.key(0)), []
    for _ in range(5):
        state, _ = it.step(state)
        seen.append(state.memory.tolist())
    assert seen == [[1.0] * 3, [0.0] * 3, [1.0] * 3, [2.0] * 3, [0.0] * 3]  # warm-up, which leaves it, took a step


def test_n_step_rows():
    """From the first state of the probe two steps bring γ·0, three γ²; every start is stored once."""
    it = cut(changed(num_envs=1, rollout_length=3, warmup_steps=12, n_step=3))
    assert it.agent.warmup_steps == 14
    hp = dataclasses.replace(HP, gamma=0.5)
    state = it.init(jax.random.key(0), hp)
    assert len(it.rows(state).reward) == 12
    state, _ = it.step(state)
    rows = it.rows(state)
    start = rows.obs.argmax(-1)
    np.testing.assert_array_equal(start, [0, 1, 2] * 5)
    np.testing.assert_allclose(rows.reward, np.array([0.25, 0.5, 1.0])[start])
    np.testing.assert_allclose(rows.discount, np.array([0.125, 0.25, 0.5])[start])
    np.testing.assert_array_equal(rows.next_obs.argmax(-1), 1)  # the true successor of the cut
    assert np.all(rows.truncated)
    assert np.all(np.abs(rows.action) <= 1)
    drawn = state.learner.batch
    np.testing.assert_allclose(drawn.discount, np.array([0.125, 0.25, 0.5])[np.asarray(drawn.obs).argmax(-1)])


@pytest.mark.parametrize(
    ("fields", "options", "steps", "rows"),
    [
        ({}, {}, 12, 12),  # whole rounds of three environments
        ({"warmup_steps": 12}, {}, 12, 12),
        ({"warmup_steps": 1}, {}, 3, 3),
        ({"n_step": 3}, {}, 18, 12),  # the last two steps of each environment have no transition yet
        ({"batch_size": 16}, {}, 12, 12),  # draws are with replacement
    ],
)
def test_length_of_the_warmup(fields, options, steps, rows):
    it = cut(changed(**fields), **options)
    state = it.init(jax.random.key(0))
    assert it.agent.warmup_steps == steps
    assert len(it.rows(state).reward) == rows
    assert set(state.episode.t.tolist()) == {steps // 3 % 3}


def test_warmup_by_a_policy():
    it = pendulum(warmup=lambda hp, context, learner: constant(envs.make("Pendulum-v1")[0], -0.5 * hp.gamma))
    rows = it.rows(it.init(jax.random.key(0), dataclasses.replace(HP, gamma=0.5)))
    np.testing.assert_array_equal(rows.action, -0.25)


def masses(state):
    return np.asarray(state.replay.levels[0][: int(state.replay.ring.filled)], np.float64)


def test_prioritised_replay():
    """Priorities of drawn rows become (|told| + 1e-6)^α, and weights (min P / P)^β with β on its way to 1.

    What is told is the speed, of either sign, above and below 1. The run has 30 steps, of which the warm-up is 12.
    """
    config = changed(prioritized=True, num_updates=1, batch_size=6)
    it = pendulum(config, surprise=lambda batch: 3.0 * batch.obs[:, 2])
    hp = dataclasses.replace(HP, total_steps=30.0, priority_alpha=0.7, priority_beta=0.4)
    state = it.init(jax.random.key(2), hp)
    expected = np.ones(12)
    np.testing.assert_array_equal(masses(state), expected)
    highest, uneven = 1.0, 0
    for beta in (0.4 + 0.6 * 18 / 30, 0.4 + 0.6 * 24 / 30, 1.0, 1.0):
        state, _ = it.step(state)
        rows, batch = it.rows(state), state.learner.batch
        expected = np.concatenate([expected, np.full(6, highest)])  # new rows have the highest so far
        drawn = where(batch.obs, rows)
        probability = expected[drawn] / expected.sum()
        np.testing.assert_allclose(batch.weight, (probability.min() / probability) ** beta, rtol=1e-4)
        uneven += np.ptp(probability) > 0
        expected[drawn] = (np.abs(3.0 * rows.obs[drawn, 2]) + 1e-6) ** 0.7
        highest = max(highest, expected[drawn].max())
        np.testing.assert_allclose(masses(state), expected, rtol=1e-5)
    assert uneven >= 3
    assert highest > 1
    assert (rows.obs[drawn, 2] < 0).any()


def test_prioritised_draws_are_in_proportion():
    """Once drawn, rows with the pole above the pivot have thousands of times the priority of the others."""
    config = changed(prioritized=True, num_updates=12, batch_size=12, warmup_steps=12)
    it = pendulum(config, surprise=lambda batch: jnp.where(batch.obs[:, 0] > 0, 1e3, 0.0))
    state, _ = it.step(it.init(jax.random.key(0), dataclasses.replace(HP, priority_alpha=0.5)))
    rows = it.rows(state)
    above = rows.obs[:, 0] > 0
    assert 2 < above.sum() < 16
    assert set(np.round(masses(state), 3).tolist()) <= {31.623, 1.0, 0.001}
    drawn = where(state.learner.batch.obs, rows)  # of the last update: those before it had changed the priorities
    assert above[drawn].all()
    uniform = pendulum(dataclasses.replace(config, prioritized=False))
    state, _ = uniform.step(uniform.init(jax.random.key(0)))
    rows = uniform.rows(state)
    assert not (rows.obs[where(state.learner.batch.obs, rows), 0] > 0).all()


def test_hindsight_rows():
    """Every step again under two goals that were met at it or later in its episode, judged anew."""
    env = BitFlipping(bits=4, max_steps=4)
    it = bind(env, env.default_params(), changed(num_envs=2, rollout_length=6, warmup_steps=12, hindsight=2))
    assert it.agent.warmup_steps == 12
    state, _ = it.step(it.init(jax.random.key(0)))
    rows = it.rows(state)
    assert len(rows.reward) == 36 + 36
    others = 0
    for first, length in ((0, 6), (36, 6)):
        true = jax.tree.map(lambda x, first=first: x[first : first + 12].reshape(6, 2, *x.shape[1:]), rows)
        again = jax.tree.map(lambda x, first=first: x[first + 12 : first + 36].reshape(2, 6, 2, *x.shape[1:]), rows)
        ended = true.terminated | true.truncated
        for num, t, b in np.ndindex(2, length, 2):
            goal = again.obs["desired_goal"][num, t, b]
            np.testing.assert_array_equal(again.next_obs["desired_goal"][num, t, b], goal)
            for new, old in ((again.obs, true.obs), (again.next_obs, true.next_obs)):
                np.testing.assert_array_equal(new["achieved_goal"][num, t, b], old["achieved_goal"][t, b])
            assert again.action[num, t, b] == true.action[t, b]
            stop = next((i for i in range(t, length) if ended[i, b]), length - 1)
            met = true.next_obs["achieved_goal"][t : stop + 1, b]
            assert (met == goal).all(-1).any()
            reached = (met[0] == goal).all()
            assert again.reward[num, t, b] == (0.0 if reached else -1.0)
            assert again.terminated[num, t, b] == reached
            others += not reached
    assert others > 5


def test_sequences():
    """Five steps, of which two are shared with the next; each with the policy's memory before its first step."""
    env, params = envs.make("Pendulum-v1")
    options = {"burn_in": 1, "extras": jax.ShapeDtypeStruct((), jnp.float32)}
    config = changed(num_envs=2, rollout_length=3, warmup_steps=12, batch_size=4, n_step=2)
    it = bind(env, params, config, policy=counting(env), warmup=lambda *_: counting(env), **options)
    assert (it.agent.warmup_steps, it.agent.steps_per_iteration) == (2 * (2 + 2 * 3), 6)
    state, _ = it.step(it.init(jax.random.key(0)))
    rows = it.rows(state)
    assert rows.reward.shape == (3 * 2, 5)
    np.testing.assert_array_equal(rows.memory, [0, 0, 3, 3, 6, 6])
    np.testing.assert_allclose(rows.obs[:, 1:], rows.next_obs[:, :-1], atol=1e-6)
    np.testing.assert_array_equal(rows.obs[2:, 0], rows.obs[:-2, 3])  # the same environment, three steps on
    np.testing.assert_array_equal(rows.reward[2:, :2], rows.reward[:-2, 3:])
    assert state.learner.batch.reward.shape == (4, 5)
    assert set(np.asarray(state.learner.batch.memory).tolist()) <= {0.0, 3.0, 6.0}


@pytest.mark.parametrize("prioritized", [False, True])
def test_lanes_are_independent(prioritized):
    """Of three runs side by side one gets another key and other hyper-parameters: nothing happens to the others."""
    it = pendulum(changed(prioritized=prioritized, normalize_obs=True), surprise=lambda batch: batch.reward)
    run = jax.jit(jax.vmap(lambda key, hp: it.step(it.step(it.init(key, hp))[0])[0]))
    gammas, keys = np.array([0.9, 0.9, 0.9], np.float32), jax.random.split(jax.random.key(0), 3)

    def raw(gamma, keys):
        hp = jax.tree.map(lambda x: jnp.full(3, x), dataclasses.replace(HP, gamma=0.0))
        state = run(keys, dataclasses.replace(hp, gamma=jnp.asarray(gamma), priority_alpha=jnp.asarray(gamma)))
        return jax.tree.map(np.asarray, state._replace(key=jax.random.key_data(state.key)))

    one = raw(gammas, keys)
    two = raw(np.array([0.9, 0.3, 0.9], np.float32), keys.at[1].set(jax.random.key(99)))
    for path, x in jax.tree_util.tree_leaves_with_path(one):
        y = dict(jax.tree_util.tree_leaves_with_path(two))[path]
        np.testing.assert_array_equal(x[[0, 2]], y[[0, 2]])
    assert not np.array_equal(one.learner.batch.obs[1], two.learner.batch.obs[1])
    assert not np.array_equal(one.learner.batch.obs[0], one.learner.batch.obs[2])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"warmup_steps": 300}, r"warmup_steps=300 .* replay_capacity=200"),
        ({"warmup_steps": 10, "batch_size": 16, "prioritized": True}, r"warmup_steps=10 .* 16, what a draw needs"),
        ({"n_step": 0}, "n_step=0 must be at least 1"),
        ({"hindsight": 1}, "hindsight needs an environment with goals"),
        ({"hindsight": 1, "n_step": 2}, "n_step=2 must be 1"),
    ],
)
def test_what_cannot_work_is_refused(fields, message):
    with pytest.raises(InputError, match=message):
        pendulum(changed(**fields))


def test_observations_that_cannot_be_normalised_are_refused():
    with pytest.raises(InputError, match="normalize_obs needs Box observations"):
        bind(*envs.make("GridWorld-4x4"), changed(normalize_obs=True))
