"""Gymnasium's environments inside compiled programs, each against a plain loop over the environment itself."""

import functools

import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import episode
from envs.interop.from_gymnasium import LARGEST_ARGUMENT, Hosts, from_gymnasium
from jaxrl.agents import ppo
from jaxrl.placement import map_runs
from jaxrl.rollout import rollout
from jaxrl.train import make_train
from jaxrl.types import Policy

BATCH = 3
jit = functools.partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})


class Line(gymnasium.Env):
    """Walks along a line from a random start, in float64, until it is 4 away from it; counts its calls."""

    observation_space = gymnasium.spaces.Box(-np.inf, np.inf, (2,), np.float64)
    action_space = gymnasium.spaces.Discrete(3, start=-1)
    resets = 0

    def __init__(self, render_mode=None, cut=None, crash=None, forget_seed=False):
        self.render_mode, self.cut, self.crash, self.forget_seed = render_mode, cut, crash, forget_seed
        self.buffer = np.zeros(2)  # written again and again, as some environments do

    def reset(self, *, seed=None, options=None):
        super().reset(seed=None if self.forget_seed else seed)
        Line.resets += 1
        self.start, self.t, self.place = self.np_random.uniform(), 0, 0
        return self.observe(), {}

    def observe(self):
        self.buffer[:] = self.start + self.place, self.t
        return self.buffer

    def step(self, action):
        assert action in self.action_space
        self.t += 1
        if self.t == self.crash:
            raise ZeroDivisionError("the wheel came off")
        self.place += int(action)
        done = abs(self.place) >= 4
        return self.observe(), float(self.place), done, self.t == self.cut, {"ignored": object()}

    def render(self):
        return np.full((2, 2, 3), 100 + 10 * self.place + self.t, np.uint8)


class Nested(gymnasium.Env):
    """Every kind of space that has a counterpart."""

    observation_space = gymnasium.spaces.Dict(
        picture=gymnasium.spaces.Box(0, 255, (2, 2), np.uint8),
        pair=gymnasium.spaces.Tuple((gymnasium.spaces.Discrete(5, start=3), gymnasium.spaces.MultiBinary((2, 2)))),
        wide=gymnasium.spaces.Box(-5, 5, (1,), np.int64),
    )
    action_space = gymnasium.spaces.Dict(
        push=gymnasium.spaces.Box(-1, 1, (2,), np.float32), grid=gymnasium.spaces.MultiDiscrete([[2, 3], [4, 5]])
    )
    seen = ()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observe(0), {}

    def observe(self, t):
        return {
            "picture": np.full((2, 2), t, np.uint8),
            "pair": (np.int64(3 + t), np.array([[1, 0], [0, t]], np.int8)),
            "wide": np.array([-5]),
        }

    def step(self, action):
        assert action in self.action_space
        Nested.seen = (*Nested.seen, action)
        return self.observe(1), 0.5, False, False, {}


def play(env, params, key, length, batch=BATCH):
    """Random actions; returns (episode states before, actions, time steps), each [length, batch, ...]."""
    key_reset, key = jax.random.split(key)

    def body(state, key):
        key_act, key_step = jax.random.split(key)
        action = jax.random.randint(key_act, (batch,), 0, env.action_space.n)
        following, ts = episode.step(env, params, key_step, state, action)
        return following, (state, action, ts)

    return jax.lax.scan(body, episode.reset(env, params, key_reset, batch), jax.random.split(key, length))[1]


def assert_same(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def assert_like_a_plain_loop(record, reference, limit, start=0):
    """Replays every episode of a record in a Gymnasium environment; returns (terminations, truncations)."""
    before, actions, ts = jax.device_get(record)
    ends, cuts = 0, 0
    for lane in range(actions.shape[1]):
        for i in range(actions.shape[0]):
            t = before.t[i, lane]
            if t == 0:
                obs, _ = reference.reset(seed=int(before.state.seed[i, lane]))
                np.testing.assert_array_equal(before.obs[i, lane], np.asarray(obs, np.float32))
            obs, reward, terminated, truncated, _ = reference.step(actions[i, lane] + start)
            np.testing.assert_array_equal(ts.next_obs[i, lane], np.asarray(obs, np.float32))
            assert ts.reward[i, lane] == np.float32(reward)
            assert ts.terminated[i, lane] == terminated
            assert ts.truncated[i, lane] == (truncated or t + 1 == limit)
            ends, cuts = ends + ts.terminated[i, lane], cuts + ts.truncated[i, lane]
    return ends, cuts


def test_cartpole_against_a_plain_loop():
    env, params = from_gymnasium("CartPole-v1")
    assert env.max_steps == 500
    assert env.action_space == envs.spaces.Discrete(2)
    ours, _ = envs.make("CartPole-v1")
    np.testing.assert_array_equal(env.observation_space.upper, ours.observation_space.upper)
    short = env.replace(max_steps=15)
    record = jit(functools.partial(play, short, params, length=60))(jax.random.key(0))
    reference = gymnasium.make("CartPole-v1", disable_env_checker=True)
    ends, cuts = assert_like_a_plain_loop(record, reference, 15)
    assert ends > 2
    assert cuts > 2
    seeds = record[0].state.seed
    assert len(np.unique(seeds)) == BATCH + (record[2].terminated | record[2].truncated)[:-1].sum()


@pytest.mark.parametrize("cut", [None, 5])
def test_truncation_by_its_own_clock_and_float64(cut):
    env, params = from_gymnasium(Line, max_steps=9, cut=cut)
    record = jit(functools.partial(play, env, params, length=50))(jax.random.key(1))
    ends, cuts = assert_like_a_plain_loop(record, Line(cut=cut), 9, start=-1)
    assert ends > 0
    assert cuts > 2


def test_runs_side_by_side_are_the_runs_alone():
    """vmap of runs, and runs spread over both devices: one after the other in a group, some lanes doubled as spare."""
    env, params = from_gymnasium(Line, max_steps=9)
    keys = jax.random.split(jax.random.key(2), 5)
    run = functools.partial(play, env, params, length=30)
    alone = [jax.device_get(jit(run)(key)) for key in keys]

    def results(record):  # tickets are the host's own business
        before, actions, ts = jax.device_get(record)
        return before.obs, before.t, before.state.seed, actions, ts

    for together in (jit(jax.vmap(run))(keys), jit(map_runs(run, lanes=2))(keys)):
        for i in range(5):
            assert_same(jax.tree.map(lambda leaf, i=i: leaf[i], results(together)), results(alone[i]))


def test_states_can_be_used_again_and_copied():
    """An old state has the future that it had; a copied one has as many as there are copies."""
    env, params = from_gymnasium(Line, max_steps=50)
    step = jit(jax.vmap(env.step, in_axes=(None, 0, 0, None)))
    _, state = jit(jax.vmap(env.reset, in_axes=(0, None)))(jax.random.split(jax.random.key(3), 2), params)
    key, path = jax.random.key(0), [state]
    for action in ([2, 1], [1, 1], [2, 2]):
        path.append(step(key, path[-1], jnp.asarray(action), params).state)
    again = step(key, path[1], jnp.asarray([1, 1]), params)
    assert_same(again.obs, path[2].obs)
    other = step(key, path[2], jnp.asarray([0, 0]), params)
    np.testing.assert_allclose(other.reward, [0.0, -1.0])
    # The first episode in both lanes, with different actions.
    copied = jax.tree.map(lambda leaf: leaf[jnp.array([0, 0])], path[3])
    futures = step(key, copied, jnp.asarray([0, 2]), params)
    np.testing.assert_allclose(futures.reward, [1.0, 3.0])
    assert futures.state.ticket[0] != futures.state.ticket[1]
    onward = step(key, futures.state, jnp.asarray([1, 1]), params)
    np.testing.assert_allclose(onward.reward, [1.0, 3.0])
    np.testing.assert_allclose(onward.obs[:, 1], [5.0, 5.0])


def test_environments_are_few_and_taken_away_without_harm(monkeypatch):
    """With room for one live environment every lane must be replayed at first; the room grows until none is."""
    monkeypatch.setattr("envs.interop.from_gymnasium.MOST_LIVE", 1)
    env, params = from_gymnasium(Line, max_steps=9)
    record = jit(functools.partial(play, env, params, length=50))(jax.random.key(1))
    assert_like_a_plain_loop(record, Line(), 9, start=-1)
    hosts = env.hosts
    assert len(hosts._live) + len(hosts._free) <= BATCH + 2
    env.close()
    assert not hosts._live
    assert not hosts._free


def test_old_episodes_are_forgotten(monkeypatch):
    monkeypatch.setattr("envs.interop.from_gymnasium.MOST_LOGGED", 40)
    env, params = from_gymnasium(Line, max_steps=9)
    record = jit(functools.partial(play, env, params, length=50))(jax.random.key(1))
    assert_like_a_plain_loop(record, Line(), 9, start=-1)
    kept = sum(len(one.actions) for one in env.hosts._episodes.values())
    assert kept == env.hosts._logged <= 40


def test_starts_are_asked_for_only_when_an_episode_ends():
    env, params = from_gymnasium(Line, max_steps=50)
    policy = Policy(lambda key, obs, memory: (jnp.full(BATCH, 2), memory, ()))  # ends in every fourth step
    state = episode.reset(env, params, jax.random.key(0), BATCH)
    Line.resets = 0
    out = rollout(env, params, policy, state, (), jax.random.key(1), 20)
    assert out.stats.count == 5 * BATCH
    # Every ending step asks for a start of each lane, and every episode begins with a reset of its own.
    assert Line.resets == 5 * BATCH + 5 * BATCH


def test_nested_spaces():
    env, params = from_gymnasium(Nested, max_steps=3)
    assert env.observation_space == {
        "picture": envs.spaces.Box(0, 255, (2, 2), np.uint8),
        "pair": (envs.spaces.Discrete(5), envs.spaces.MultiDiscrete((2, 2, 2, 2))),
        "wide": envs.spaces.Box(-5, 5, (1,), np.int32),
    }
    assert env.action_space["grid"] == envs.spaces.MultiDiscrete((2, 3, 4, 5))
    obs, state = env.reset(jax.random.key(0), params)
    assert envs.spaces.contains(env.observation_space, obs)
    action = {"push": jnp.array([0.5, -1.0]), "grid": jnp.array([1, 2, 3, 4])}
    out = env.step(jax.random.key(0), state, action, params)
    assert envs.spaces.contains(env.observation_space, out.obs)
    assert out.obs["pair"][0] == 1
    assert out.obs["pair"][1].tolist() == [1, 0, 0, 1]
    (seen,) = Nested.seen
    assert seen["grid"].tolist() == [[1, 2], [3, 4]]
    assert seen["push"].tolist() == [0.5, -1.0]


def test_pictures_replay_the_episode():
    env, params = from_gymnasium(Line, max_steps=50)
    _, state = env.reset(jax.random.key(0), params)
    states = [state]
    for action in (2, 2, 0):
        states.append(env.step(jax.random.key(0), states[-1], jnp.int32(action), params).state)
    values = [int(env.render(one, params)[0, 0, 0]) for one in (*states, states[1], states[0])]
    assert values == [100, 111, 122, 113, 111, 100]
    with pytest.raises(envs.InputError, match="no longer has this episode"):
        env.render(states[1]._replace(ticket=states[1].ticket + 1000), params)


def test_episodes_of_another_process_are_cut():
    """What a checkpoint restores in a new process: the same arrays, and a host that knows nothing of them."""
    env, params = from_gymnasium(Line, max_steps=50)
    state = episode.reset(env, params, jax.random.key(0), BATCH)
    step = jit(functools.partial(episode.step, env, params))
    state, _ = step(jax.random.key(1), state, jnp.full(BATCH, 2))
    env.hosts.__dict__.update(Hosts(Line, {}).__dict__)  # the new process
    with pytest.warns(UserWarning, match="Line: episodes from another process"):
        cut, ts = jax.block_until_ready(step(jax.random.key(2), state, jnp.full(BATCH, 2)))
    assert ts.truncated.all()
    assert not ts.terminated.any()
    np.testing.assert_array_equal(ts.reward, np.zeros(BATCH))
    np.testing.assert_array_equal(ts.next_obs, state.obs)
    np.testing.assert_array_equal(cut.t, np.zeros(BATCH))
    _, ts = step(jax.random.key(3), cut, jnp.full(BATCH, 2))
    np.testing.assert_array_equal(ts.reward, np.ones(BATCH))
    assert not ts.truncated.any()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"crash": 2},
            r"Line failed in step 2 after reset\(seed=\d+\), action np.int64\(1\): ZeroDivisionError: the wheel",
        ),
        ({"forget_seed": True}, r"Line does not do the same again after reset\(seed=\d+\)"),
    ],
)
def test_failures_of_the_host(options, message):
    env, params = from_gymnasium(Line, max_steps=50, **options)
    state = episode.reset(env, params, jax.random.key(0), BATCH)
    step = jit(functools.partial(episode.step, env, params))

    def two_steps():
        following, _ = step(jax.random.key(1), state, jnp.full(BATCH, 2))
        return jax.block_until_ready(step(jax.random.key(1), following, jnp.full(BATCH, 2)))

    with pytest.raises((ValueError, jax.errors.JaxRuntimeError), match=message):  # XLA calls it an internal error
        two_steps()


def test_bad_input():
    with pytest.raises(envs.InputError, match=r"Gymnasium cannot make 'CartPol-v1'.*CartPole"):
        from_gymnasium("CartPol-v1")
    with pytest.raises(envs.InputError, match="one of ours already"):
        from_gymnasium("envs.interop.to_gymnasium:jaxrl/CartPole-v1")

    class Wordy(Line):
        observation_space = gymnasium.spaces.Text(5)

    with pytest.raises(envs.InputError, match="has no counterpart"):
        from_gymnasium(Wordy)
    env, _ = from_gymnasium(Line)
    assert env.max_steps is None


def test_arguments_that_would_stop_the_cpu_are_refused():
    """Found by experiment: two devices wait for ever once an argument has more than 100 KiB."""
    env, params = from_gymnasium(Line)
    lanes = LARGEST_ARGUMENT // 4 + 1
    with pytest.raises(envs.InputError, match="100,004 bytes"):
        jax.eval_shape(lambda key: episode.reset(env, params, key, lanes), jax.random.key(0))
    runs = jax.random.split(jax.random.key(0), 100)
    with pytest.raises(envs.InputError, match="fewer environments or runs"):
        jax.eval_shape(jax.vmap(lambda key: episode.reset(env, params, key, lanes // 90)), runs)


def test_ppo_learns_and_evaluates_on_the_host():
    """End to end over both devices: two runs of Gymnasium's CartPole, each evaluated in environments of its own."""
    env, params = from_gymnasium("CartPole-v1", max_steps=200)
    agent = ppo.make(env, ppo.Config(num_envs=8, rollout_length=32, num_epochs=10, num_minibatches=1))
    hp = ppo.Hyperparams(learning_rate=1e-3, gamma=0.98, gae_lambda=0.8)
    train = jax.jit(map_runs(lambda key: make_train(agent, 6_144, num_evals=2, eval_episodes=8)(key, hp, params)))
    result = train(jax.random.split(jax.random.key(0), 2))
    assert result.evaluation.finished.all()
    means = np.asarray(result.evaluation.returns).mean(-1)  # [runs, evaluations]
    assert means[:, -1].min() > 60, means  # random play: 22
