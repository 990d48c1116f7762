"""LunarLander against Gymnasium's: single steps from injected states, and whole episodes by their statistics.

One compiled program (continuous, with wind whose power may be zero) serves all tests; the discrete actions are points
of the continuous ones.
"""

import copy
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import envs.catalogue  # noqa: F401
from envs import registry
from envs.box2d import lander_physics as physics
from envs.box2d import lunar_lander as ours
from envs.spaces import contains

Box2D = pytest.importorskip("Box2D")
gym = pytest.importorskip("gymnasium")
theirs = pytest.importorskip("gymnasium.envs.box2d.lunar_lander")

BATCH = 256
LIMIT = 450  # steps that an episode is followed, in both; few last longer
AS_CONTINUOUS = np.array([(-1, 0), (-1, -1), (1, 0), (-1, 1)], np.float32)  # discrete actions 0 … 3
ENV = ours.LunarLander(continuous=True, enable_wind=True)
CALM = registry.as_arrays(ENV.default_params()._replace(wind_power=0.0, turbulence_power=0.0))
STEP = jax.jit(jax.vmap(ENV.step_with, (0, 0, 0, None)))
RESET = jax.jit(jax.vmap(ENV.reset, (0, None)))


@pytest.fixture
def sweeps(monkeypatch):
    """Makes Gymnasium's Box2D do `sweeps["velocity"]` sweeps in a step."""
    chosen = {"velocity": 180}
    world = Box2D.b2World

    class World(world):
        def Step(self, dt, velocity, position):
            world.Step(self, dt, chosen["velocity"], position)

    monkeypatch.setattr(theirs.Box2D, "b2World", World)
    return chosen


def controller(obs):
    """What Gymnasium's own controller wants of (turn, lift), f[..., 8] -> two f[...]: tilt towards the pad, and be
    the higher the farther away; with a foot on the ground only brake the fall."""
    tilt = np.clip(0.5 * obs[..., 0] + obs[..., 2], -0.4, 0.4)
    turn = 0.5 * (tilt - obs[..., 4]) - obs[..., 5]
    lift = 0.5 * (0.55 * np.abs(obs[..., 0]) - obs[..., 1]) - 0.5 * obs[..., 3]
    landed = (obs[..., 6] > 0) | (obs[..., 7] > 0)
    return np.where(landed, 0.0, turn), np.where(landed, -0.5 * obs[..., 3], lift)


def controlled(obs, continuous):
    turn, lift = controller(obs)
    if continuous:
        return np.clip(np.stack([20 * lift - 1, -20 * turn], -1), -1, 1).astype(np.float32)
    up = (lift > np.abs(turn)) & (lift > 0.05)
    return np.where(up, 2, np.where(turn < -0.05, 3, np.where(turn > 0.05, 1, 0)))


def segments(env):
    """Bits of the ground's segments that each foot touches in Gymnasium's world."""
    masks = []
    for leg in env.legs:
        mask = 0
        for edge in leg.contacts:
            (left, _), (right, _) = edge.contact.fixtureA.shape.vertices
            if edge.contact.touching and right - left < 3:
                mask |= 1 << round(left / 2)
        masks.append(mask)
    return np.array(masks, np.int32)


def injected(env):
    """Gymnasium's world as our state."""
    f = np.float32
    hull, legs = env.lander, env.legs
    motor = f([side * leg.joint.GetMotorTorque(50) / 50 for side, leg in zip(physics.SIDES, legs, strict=True)])
    bodies = physics.Bodies(
        x=f(hull.position[0]),
        y=f(hull.position[1]),
        angle=f(hull.angle),
        vx=f(hull.linearVelocity[0]),
        vy=f(hull.linearVelocity[1]),
        spin=f(hull.angularVelocity),
        leg_angle=f([leg.angle for leg in legs]),
        leg_vx=f([leg.linearVelocity[0] for leg in legs]),
        leg_vy=f([leg.linearVelocity[1] for leg in legs]),
        leg_spin=f([leg.angularVelocity for leg in legs]),
        motor=motor,
        torque=motor,
        impulse=np.zeros((2, 2, 2), f),
        leg_contact=np.array([leg.ground_contact for leg in legs]),
        leg_segments=segments(env),
        hull_contact=np.bool_(False),
        hull_near=np.bool_(False),
        rest_steps=np.int32(0),
        asleep=np.bool_(False),
    )
    ground = f([p[0][1] for p in env.sky_polys] + [env.sky_polys[-1][1][1]])
    wind = [np.int32(getattr(env, name, 0)) for name in ("wind_idx", "torque_idx")]
    return ours.State(bodies, ground, f(env.prev_shaping), *wind, f(0), f(0))


def record(env, seeds, policy):
    """Steps of Gymnasium's: states, actions as f32[N, 2], dispersions, observations, rewards, and the step's kind."""
    out = []
    for seed in seeds:
        obs, _ = env.reset(seed=seed)
        touched = False
        for _ in range(400):
            state, action = injected(env), policy(obs)
            dispersion = copy.deepcopy(env.np_random).uniform(-1, 1, size=2)
            before = any(leg.ground_contact for leg in env.legs)
            obs, reward, terminated, _, _ = env.step(action)
            touched |= before or obs[6] + obs[7] > 0
            kind = "end" if terminated else "contact" if before else "after" if touched else "flight"
            action = action if env.continuous else AS_CONTINUOUS[action]
            out.append((state, action, dispersion, obs, reward, kind))
            if terminated:
                break
    states, actions, dispersions, obs, rewards, kinds = zip(*out, strict=True)
    stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
    return stacked, np.float32(actions), np.float32(dispersions), np.array(obs), np.array(rewards), np.array(kinds)


def replay(states, actions, dispersions, params):
    """Our steps from those states, in padded batches of one size."""
    n, parts = len(actions), []
    for start in range(0, n, BATCH):
        pick = np.minimum(np.arange(start, start + BATCH), n - 1)
        parts.append(STEP(dispersions[pick], jax.tree.map(lambda x: x[pick], states), actions[pick], params))  # noqa: B023
    return jax.tree.map(lambda *leaves: np.concatenate(leaves)[:n], *parts)


def scripted(obs_to_action, params, episodes=BATCH, seed=0):
    """Whole episodes of ours: (returns, lengths, crashed, landed), each [episodes]."""
    key = jax.random.key(seed)
    obs, state = RESET(jax.random.split(key, episodes), params)
    total, length = np.zeros(episodes), np.zeros(episodes, int)
    last, running = np.zeros(episodes), np.ones(episodes, bool)
    rng = np.random.default_rng(seed)
    for _ in range(LIMIT):
        dispersion = rng.uniform(-1, 1, (episodes, 2)).astype(np.float32)
        out = STEP(dispersion, state, obs_to_action(np.asarray(obs), rng), params)
        obs, state = out.obs, out.state
        total += np.where(running, out.reward, 0)
        length += running
        ended = np.asarray(out.terminated) & running
        last = np.where(ended, out.reward, last)
        running &= ~ended
        if not running.any():
            break
    return total, length, last == -100, last == 100


def gymnasium_episodes(env, policy, seeds):
    rows = []
    for seed in seeds:
        obs, _ = env.reset(seed=seed)
        total, terminated = 0.0, False
        for _ in range(LIMIT):
            obs, reward, terminated, _, _ = env.step(policy(obs))
            total += reward
            if terminated:
                break
        rows.append((total, terminated and reward == -100, terminated and reward == 100))
    return np.array(rows, float)


def errors(out, obs, rewards):
    return np.abs(np.concatenate([out.obs - obs, (out.reward - rewards)[:, None]], 1))


def test_free_flight_with_engines_on_is_box2ds():
    rng = np.random.default_rng(0)
    env = gym.make("LunarLander-v3", continuous=True).unwrapped
    *inputs, obs, rewards, kinds = record(env, range(8), lambda _: rng.uniform(-1, 1, 2).astype(np.float32))
    error = errors(replay(*inputs, CALM), obs, rewards)[kinds == "flight"]
    assert len(error) > 500
    # x, y, vx, vy, angle, spin, two feet, reward
    assert np.all(np.quantile(error, 0.95, axis=0) < [2e-7, 3e-7, 1e-6, 1e-5, 1e-6, 2e-5, 1e-9, 1e-9, 5e-4])
    assert np.all(error.max(0) < [1e-6, 5e-6, 1e-5, 2e-4, 2e-5, 3e-4, 1e-9, 1e-9, 2e-2])


def test_wind_and_turbulence_are_gymnasiums():
    env = gym.make("LunarLander-v3", enable_wind=True, wind_power=15.0, turbulence_power=1.5).unwrapped
    *inputs, obs, rewards, kinds = record(env, range(4), lambda o: int(controlled(o, False)))
    error = errors(replay(*inputs, registry.as_arrays(ENV.default_params())), obs, rewards)[kinds == "flight"]
    assert len(error) > 300
    assert np.all(np.quantile(error, 0.95, axis=0) < [2e-7, 3e-7, 1e-6, 1e-5, 1e-6, 2e-5, 1e-9, 1e-9, 5e-4])


def test_contacts_are_those_that_box2d_converges_to(sweeps):
    sweeps["velocity"] = 3000
    env = gym.make("LunarLander-v3").unwrapped
    *inputs, obs, rewards, kinds = record(env, range(6), lambda o: int(controlled(o, False)))
    error = errors(replay(*inputs, CALM), obs, rewards)[kinds == "contact"]
    assert len(error) > 100
    assert np.all(np.quantile(error, 0.9, axis=0)[:6] < [3e-5, 2e-5, 3e-3, 1e-3, 2e-4, 3e-3])
    assert error[:, 6:8].mean() < 0.02  # which feet touch


def test_contacts_are_close_to_box2ds_at_its_usual_number_of_sweeps():
    env = gym.make("LunarLander-v3").unwrapped
    *inputs, obs, rewards, kinds = record(env, range(8), lambda o: int(controlled(o, False)))
    error = errors(replay(*inputs, CALM), obs, rewards)[kinds == "contact"]
    assert np.all(np.median(error, 0)[:6] < [1e-5, 1e-4, 1e-4, 1e-4, 1e-4, 1e-3])
    assert np.all(np.quantile(error, 0.9, axis=0)[:6] < [1e-4, 5e-4, 5e-3, 2e-2, 5e-3, 0.1])
    assert error[:, 6:8].mean() < 0.02


@pytest.mark.parametrize("wind", [False, True])
def test_the_start_is_gymnasiums_after_its_first_step(wind):
    env = gym.make("LunarLander-v3", enable_wind=wind, gravity=-8.0).unwrapped
    params = registry.as_arrays(ENV.default_params()._replace(gravity=-8.0))
    for seed in range(10):
        obs, _ = env.reset(seed=seed)
        rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence(seed)))
        draws = rng.uniform(0, 20 / 3, size=12)
        push = rng.uniform(-1000, 1000), rng.uniform(-1000, 1000)
        force = torque = 0.0
        if wind:
            gusts = [
                math.tanh(math.sin(0.02 * k) + math.sin(0.01 * math.pi * k))
                for k in (env.wind_idx - 1, env.torque_idx - 1)
            ]
            force, torque = 15 * gusts[0], 1.5 * gusts[1]
        ground = ours.shape_ground(jnp.float32(draws / (20 / 3)))
        mine, state = ENV.start(ground, push[0] + force, push[1], torque, jnp.zeros(2, jnp.int32), params)
        reference = injected(env)
        np.testing.assert_allclose(mine, obs, atol=2e-5)
        np.testing.assert_allclose(state.ground, reference.ground, atol=2e-6)
        np.testing.assert_allclose(state.bodies.leg_angle, reference.bodies.leg_angle, atol=1e-4)
        np.testing.assert_allclose(state.bodies.leg_spin, reference.bodies.leg_spin, atol=1e-4)
        np.testing.assert_allclose(state.bodies.leg_vx, reference.bodies.leg_vx, atol=1e-4)
        np.testing.assert_allclose(state.bodies.leg_vy, reference.bodies.leg_vy, atol=1e-4)
        np.testing.assert_allclose(state.potential, env.prev_shaping, atol=2e-3)


@pytest.mark.parametrize("continuous", [False, True])
def test_gymnasiums_controller_scores_the_same(continuous):
    def act(obs, _):
        action = controlled(obs, continuous)
        return action if continuous else AS_CONTINUOUS[action]

    env = gym.make("LunarLander-v3", continuous=continuous).unwrapped
    gained, _, crashed, landed = scripted(act, CALM)
    rows = gymnasium_episodes(env, lambda o: theirs.heuristic(env, o), range(1000, 1150))
    interval = 3 * math.sqrt(gained.var() / len(gained) + rows[:, 0].var() / len(rows))
    assert abs(gained.mean() - rows[:, 0].mean()) < interval
    assert stats.ks_2samp(gained, rows[:, 0]).pvalue > 0.001
    for mine, other in ((crashed, rows[:, 1]), (landed, rows[:, 2])):
        share = (mine.sum() + other.sum()) / (len(mine) + len(other))
        spread = math.sqrt(share * (1 - share) * (1 / len(mine) + 1 / len(other)))
        assert abs(mine.mean() - other.mean()) <= 3.5 * spread


@pytest.mark.parametrize("continuous", [False, True])
def test_random_actions_return_the_same(continuous):
    def act(obs, rng):
        if continuous:
            return rng.uniform(-1, 1, (len(obs), 2)).astype(np.float32)
        return AS_CONTINUOUS[rng.integers(4, size=len(obs))]

    rng = np.random.default_rng(1)
    env = gym.make("LunarLander-v3", continuous=continuous).unwrapped
    gained, length, crashed, _ = scripted(act, CALM)
    rows = gymnasium_episodes(
        env, lambda _: rng.uniform(-1, 1, 2).astype(np.float32) if continuous else int(rng.integers(4)), range(300)
    )
    assert stats.ks_2samp(gained, rows[:, 0]).pvalue > 0.001
    assert crashed.mean() > 0.98
    assert 85 < length.mean() < 125


def test_throttles():
    discrete = ours.LunarLander()
    assert [tuple(map(float, discrete.throttles(jnp.int32(a)))) for a in range(4)] == [(0, 0), (0, -1), (1, 0), (0, 1)]
    for action, expected in (
        ((-0.1, 0.5), (0, 0)),
        ((0.5, 0.6), (0.75, 0.6)),
        ((2.0, -3.0), (1, -1)),
        ((1e-6, -0.5), (0.5, 0)),
    ):
        assert tuple(map(float, ENV.throttles(jnp.float32(action)))) == pytest.approx(expected)


def test_leaving_the_world_is_a_crash():
    _, state = RESET(jax.random.split(jax.random.key(0), BATCH), CALM)
    bodies = state.bodies._replace(x=jnp.full(BATCH, np.float32(19.99)), vx=jnp.full(BATCH, np.float32(5)))
    out = STEP(jnp.zeros((BATCH, 2)), state._replace(bodies=bodies), jnp.zeros((BATCH, 2)), CALM)
    assert np.all(out.terminated)
    assert np.all(out.reward == -100)
    assert np.all(np.isfinite(out.obs))


def test_names_spaces_and_picture():
    discrete, params = registry.make("LunarLander-v3", gravity=-9.0)
    continuous, _ = registry.make("LunarLanderContinuous-v3")
    assert params.gravity == np.float32(-9.0)
    assert discrete.max_steps == continuous.max_steps == 1000
    for name, env in (("LunarLander-v3", discrete), ("LunarLanderContinuous-v3", continuous)):
        reference = gym.make(name)
        np.testing.assert_array_equal(env.observation_space.lower, reference.observation_space.low)
        np.testing.assert_array_equal(env.observation_space.upper, reference.observation_space.high)
        assert env.action_space.shape == reference.action_space.shape
        reference.close()
    obs, state = RESET(jax.random.split(jax.random.key(1), 4), CALM)
    first = jax.tree.map(lambda x: np.asarray(x)[0], state)
    assert contains(discrete.observation_space, np.asarray(obs)[0])
    quiet = discrete.render(first, params)
    fired = discrete.render(first._replace(main_power=np.float32(1.0), side_power=np.float32(-1.0)), params)
    assert quiet.shape == (400, 600, 3)
    assert quiet.dtype == np.uint8
    assert np.any(quiet != fired)
