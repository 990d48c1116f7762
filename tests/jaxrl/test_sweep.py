import jax
import numpy as np
import pytest

import envs
import jaxrl
from envs.errors import InputError
from jaxrl.agents import q_learning
from jaxrl.train import make_train

GRID = {
    "hp.learning_rate": [0.5, 0.1],
    "config.steps_per_iteration": [50, 100],
    "env.max_steps": [20, 100],
    "hp.gamma": [0.9],
}


@pytest.fixture(scope="module")
def world():
    return envs.make("GridWorld-4x4")


@pytest.fixture(scope="module")
def swept(world):
    lines = []
    dataset = jaxrl.sweep("q_learning", *world, env_steps=2_000, seeds=3, grid=GRID, num_evals=2, report=lines.append)
    return dataset, lines


def test_dimensions_are_named_in_the_order_of_the_grid(swept):
    dataset, lines = swept
    assert dict(dataset.evaluation_return.sizes) == {
        "hp.learning_rate": 2,
        "config.steps_per_iteration": 2,
        "env.max_steps": 2,
        "hp.gamma": 1,
        "seed": 3,
        "env_step": 2,
    }
    np.testing.assert_array_equal(dataset["hp.learning_rate"], [0.5, 0.1])
    # Static axes: 2 × 2 programs; traced: 2 × 1 combinations of 3 seeds each, told before the start.
    assert lines[0].startswith("4 program(s) to compile, 6 runs in each")
    assert len(lines) == 5


def test_every_lane_is_the_run_alone(world, swept):
    dataset, _ = swept
    env, params = envs.make("GridWorld-4x4", max_steps=20)
    agent = q_learning.make(env, q_learning.Config(steps_per_iteration=50))
    train = jax.jit(make_train(agent, 2_000, 2, 32))
    for rate in (0.5, 0.1):
        for seed in range(3):
            alone = train(jax.random.key(seed), q_learning.Hyperparams(learning_rate=rate), params)
            lane = dataset.sel(
                {"hp.learning_rate": rate, "config.steps_per_iteration": 50, "env.max_steps": 20, "seed": seed}
            )
            np.testing.assert_allclose(lane.evaluation_return[0], alone.evaluation.returns.mean(-1), rtol=1e-6)
            np.testing.assert_allclose(lane.learner_td_error[0], alone.metrics.scalars["td_error"].mean(-1), rtol=1e-5)
            np.testing.assert_array_equal(lane.training_episodes[0], alone.metrics.episodes.count.sum(-1))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"hp.learning_rat": [1]}, "hp.learning_rate"),
        ({"learning_rate": [1]}, "Did you mean 'hp.learning_rate'"),
        ({"hp.gamma": []}, "one or more different values"),
        ({"hp.gamma": [0.9, 0.9]}, "one or more different values"),
        ({"hp.gamma": ["high"]}, "'high' is not a number"),
    ],
)
def test_bad_grids(world, grid, message):
    with pytest.raises(InputError, match=message):
        jaxrl.sweep("q_learning", *world, env_steps=2_000, grid=grid)


def test_nothing_is_trained_before_all_is_checked(world):
    lines = []
    grid = {"config.steps_per_iteration": [100, 10_000]}
    with pytest.raises(InputError, match="too few"):
        jaxrl.sweep("q_learning", *world, env_steps=2_000, grid=grid, num_evals=2, report=lines.append)
    assert not lines
