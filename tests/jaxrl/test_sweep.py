import re
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import xarray

import envs
import jaxrl
import jaxrl.sweep
from envs.errors import InputError
from jaxrl import memory
from jaxrl.agents import dqn, ppo, q_learning
from jaxrl.sweep import Range, combinations, evaluated, plan, sample
from jaxrl.train import make_train
from jaxrl.types import Evaluated

GRID = {
    "hp.learning_rate": [0.5, 0.1],
    "config.steps_per_iteration": [50, 100],
    "env.max_steps": [20],
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
        "env.max_steps": 1,
        "hp.gamma": 1,
        "seed": 3,
        "env_step": 3,
    }
    np.testing.assert_array_equal(dataset.env_step, [0, 1_000, 2_000])
    assert np.isnan(dataset.learner_td_error.isel(env_step=0)).all()
    assert np.isnan(dataset.training_return.isel(env_step=0)).all()
    np.testing.assert_array_equal(dataset["hp.learning_rate"], [0.5, 0.1])
    # Static axes: 2 × 1 programs; traced: 2 × 1 combinations of 3 seeds each, told before the start.
    assert lines[0].startswith("2 program(s) to compile, 12 runs (4 × 3 seeds)")
    assert sum(line.startswith("compiled in") for line in lines) == 2


def test_every_lane_is_the_run_alone(world, swept):
    dataset, _ = swept
    env, params = envs.make("GridWorld-4x4", max_steps=20)
    agent = q_learning.make(env, q_learning.Config(steps_per_iteration=50))
    train = jax.jit(make_train(agent, 2_000, 2, 32, at_start=True))
    for rate in (0.5, 0.1):
        for seed in range(3):
            alone = train(jax.random.key(seed), q_learning.Hyperparams(learning_rate=rate), params)
            lane = dataset.sel(
                {"hp.learning_rate": rate, "config.steps_per_iteration": 50, "env.max_steps": 20, "seed": seed}
            )
            np.testing.assert_allclose(lane.evaluation_return[0], alone.evaluation.returns.mean(-1), rtol=1e-6)
            scalars = np.asarray(alone.metrics.scalars["td_error"])
            np.testing.assert_allclose(lane.learner_td_error[0, 1:], scalars[1:].mean(-1), rtol=1e-5)
            np.testing.assert_array_equal(lane.training_episodes[0], alone.metrics.episodes.count.sum(-1))


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"hp.learning_rat": [1]}, "hp.learning_rate"),
        ({"learning_rate": [1]}, "Did you mean 'hp.learning_rate'"),
        ({"hp.gamma": []}, "one or more different values"),
        ({"hp.gamma": [0.9, 0.9]}, "one or more different values"),
        ({"hp.gamma": ["high"]}, "axis hp.gamma=high must be a number from 0 to 1"),
    ],
)
def test_bad_grids(world, grid, message):
    with pytest.raises(InputError, match=message):
        jaxrl.sweep("q_learning", *world, env_steps=2_000, grid=grid)


def test_draws_fill_the_space():
    space = {"hp.learning_rate": Range(1e-4, 1e-1, log=True), "hp.gamma": Range(0.8, 1.0), "config.num_envs": [1, 2]}
    for method in ("sobol", "random"):
        drawn = sample(space, 64, method, seed=1)
        rates = np.array([trial["hp.learning_rate"] for trial in drawn])
        assert len(drawn) == 64
        assert rates.min() >= 1e-4
        assert rates.max() <= 1e-1
        assert 24 <= np.sum(rates < 10**-2.5) <= 40  # the middle in the logarithm
        assert 24 <= sum(trial["config.num_envs"] == 1 for trial in drawn) <= 40
        assert drawn == sample(space, 64, method, seed=1) != sample(space, 64, method, seed=2)
    # Of 64 Sobol points each of 64 equal slices holds exactly one, whatever the scrambling.
    gammas = [trial["hp.gamma"] for trial in sample(space, 64)]
    np.testing.assert_array_equal(np.sort(np.floor((np.array(gammas) - 0.8) / 0.2 * 64)), np.arange(64))
    assert len(sample(space, 5)) == 5
    for bad, message in (
        ({"hp.gamma": Range(1, 0)}, "is empty"),
        ({"hp.gamma": Range(0, 1, log=True)}, "not above 0"),
        ({"hp.gamma": []}, "no values"),
        ({}, "at least one axis"),
    ):
        with pytest.raises(InputError, match=message):
            sample(bad, 4)


def test_trials_are_labelled_and_equal_the_grid(world, swept):
    trials = [
        {"hp.learning_rate": 0.1, "config.steps_per_iteration": 100, "env.max_steps": 20, "hp.gamma": 0.9},
        {"hp.learning_rate": 0.5, "config.steps_per_iteration": 50, "env.max_steps": 20, "hp.gamma": 0.9},
        {"hp.learning_rate": 0.1, "config.steps_per_iteration": 50, "env.max_steps": 20, "hp.gamma": 0.9},
    ]
    dataset = jaxrl.sweep("q_learning", *world, env_steps=2_000, seeds=3, trials=trials, num_evals=2)
    np.testing.assert_array_equal(dataset["hp.learning_rate"], [0.1, 0.5, 0.1])
    for index, trial in enumerate(trials):
        same = swept[0].sel(trial).evaluation_return
        np.testing.assert_array_equal(dataset.evaluation_return.sel(trial=index), same)


def test_an_interrupted_sweep_goes_on(world, tmp_path, swept, monkeypatch):
    """Killed after the first chunk of its second program it does only the rest, and ends as the one that was not."""

    class Killed(Exception):
        pass

    def kill(line):
        lines.append(line)
        if sum("runs" in line and "program 2/2" in line for line in lines) == 1:
            raise Killed

    def run(report, **changes):
        options = {"env_steps": 2_000, "seeds": 3, "grid": GRID, "num_evals": 2, "directory": tmp_path} | changes
        return jaxrl.sweep("q_learning", *world, report=report, **options)

    monkeypatch.setattr("jaxrl.placement.CPU_LANES", 1)  # as few runs in a chunk as there are devices
    lines = []
    with pytest.raises(Killed):
        run(kill)
    done = sorted((tmp_path / "chunks").glob("*.npz"))
    assert 1 < len(done) < len(lines)
    done[0].write_bytes(done[0].read_bytes()[:100])  # a damaged chunk is done again
    again = []
    dataset = run(again.append)
    chunks = 2 * -(-6 // min(6, jax.local_device_count()))
    assert len(done) < chunks
    assert sum(line.startswith("program") for line in again) == chunks - len(done) + 1
    xarray.testing.assert_identical(dataset, swept[0])
    with pytest.raises(InputError, match="holds another sweep"):
        run(None, num_evals=4)
    (tmp_path / "plan.json").write_text("{")
    with pytest.raises(InputError, match=r"plan.json is damaged"):
        run(None)


def test_processes_share_a_sweep(world, tmp_path, swept):
    options = {"env_steps": 2_000, "seeds": 3, "grid": GRID, "num_evals": 2, "directory": tmp_path}
    assert jaxrl.sweep("q_learning", *world, share=(1, 2), **options) is None
    xarray.testing.assert_identical(jaxrl.sweep("q_learning", *world, share=(0, 2), **options), swept[0])
    with pytest.raises(InputError, match="needs a directory"):
        jaxrl.sweep("q_learning", *world, env_steps=2_000, share=(0, 2))


def test_chunks_fit_the_memory():
    """A run's state is mostly its replay; the prediction follows its size, and what cannot fit is refused."""
    env, params = envs.make("CartPole-v1")
    agent = dqn.make(env, dqn.Config(replay_capacity=100_000))
    hp = dqn.Hyperparams(total_steps=1e5)
    program = sys.modules["jaxrl.sweep"].Program({}, list(range(100)), [{"hp.gamma": 0.9}] * 100, agent, params)
    job = sys.modules["jaxrl.sweep"]._Job(program, [0], hp, 100_000, 1, 1)
    size = memory.size(job.state())
    assert 4e6 < size < 10e6
    shards = min(100, jax.local_device_count())
    assert job.chunk(10**12) == 4 * shards
    assert job.chunk(int(1.5 * size * 2.5)) == 2 // shards * shards
    assert job.chunk(int(1.5 * size)) == 1  # of two devices only one is used
    with pytest.raises(InputError, match=r"^1 run of dqn needs .* of it replay .* Not even one would fit"):
        job.chunk(size // 2)


def test_a_chunk_is_done_in_parts_where_its_program_takes_too_much(world, swept, monkeypatch):
    """Nothing of it shows in the state: the compiler's figure is what counts. One run that does not fit is refused."""
    taken, told = [], []

    def needed(*arguments):
        taken.append(memory.needed(*arguments))
        return taken[-1]

    monkeypatch.setattr(sys.modules["jaxrl.sweep"], "memory", SimpleNamespace(**{**vars(memory), "needed": needed}))
    options = {"env_steps": 2_000, "seeds": 3, "grid": GRID, "num_evals": 2, "report": told.append}
    jaxrl.sweep("q_learning", *world, **options)
    most = max(taken)
    told.clear()
    again = jaxrl.sweep("q_learning", *world, memory_limit=int(most * 0.7), **options)
    parts = [line for line in told if line.startswith("compiled in")]
    assert parts
    assert all(re.search(r", [1-5] runs at a time of 6$", line) for line in parts)
    for name in again:
        np.testing.assert_allclose(again[name], swept[0][name], rtol=1e-5)
    told.clear()
    with pytest.raises(InputError, match=r"^1 run of q_learning needs .* Not even one would fit"):
        jaxrl.sweep("q_learning", *world, memory_limit=int(most * 0.02), **options)
    assert not [line for line in told if line.startswith("program")]


def test_static_fields_of_the_environment_bring_their_parameters():
    """A sea of size N has N × N actions; another mapping is another environment. What was changed by hand stays."""
    env, params = envs.make("DeepSea-bsuite", move_cost=0.5)
    grid = {
        "env.size": [4, 8],
        "env.mapping_seed": [0, 1],
        "env.move_cost": [0.25, 0.5],
        "hp.learning_rate": [0.1, 1.0],
    }
    options = (dqn.Config(), dqn.Hyperparams(), combinations(grid), 10_000, 2)
    programs = plan(dqn, env, params, *options)
    assert len(programs) == 4
    for program in programs:
        overrides = {axis.removeprefix("env."): value for axis, value in program.static.items()}
        want_env, want = envs.make("DeepSea-bsuite", **overrides, move_cost=0.5)
        assert program.agent.env == want_env
        np.testing.assert_array_equal(program.env_params.right_action, want.right_action)
        np.testing.assert_array_equal(program.env_params.move_cost, np.float32(0.5))
    assert not np.array_equal(programs[2].env_params.right_action, programs[3].env_params.right_action)


@pytest.mark.parametrize(
    ("name", "axis", "values"), [("DeepSea-bsuite", "env.mapping_seed", [0, 1]), ("GridWorld-4x4", "env.cols", [2, 6])]
)
def test_a_sweep_over_the_environment_trains_that_environment(name, axis, values):
    env, params = envs.make(name, max_steps=20)
    module = {"DeepSea-bsuite": dqn, "GridWorld-4x4": q_learning}[name]
    options = {"env_steps": 2_000, "num_evals": 1, "seeds": 1, "eval_episodes": 2}
    swept = jaxrl.sweep(module, env, params, grid={axis: values}, **options)
    for value in values:
        alone = jaxrl.sweep(module, *envs.make(name, max_steps=20, **{axis.removeprefix("env."): value}), **options)
        for variable in alone:
            np.testing.assert_array_equal(swept[variable].sel({axis: value}), alone[variable])


def test_parameters_that_do_not_fit_are_refused():
    env, params = envs.make("DeepSea-bsuite")
    changed = params._replace(right_action=1 - params.right_action)
    with pytest.raises(InputError, match=r"right_action has shape \(4, 4\), the one given \(10, 10\)"):
        jaxrl.sweep("dqn", env, changed, env_steps=10_000, grid={"env.size": [4]})
    for value in (1, [[1]], "left"):
        with pytest.raises(InputError, match=r"axis env.right_action.*(has shape \(10, 10\)|of type int32)"):
            jaxrl.sweep("dqn", env, params, env_steps=10_000, grid={"env.right_action": [value]})


def test_programs_may_report_different_scalars():
    """early_stop adds a diagnostic: the runs without it have NaN there, and nothing of the others is lost."""
    env, params = envs.make("CartPole-v1")
    config = ppo.Config(num_envs=2, rollout_length=16, num_minibatches=1, hidden=(4,))
    grid = {"config.early_stop": [False, True], "config.rollout_length": [16, 24], "hp.gamma": [0.9]}
    options = {"env_steps": 500, "seeds": 2, "config": config, "num_evals": 2, "eval_episodes": 2}
    dataset = jaxrl.sweep(ppo, env, params, grid=grid, **options)
    assert np.isnan(dataset.learner_loss.isel(env_step=0)).all()  # nothing is learnt before step 0
    dataset = dataset.isel(env_step=slice(1, None))
    applied = dataset.learner_applied.sel({"hp.gamma": 0.9})
    assert np.isnan(applied.sel({"config.early_stop": False})).all()
    assert ((applied.sel({"config.early_stop": True}) > 0) & (applied.sel({"config.early_stop": True}) <= 1)).all()
    assert np.isfinite(dataset.learner_loss).all()
    # Iterations of 32 and of 48 steps: each trial says what it had really taken.
    taken = dataset.env_steps_taken.isel({"config.early_stop": 0, "hp.gamma": 0, "seed": 1})
    np.testing.assert_array_equal(taken, [[7 * 32, 15 * 32], [5 * 48, 10 * 48]])
    np.testing.assert_array_equal(dataset.env_step, [224, 480])


def test_nothing_is_trained_before_all_is_checked(world):
    lines = []
    grid = {"config.steps_per_iteration": [100, 10_000]}
    with pytest.raises(InputError, match="too few"):
        jaxrl.sweep("q_learning", *world, env_steps=2_000, grid=grid, num_evals=2, report=lines.append)
    assert not lines


def test_steps_and_names_arrive_as_they_are():
    """More steps between two evaluations than 32 bits count; evaluations whose names have dots."""
    env, params = envs.make("GridWorld-3x3", max_steps=4)

    def make(env, config):
        base = q_learning.make(env, config)

        def step(state, shared=()):
            state, metrics = base.step(state, shared)
            many = metrics.episodes._replace(length_sum=jnp.int32(2**30), count=jnp.int32(2))
            return state, metrics._replace(episodes=many)

        names = ("easy.a", "easy.b")
        more = tuple(Evaluated(name, env, lambda state, shared: params, base.policy) for name in names)
        return base._replace(step=step, evaluations=more)

    own = SimpleNamespace(Config=q_learning.Config, Hyperparams=q_learning.Hyperparams, make=make, __name__="own")
    config = q_learning.Config(steps_per_iteration=10)
    found = jaxrl.sweep(own, env, params, env_steps=80, seeds=1, num_evals=1, eval_episodes=2, config=config)
    assert list(found.evaluation.values) == ["greedy", "easy.a", "easy.b"]
    one = found.isel(env_step=-1).squeeze()
    assert int(one.training_episodes) % 2 == 0
    np.testing.assert_allclose(float(one.training_length), 2**29)


def test_every_trial_must_allow_an_evaluation():
    env, params = envs.make("Maze-Procgen-v0", num_levels=0, max_steps=5)
    options = {"env_steps": 512, "num_evals": 1, "evaluate": ["test"], "config": ppo.Config(hidden=(4,))}
    with pytest.raises(InputError, match="num_levels is 0"):
        jaxrl.sweep("ppo", env, params._replace(num_levels=50), grid={"env.num_levels": [0, 50]}, **options)
    programs = plan(ppo, env, params, ppo.Config(), ppo.Hyperparams(), combinations({"env.num_levels": [50]}), 512, 1)
    assert [other.name for other in evaluated(programs[0], ["test"]).agent.evaluations] == ["test"]
