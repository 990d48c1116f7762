"""Runs trained and read from Python, and what the command line makes of their directories."""

import dataclasses
import json
import subprocess
import sys

import jax
import numpy as np
import pytest
import xarray

import envs
import jaxrl
from envs.errors import InputError
from envs.gridworld.grid_world import GridWorld
from envs.wrappers import ActionRepeat
from jaxrl import cli, policy_state, results, runs
from jaxrl.agents import ppo, q_learning
from jaxrl.rollout import initial_memory
from jaxrl.train import with_total_steps

SMALL = {"env_steps": 2_000, "num_evals": 2, "eval_episodes": 4}
PPO = ppo.Config(num_envs=2, rollout_length=16, num_minibatches=1, hidden=(4,))


def command(*arguments, status=0):
    assert cli.main([str(argument) for argument in arguments]) == status


@pytest.fixture(scope="module")
def fitted(tmp_path_factory):
    """(directory, what `fit` returned) of three runs whose objects have names: a wider grid, another discount."""
    path = tmp_path_factory.mktemp("runs") / "objects"
    env, params = envs.make("GridWorld-4x4", cols=5, max_steps=30)
    agent = q_learning.make(env, q_learning.Config(double=True))
    hp = q_learning.Hyperparams(gamma=0.9)
    return path, jaxrl.fit(agent, params, hp, seeds=(4, 2, 9), **SMALL, directory=path)


def test_a_directory_of_objects_is_one_of_names(fitted, tmp_path, capsys):
    path, out = fitted
    spec = runs.read_spec(path)
    assert (spec.agent, spec.env, spec.seeds) == ("q_learning", "GridWorld-4x4", (4, 2, 9))
    assert spec.env_options == {"cols": 5, "max_steps": 30}
    assert spec.config.double
    assert spec.hp.gamma == 0.9
    command("evaluate", path, "--episodes", 4)
    command("plot", path, "--out", tmp_path / "curve.png")
    command("export", path, tmp_path / "table.csv")
    command("render", path, "--out", tmp_path / "film.gif", "--seed", 9)
    command("resume", path)
    xarray.testing.assert_equal(results.load(path / "results.nc"), out.results)
    env, params = envs.make("GridWorld-4x4", cols=5, max_steps=30)
    pair = jaxrl.fit(
        "q_learning", (env, params), spec.hp, seeds=(4, 2, 9), config=spec.config, **SMALL, directory=tmp_path / "pair"
    )
    xarray.testing.assert_equal(pair.results, out.results)
    assert runs.read_spec(tmp_path / "pair") == spec


def test_names_alone(tmp_path):
    out = jaxrl.fit("q_learning", "GridWorld-4x4", seeds=2, **SMALL, evaluate=["sampling"])
    assert out.directory is None
    assert list(out.results.seed) == [0, 1]
    assert list(out.results.evaluation) == ["greedy", "sampling"]
    for arguments, options, message in (
        (("q_learnin", "GridWorld-4x4"), {}, "Did you mean 'q_learning'"),
        (("q_learning", "GridWorld-4x5"), {}, "Did you mean 'GridWorld-5x5'"),
        (("q_learning", GridWorld()), {}, "must be a name, or the"),
        ((q_learning.make(GridWorld()), "GridWorld-4x4"), {}, "is made already"),
        (("q_learning", "GridWorld-4x4"), {"resume": True}, "give one"),
        (("q_learning", "GridWorld-4x4"), {"init": tmp_path / "no"}, "no is not a run directory"),
    ):
        with pytest.raises(InputError, match=message):
            jaxrl.fit(*arguments, seeds=2, **SMALL, **options)


def test_loaded_is_what_was_trained(fitted):
    path, out = fitted
    run = jaxrl.load(path)
    assert run.seeds == (4, 2, 9)
    assert run.agent.name == "q_learning"
    assert run.hp == q_learning.Hyperparams(gamma=0.9)  # its horizon is that of the next run
    xarray.testing.assert_equal(run.results, out.results)
    for one, other in zip(jax.tree.leaves(run.state.learner), jax.tree.leaves(out.state.learner), strict=True):
        np.testing.assert_array_equal(one, other)
    key = jax.random.key(jaxrl.train.EVAL_SEED)
    for index, seed in enumerate(run.seeds):
        played = jaxrl.evaluate(run.agent.env, run.env_params, run.policies[seed], key, 4)
        np.testing.assert_array_equal(played.returns.mean(), out.results.evaluation_return[index, -1])
    with pytest.raises(InputError, match="no run of seed 5; its seeds: 4, 2, 9"):
        run.policy(5)


def test_a_run_goes_on_with_what_another_learnt(fitted, tmp_path):
    """From a directory or from a loaded state; the directory says so, and a run that was not begun begins so again."""
    path, out = fitted
    options = {"seeds": (1, 2, 3), "config": q_learning.Config(double=True), "env_steps": 1_000, "num_evals": 1}
    hp = q_learning.Hyperparams(learning_rate=0.0)
    env = envs.make("GridWorld-4x4", cols=5, max_steps=12)
    target = tmp_path / "warm"
    warm = jaxrl.fit("q_learning", env, hp, init=path, directory=target, **options)
    np.testing.assert_array_equal(warm.state.learner.q, out.state.learner.q)
    assert json.loads((target / "config.json").read_text())["began_with"] == str(path)
    again = jaxrl.fit("q_learning", env, hp, init=jaxrl.load(path).state, **options)
    xarray.testing.assert_equal(again.results, warm.results)
    for name in ("results.nc", "checkpoints"):
        (target / name).rename(tmp_path / name)
    spec = runs.read_spec(target)
    xarray.testing.assert_equal(runs.train(spec, target, resume=True).results, warm.results)


def test_the_command_line_begins_with_another_run(fitted, tmp_path, capsys):
    path, out = fitted
    train = [
        "train",
        "q_learning",
        "GridWorld-4x4",
        "--env.cols",
        5,
        "--config.double",
        "--from",
        path,
        "--steps",
        1_000,
    ]
    train += ["--evals", 1, "--hp.learning-rate", 0, "--env.max-steps", 9]
    command(*train, "--seeds", 3, "--out", tmp_path / "three")
    np.testing.assert_array_equal(jaxrl.load(tmp_path / "three").state.learner.q, out.state.learner.q)
    for more, message in (
        (["--seeds", 2], "2 runs cannot begin with 3"),
        (["--seeds", 3, "--env.rows", 6], "the spaces of the environment"),
        (["--seeds", 3, "--config.no-double"], "the spaces of the environment and the sizes of the networks"),
    ):
        capsys.readouterr()
        command(*train, *more, "--out", tmp_path / "bad", status=2)
        assert not (tmp_path / "bad").exists()
        assert message in capsys.readouterr().err


def own_loss(*arguments):
    loss, scalars = ppo.loss(*arguments)
    return 2.0 * loss, scalars


@pytest.mark.parametrize("what", ["agent", "environment"])
def test_objects_without_a_name_say_so(what, tmp_path, capsys):
    """An agent with a loss of its own is not PPO, whatever it is called, and a wrapped environment has no name."""
    path = tmp_path / "own"
    env, params = envs.make("CartPole-v1")
    agent = ppo.make(env, PPO, loss=own_loss) if what == "agent" else ppo.make(ActionRepeat(env, 2), PPO)
    options = {"seeds": (0, 1), "env_steps": 320, "num_evals": 2, "eval_episodes": 1}
    out = jaxrl.fit(agent, params, directory=path, **options)
    for name in ("evaluate", "render", "resume"):
        capsys.readouterr()
        command(name, path, status=2)
        error = capsys.readouterr().err
        assert f"no name stands for its {what}" in error
        assert error.count("\n") == 1
        assert "agent=" in error
    command("plot", path, "--out", tmp_path / "curve.png")
    command("export", path, tmp_path / "table.csv")
    with pytest.raises(InputError, match="agent=…"):
        jaxrl.load(path)
    run = jaxrl.load(path, agent=agent)
    np.testing.assert_array_equal(
        jax.tree.leaves(run.state.learner.params)[0], jax.tree.leaves(out.state.learner.params)[0]
    )
    again = jaxrl.fit(agent, params, directory=path, resume=True, **options)
    xarray.testing.assert_equal(again.results, out.results)
    with pytest.raises(InputError, match=r"config.hidden: ours \[8\]"):
        jaxrl.load(path, agent=ppo.make(agent.env, dataclasses.replace(PPO, hidden=(8,))))


def test_parts_of_the_package_are_attributes():
    """Also in a fresh process, where nothing else has imported them."""
    code = "import jaxrl; print(jaxrl.plotting.__name__, jaxrl.film, jaxrl.tables, jaxrl.losses, jaxrl.agents.ppo)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.startswith("jaxrl.plotting <module"), done.stderr
    assert not hasattr(jaxrl, "ploting")


AXES = {"hp.learning_rate": [0.5, 0.1], "config.steps_per_iteration": [50, 100], "env.rewards": [(-1.0, 5.0)]}


@pytest.fixture(scope="module")
def swept(tmp_path_factory):
    """(directory, results) of a sweep from Python over a traced, a static and an environment's axis."""
    path = tmp_path_factory.mktemp("sweeps") / "python"
    env, params = envs.make("GridWorld-4x4", max_steps=30)
    options = {"grid": AXES, "seeds": [3, 8], "directory": path, "evaluate": ["sampling"], "keep_policies": True}
    return path, jaxrl.sweep("q_learning", env, params, **SMALL, **options)


def test_a_sweep_keeps_its_policies(swept):
    path, dataset = swept
    sweep = jaxrl.load(path)
    xarray.testing.assert_equal(sweep.results, dataset)
    assert len(sweep.trials) == 4
    assert sweep.seeds == (3, 8)
    for number, settings in enumerate(sweep.trials):
        run = sweep.run(number)
        rate, steps = settings["hp.learning_rate"], settings["config.steps_per_iteration"]
        assert run.agent.config.steps_per_iteration == steps
        np.testing.assert_array_equal(run.hp.learning_rate, np.float32(rate))
        assert run.agent.env.rewards == (-1.0, 5.0)
        key = jax.random.key(jaxrl.train.EVAL_SEED)
        for index, seed in enumerate(run.seeds):
            played = jaxrl.evaluate(run.agent.env, run.env_params, run.policy(seed), key, 4)
            last = run.results.evaluation_return.sel(evaluation="greedy", seed=seed).isel(env_step=-1)
            np.testing.assert_array_equal(played.returns.mean(), last)
            want = dataset.evaluation_return.sel({"hp.learning_rate": rate, "config.steps_per_iteration": steps})
            np.testing.assert_array_equal(
                last, want.isel({"env.rewards": 0, "env_step": -1, "evaluation": 0, "seed": index})
            )
    named = sweep.run("hp.learning_rate=1e-1, config.steps_per_iteration=50, env.rewards=(-1.0, 5.0)")
    np.testing.assert_array_equal(named.state.learner.q, sweep.run(2).state.learner.q)
    for trial in (4, "hp.learning_rate=0.2", "nonsense"):
        with pytest.raises(InputError, match=r"the trials 0 \(hp.learning_rate=0.5, config.steps_per_iteration=50"):
            sweep.run(trial)


def test_the_command_line_reads_a_sweep_from_python(swept, tmp_path, capsys):
    path, dataset = swept
    command("evaluate", path, "--episodes", 4, "--trial", 1, "--evaluations", "sampling")
    assert "sampling" in capsys.readouterr().out
    command("render", path, "--trial", 3, "--out", tmp_path / "film.gif", "--seed", 8)
    command("plot", path, "--out", tmp_path / "curve.png")
    command("export", path, tmp_path / "table.csv")
    before = (path / "results.nc").read_bytes()
    (path / "results.nc").unlink()
    capsys.readouterr()
    command("resume", path)
    assert "compiled" not in capsys.readouterr().err
    xarray.testing.assert_equal(results.load(path / "results.nc"), dataset)
    assert len((path / "results.nc").read_bytes()) == len(before)
    for arguments, message in (
        ((), "is a sweep: --trial says whose policies play. It has the trials 0 ("),
        (("--trial", "7"), "trial 7: "),
        (("--trial", "1", "--gymnasium"), "a sweep has none"),
    ):
        command("evaluate", path, *arguments, status=2)
        error = capsys.readouterr().err
        assert message in error
        assert error.count("\n") == 1
    with pytest.raises(InputError, match="holds another sweep"):
        jaxrl.sweep("q_learning", "GridWorld-4x4", **SMALL, directory=path)


def test_a_sweep_without_policies_or_names(fitted, tmp_path, capsys):
    jaxrl.sweep("q_learning", "GridWorld-4x4", **SMALL, seeds=1, directory=tmp_path / "plain")
    with pytest.raises(InputError, match="kept no policies: `jaxrl sweep --keep-policies` does"):
        jaxrl.load(tmp_path / "plain").run(0)
    with pytest.raises(InputError, match="is the directory of a run; a sweep needs its own"):
        jaxrl.sweep("q_learning", "GridWorld-4x4", **SMALL, seeds=1, directory=fitted[0])
    with pytest.raises(InputError, match="kept in a directory"):
        jaxrl.sweep("q_learning", "GridWorld-4x4", **SMALL, seeds=1, keep_policies=True)
    env = ActionRepeat(GridWorld(max_steps=9), 2)
    own = {"seeds": 1, "directory": tmp_path / "own", "keep_policies": True}
    jaxrl.sweep("q_learning", env, env.default_params(), **SMALL, **own)
    for name in ("evaluate", "resume"):
        command(name, tmp_path / "own", *(["--trial", 0] if name == "evaluate" else []), status=2)
        assert "no name stands for its environment" in capsys.readouterr().err
    command("evaluate", fitted[0], "--trial", 0, status=2)
    assert "is no sweep" in capsys.readouterr().err


@pytest.mark.parametrize("agent", ["dqn", "ppo_recurrent", "es"])
def test_what_a_policy_reads_is_a_small_part_of_the_state(agent):
    """Networks and statistics, whatever the loop; no replay, no optimiser. With it alone a policy acts as with all."""
    module = jaxrl.agents.get(agent)
    env, params = envs.make("CartPole-v1")
    config = module.Config(normalize_obs=True)
    made = module.make(env, config)
    hp = with_total_steps(module.Hyperparams(), 10_000)
    state = jax.jit(made.init)(jax.random.key(0), hp, params)
    shapes = jax.eval_shape(lambda: state)
    places = policy_state.read(made, shapes)
    kept = {name: np.asarray(x) for name, x in policy_state.take(state, places).items()}
    paths = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(state)[0]]
    read = {paths[place] for place in places}
    assert any("params" in path for path in read)
    assert any(path.startswith(".signals") for path in read)
    assert not [path for path in read if "opt" in path or "replay" in path or path.startswith(".episode")]
    again = policy_state.put(shapes, kept)
    obs = jax.random.normal(jax.random.key(1), (7, 4))
    for policy in (made.policy, made.explore or made.policy):
        actions = [policy(s).act(jax.random.key(2), obs, initial_memory(policy(s), 7))[0] for s in (state, again)]
        np.testing.assert_array_equal(*actions)
