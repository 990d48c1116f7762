"""LunarLander against Gymnasium's: single steps from its states, and whole episodes by their statistics."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import registry
from envs.box2d import lunar_lander
from envs.interop import box2d_parity
from envs.interop.parity import parity
from envs.spaces import contains

pytest.importorskip("Box2D")

SAMPLES = 2000
NAMES = ["LunarLander-v3", "LunarLanderContinuous-v3"]
# The comparison's own programs, so that the step is compiled once.
ENV, BATCH = lunar_lander.LunarLander(continuous=True, enable_wind=True), box2d_parity.BATCH
STEP, RESET, _ = box2d_parity._programs(ENV)
CALM = box2d_parity._calm(registry.as_arrays(ENV.default_params()))


@functools.cache
def report(name):
    return parity(name, samples=SAMPLES)


@pytest.mark.parametrize("name", NAMES)
def test_steps_starts_and_episodes_are_gymnasiums(name):
    assert report(name).passed, [row for row in report(name).rows if not row.passed]
    samples = {row.quantity: row.samples for row in report(name).rows}
    assert 990 <= samples["flight: position"] <= 1000
    assert 490 <= samples["flight in wind: spin"] <= 500  # without those in which a foot differs
    assert samples["contact: velocity"] == 200
    assert samples["contact, Box2D with 3,000 sweeps: velocity"] == 100
    assert samples["controller: mean return"] == 100
    assert samples["random policy: returns"] == 250


def test_box2d_comes_closer_the_more_it_sweeps():
    """What is left in contact is mostly Box2D's: with 3,000 sweeps instead of 180 it comes nearer to ours."""
    for name in NAMES:
        rows = {(row.quantity, row.measure): row.value for row in report(name).rows}
        for part in ("position", "velocity", "angle", "spin"):
            usual = rows[f"contact: {part}", "90 % |error|"]
            assert rows[f"contact, Box2D with 3,000 sweeps: {part}", "90 % |error|"] < usual / 3


@pytest.mark.parametrize("name", NAMES)
def test_episodes_are_of_the_known_kind(name):
    """The controller lands and scores above the 200 that count as solved; random actions soon crash."""
    notes = {row.quantity: row.note.split() for row in report(name).rows}
    assert float(notes["controller: returns"][1]) > 200
    assert -260 < float(notes["random policy: returns"][1]) < -140
    assert 85 < float(notes["random policy: mean length"][1]) < 125


@pytest.mark.parametrize(
    ("changes", "failing"),
    [
        ({"gravity": -10.02}, {"flight: velocity", "flight in wind: velocity"}),
        ({"main_engine_power": 13.1}, {"flight: velocity", "flight: reward"}),
        ({"wind_power": 15.1}, {"flight in wind: velocity"}),
        ({"turbulence_power": 1.6}, {"flight in wind: spin"}),
    ],
)
def test_small_differences_are_found(changes, failing):
    env, params = registry.make("LunarLander-v3", **changes)
    checks = box2d_parity.single_steps(env, params, 1000, np.random.default_rng(0))
    failed = {row.quantity for row in checks if not row.passed}
    assert failed >= failing
    if "gravity" not in changes and "main_engine_power" not in changes:
        assert not any(quantity.startswith("flight:") for quantity in failed)


def test_another_wind_at_the_start_is_found():
    env, params = registry.make("LunarLander-v3", wind_power=16.0)
    observation = next(iter(box2d_parity._starts(env, params, 20)))
    assert not observation.passed


def test_throttles():
    discrete = lunar_lander.LunarLander()
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
    out = STEP(np.zeros((BATCH, 2), np.float32), state._replace(bodies=bodies), np.zeros((BATCH, 2), np.float32), CALM)
    assert np.all(out.terminated)
    assert np.all(out.reward == -100)
    assert np.all(np.isfinite(out.obs))


def test_names_and_picture():
    discrete, params = registry.make("LunarLander-v3", gravity=-9.0)
    continuous, _ = registry.make("LunarLanderContinuous-v3")
    assert params.gravity == np.float32(-9.0)
    assert discrete.max_steps == continuous.max_steps == 1000
    obs, state = RESET(jax.random.split(jax.random.key(1), BATCH), CALM)
    first = jax.tree.map(lambda x: np.asarray(x)[0], state)
    assert contains(discrete.observation_space, np.asarray(obs)[0])
    quiet = discrete.render(first, params)
    fired = discrete.render(first._replace(main_power=np.float32(1.0), side_power=np.float32(-1.0)), params)
    assert quiet.shape == (400, 600, 3)
    assert quiet.dtype == np.uint8
    assert np.any(quiet != fired)
