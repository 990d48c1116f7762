"""The command line, end to end in a temporary directory."""

import importlib.metadata
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import xarray as xr

import envs
import jaxrl as package
from envs.errors import InputError
from jaxrl import checkpoint, cli, plotting, results, runs
from jaxrl.cli import flags, training

SMALL = ["--steps", "2000", "--evals", "4", "--eval-episodes", "4", "--seeds", "4"]


def jaxrl(*arguments, check=0):
    """Runs a command in this process."""
    status = cli.main([str(argument) for argument in arguments])
    assert status == check


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A finished run of four seeds."""
    path = tmp_path_factory.mktemp("runs") / "q"
    jaxrl("train", "q_learning", "GridWorld-4x4", *SMALL, "--out", path, "--hp.learning-rate", "0.2")
    return path


def test_train_leaves_a_run_directory(run):
    names = {path.name for path in run.iterdir()}
    assert names == {"config.json", "cost.json", "results.nc", "curve.png", "checkpoints", "policies"}
    config = json.loads((run / "config.json").read_text())
    assert config["hp"]["learning_rate"] == 0.2
    assert config["hp"]["total_steps"] == 2000
    assert config["command"][:3] == ["jaxrl", "train", "q_learning"]
    assert {"jax", "numpy", "python"} <= set(config["provenance"]["versions"])
    assert (run / "curve.png").read_bytes().startswith(b"\x89PNG")
    assert results.load(run / "results.nc").evaluation_return.dims == ("seed", "env_step")
    assert len(list((run / "policies").iterdir())) == 4
    assert checkpoint.steps(run / "checkpoints")[-1] == 4
    spec = runs.read_spec(run)
    assert spec.seeds == (0, 1, 2, 3)
    assert json.loads(json.dumps(spec.to_json())) == {name: config[name] for name in spec.to_json()}


@pytest.mark.parametrize("name", envs.names())
def test_every_environment_has_flags(name, capsys):
    """Also those whose parameters are arrays: short ones are flags, a map of the world is not."""
    _, params = envs.make(name)
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "ppo", name, "--help"])
    assert stopped.value.code == 0
    text = capsys.readouterr().out
    for field, value in params._asdict().items() if params else ():
        assert (f"--env.{field.replace('_', '-')}" in text) == (np.size(value) <= flags.MOST_NUMBERS)


def test_an_array_is_a_flag_of_several_numbers(tmp_path, capsys):
    options = ["--steps", 1000, "--evals", 1, "--out", tmp_path / "run", "--env.reward-schedule", 2, 0, -1]
    jaxrl("train", "q_learning", "FrozenLake-v1", *options)
    spec = runs.read_spec(tmp_path / "run")
    np.testing.assert_array_equal(spec.build()[1].reward_schedule, [2, 0, -1])
    jaxrl("evaluate", tmp_path / "run", "--episodes", 2)
    spec_of_text = ["--env.reward-schedule=(2,0,-1)", "--steps", 1000, "--evals", 1, "--out", tmp_path / "text"]
    jaxrl("train", "q_learning", "FrozenLake-v1", *spec_of_text)
    assert runs.read_spec(tmp_path / "text").env_options == spec.env_options
    capsys.readouterr()
    jaxrl("train", "q_learning", "FrozenLake-v1", "--env.reward-schedule", 2, 0, check=2)
    assert "reward_schedule=2 0 must be 3 values, each a number" in capsys.readouterr().err


def test_a_log_has_a_line_for_each_evaluation(tmp_path, capsys):
    """Where there is no terminal, as on a cluster, and as it happens."""
    options = ["--steps", 1_000, "--evals", 4, "--eval-episodes", 2]
    jaxrl("train", "q_learning", "GridWorld-4x4", *options, "--out", tmp_path / "run")
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(" steps")[0] for line in lines] == [f"{n} of 1,000" for n in ("0", "200", "500", "700", "1,000")]
    returns = results.load(tmp_path / "run/results.nc").evaluation_return.values[0]
    assert [line.split("return ")[1].split()[0].rstrip(",") for line in lines] == [f"{x:.1f}" for x in returns]
    assert all(line.endswith("steps/s") for line in lines[1:])


def test_what_is_left_of_the_budget_is_said(tmp_path, capsys):
    options = ["--steps", 1_250, "--evals", 5, "--eval-episodes", 2]
    jaxrl("train", "q_learning", "GridWorld-4x4", *options, "--out", tmp_path / "run")
    assert "50 of 1,250 steps were left out" in capsys.readouterr().out
    np.testing.assert_array_equal(results.load(tmp_path / "run/results.nc").env_step, [0, 200, 400, 700, 900, 1200])


def test_a_run_of_the_version_before_is_plotted_and_otherwise_refused(run, tmp_path, capsys):
    old = tmp_path / "old"
    shutil.copytree(run, old)
    config = json.loads((old / "config.json").read_text())
    del config["format"], config["sha256"]
    config["provenance"]["git"] = {"commit": "0123456789abcdef"}
    (old / "config.json").write_text(json.dumps(config))
    jaxrl("plot", old, "--out", tmp_path / "plot.png")
    jaxrl("export", old, tmp_path / "table.csv")
    capsys.readouterr()
    for command in ("evaluate", "render", "resume"):
        jaxrl(command, old, check=2)
        error = capsys.readouterr().err
        assert error.startswith("error: ")
        assert error.count("\n") == 1
        assert "another version of jaxrl (commit 0123456789ab)" in error
        assert "policies/seed-N.npz" in error


def test_named_evaluations(tmp_path, capsys):
    """Each is a row of the table and an entry of the dimension `evaluation`, also in a sweep."""
    options = ["--steps", 1_000, "--evals", 2, "--eval-episodes", 4, "--seeds", 2]
    jaxrl("train", "q_learning", "GridWorld-4x4", *options, "--evaluations", "sampling", "--out", tmp_path / "run")
    dataset = results.load(tmp_path / "run/results.nc")
    assert dataset.evaluation_return.dims == ("evaluation", "seed", "env_step")
    assert list(dataset.evaluation.values) == ["greedy", "sampling"]
    assert dataset.training_return.dims == ("seed", "env_step")
    out = capsys.readouterr().out
    assert "sampling" in out
    jaxrl("plot", tmp_path / "run", "--out", tmp_path / "plot.png")
    jaxrl("export", tmp_path / "run", tmp_path / "table.csv")
    capsys.readouterr()
    jaxrl("evaluate", tmp_path / "run", "--episodes", 2, "--evaluations", "sampling")
    assert "sampling" in capsys.readouterr().out
    jaxrl("evaluate", tmp_path / "run", "--evaluations", "test", check=2)
    jaxrl("resume", tmp_path / "run")
    grid = ["--grid", "hp.learning_rate=0.1,0.5"]
    jaxrl(
        "sweep", "q_learning", "GridWorld-4x4", *options, *grid, "--evaluations", "sampling", "--out", tmp_path / "sw"
    )
    swept = results.load(tmp_path / "sw/results.nc")
    assert swept.evaluation_return.dims == ("hp.learning_rate", "evaluation", "seed", "env_step")
    one = swept.evaluation_return.sel({"hp.learning_rate": 0.1})
    np.testing.assert_array_equal(one, dataset.evaluation_return)
    capsys.readouterr()
    for name, message in (
        ("samplin", "Did you mean 'sampling'?"),
        ("test", "no numbered levels"),
        ("own_reward", "no wrapper changes it"),
    ):
        jaxrl("train", "q_learning", "GridWorld-4x4", "--evaluations", name, "--out", tmp_path / "bad", check=2)
        assert message in capsys.readouterr().err
        assert not (tmp_path / "bad").exists()


def test_evaluate_plot_render_list_parity(run, tmp_path, capsys):
    jaxrl("evaluate", run, "--episodes", 8)
    assert "mean return" in capsys.readouterr().out
    jaxrl("plot", run, "--out", tmp_path / "plot.png")
    assert (tmp_path / "plot.png").stat().st_size > 1000
    jaxrl("render", run, "--out", tmp_path / "film.gif", "--seed", 2)
    assert (tmp_path / "film.gif").read_bytes().startswith(b"GIF8")
    out = capsys.readouterr().out
    assert "7 frames, 2 a second; 6 steps, terminated, return 1" in out
    jaxrl("render", run, "--out", tmp_path / "film.gif", check=2)
    assert "nothing is overwritten" in capsys.readouterr().err
    jaxrl("render", run, "--out", tmp_path / "film.gif", "--overwrite", "--fps", 4)
    assert "4 a second" in capsys.readouterr().out
    jaxrl("render", run, "--out", tmp_path / "other.gif", "--fps", 0, check=2)
    assert "fps=0 must be a whole number of at least 1" in capsys.readouterr().err
    assert not (tmp_path / "other.gif").exists()
    jaxrl("list", "envs")
    assert "CartPole-v1" in capsys.readouterr().out
    jaxrl("list", "agents")
    assert "q_learning" in capsys.readouterr().out
    jaxrl("parity", "CartPole-v1", "--samples", 200)
    assert "terminated" in capsys.readouterr().out


def test_resume_of_a_finished_run_changes_nothing(run, capsys):
    before = {path: path.read_bytes() for path in run.rglob("*.n*") if path.is_file()}
    jaxrl("resume", run)
    assert {path: path.read_bytes() for path in before} == before


def leaves(path):
    spec = runs.read_spec(path)
    _, state, done = runs.restore(spec, path)
    import jax

    def leaf(x):
        return np.asarray(jax.random.key_data(x) if jax.dtypes.issubdtype(x.dtype, jax.dtypes.prng_key) else x)

    return [leaf(x) for x in jax.tree.leaves(state)], done


@pytest.mark.parametrize("agent", ["q_learning", pytest.param("ppo", marks=pytest.mark.slow)])
def test_killed_runs_resume_bitwise(agent, tmp_path):
    """SIGKILL in mid-run, resume: the final state is bit for bit that of a run that was left in peace."""
    settings = {
        "q_learning": ["GridWorld-4x4", "--steps", "60000"],
        "ppo": ["CartPole-v1", "--steps", "60000", "--config.hidden", "8", "--config.rollout-length", "32"],
    }[agent]
    arguments = ["train", agent, *settings, "--evals", "30", "--eval-episodes", "4", "--seeds", "4"]
    environment = os.environ | {"JAXRL_CACHE": str(tmp_path / "cache")}
    command = [sys.executable, "-m", "jaxrl", *arguments, "--out", str(tmp_path / "killed")]
    with subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL) as process:
        while not [step for step in checkpoint.steps(tmp_path / "killed" / "checkpoints") if step >= 3]:
            assert process.poll() is None
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
    _, done = leaves(tmp_path / "killed")
    assert 3 <= done < 30
    for more in (["resume", str(tmp_path / "killed")], [*arguments, "--out", str(tmp_path / "whole")]):
        subprocess.run([sys.executable, "-m", "jaxrl", *more], env=environment, check=True, capture_output=True)
    resumed, whole = leaves(tmp_path / "killed"), leaves(tmp_path / "whole")
    assert resumed[1] == whole[1] == 30
    for one, other in zip(resumed[0], whole[0], strict=True):
        np.testing.assert_array_equal(one, other)
    first, second = (results.load(tmp_path / name / "results.nc") for name in ("killed", "whole"))
    for name in first:
        np.testing.assert_array_equal(first[name], second[name])


def test_sweep(tmp_path, capsys):
    grid = ["--grid", "hp.learning_rate=0.1,0.5", "--grid", "config.num_envs=1,2"]
    options = ["--steps", 2000, "--evals", 2, "--seeds", 2, "--out", tmp_path / "sweep"]
    jaxrl("sweep", "q_learning", "GridWorld-4x4", *grid, *options)
    captured = capsys.readouterr()
    assert "2 program(s) to compile, 8 runs" in captured.err
    assert captured.out.count("2,000") == 4
    assert results.load(tmp_path / "sweep" / "results.nc").sizes["hp.learning_rate"] == 2
    jaxrl("sweep", "q_learning", "GridWorld-4x4", *grid, *options, check=2)
    before = (tmp_path / "sweep" / "results.nc").read_bytes()
    (tmp_path / "sweep" / "results.nc").unlink()
    capsys.readouterr()
    jaxrl("resume", tmp_path / "sweep")  # all chunks are there: nothing is compiled
    assert "compiled" not in capsys.readouterr().err
    assert (tmp_path / "sweep" / "results.nc").read_bytes() == before
    shutil.copytree(tmp_path / "sweep", tmp_path / "same")
    jaxrl("compare", tmp_path / "sweep", tmp_path / "same", check=2)
    assert "is a sweep of 4 configurations" in capsys.readouterr().err


@pytest.mark.slow
def test_two_processes_on_one_sweep(tmp_path, capsys):
    """Joined by jax.distributed on the loopback; the search's chunks divide between them."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["sweep", "q_learning", "GridWorld-4x4", "--search", "hp.learning_rate=log:0.01:1", "--trials", 6]
    options += ["--steps", 2000, "--evals", 2, "--seeds", 4]
    both = [*options, "--out", tmp_path / "both", "--coordinator", f"127.0.0.1:{port}"]
    started = [
        subprocess.Popen([sys.executable, "-m", "jaxrl", *map(str, both), "--share", f"{index}/2"])
        for index in range(2)
    ]
    assert [process.wait(300) for process in started] == [0, 0]
    jaxrl(*options, "--out", tmp_path / "one")
    assert "hp.learning_rate" in capsys.readouterr().out
    alone, shared = (results.load(tmp_path / name / "results.nc") for name in ("one", "both"))
    assert dict(alone.evaluation_return.sizes) == {"trial": 6, "seed": 4, "env_step": 3}
    np.testing.assert_array_equal(alone.evaluation_return, shared.evaluation_return)
    np.testing.assert_array_equal(alone["hp.learning_rate"], shared["hp.learning_rate"])


def shifted(run, path, change, **config):
    """A copy of a run with `change` applied to its results and some entries of config.json replaced."""
    other = shutil.copytree(run, path)
    results.save(change(results.load(other / "results.nc")), other / "results.nc")
    entries = results.read_config(other)
    write_config(other, {**entries, **config})
    return other


def write_config(path, entries):
    """As the version before seals wrote it."""
    entries = {name: value for name, value in entries.items() if name != "format"}
    (path / "config.json").write_text(json.dumps(entries))


@pytest.fixture(scope="module")
def many(run, tmp_path_factory):
    """Results of six seeds."""
    data = results.load(run / "results.nc")
    six = xr.concat([data, data.isel(seed=[0, 1]).assign_coords(seed=[4, 5])], "seed")
    noise = np.random.default_rng(0).normal(size=six.evaluation_return.shape)
    path = tmp_path_factory.mktemp("many") / "run"
    return shifted(run, path, lambda _: six.assign(evaluation_return=six.evaluation_return + noise))


def said(capsys):
    """What was printed, without the folds of a table."""
    return " ".join(capsys.readouterr().out.split())


def test_compare(many, tmp_path, capsys):
    worse = shifted(many, tmp_path / "worse", lambda data: data.assign(evaluation_return=data.evaluation_return - 5))
    jaxrl("compare", many, worse, "--statistic", "mean")
    out = said(capsys)
    assert out.count("│ better │") == 2
    assert "mean over seeds with its 95 % interval, q_learning GridWorld-4x4" in out
    assert out.count("6 seeds") == 4
    jaxrl("compare", worse, many)
    assert said(capsys).count("│ worse │") == 2
    alike = shutil.copytree(many, tmp_path / "alike")
    jaxrl("compare", many, alike)
    out = said(capsys)
    assert out.count("│ cannot tell │") == 2
    assert "what counts as the same is for a tolerance to say" in out
    jaxrl("compare", many, alike, "--tolerance", 5)
    assert said(capsys).count("│ the same │") == 2
    elsewhere = shifted(many, tmp_path / "elsewhere", lambda data: data, env="GridWorld-5x5")
    jaxrl("compare", many, elsewhere, check=2)
    assert "different environments" in capsys.readouterr().err
    jaxrl("compare", many, many, check=2)
    assert "is named twice" in capsys.readouterr().err


def test_compare_says_what_it_cannot_tell(run, many, tmp_path, capsys):
    fewer = shutil.copytree(run, tmp_path / "fewer")
    jaxrl("compare", many, fewer)
    assert "a verdict needs 5 on each side: the second has 4" in said(capsys)
    single = shifted(many, tmp_path / "single", lambda data: data.isel(seed=[2]))
    jaxrl("compare", single, many)
    out = said(capsys)
    assert "no interval" in out
    assert "(1 seed)" in out
    assert out.count("│ cannot tell │") == 2

    def lose(data):
        data["evaluation_return"][3, -1] = np.nan
        return data

    diverged = shifted(many, tmp_path / "diverged", lose)
    jaxrl("compare", many, diverged)
    out = said(capsys)
    assert "not finite for seed 3" in out
    assert out.count("│ cannot tell │") == 2


def test_runs_of_different_lengths_are_compared_as_far_as_both_went(many, tmp_path, capsys):
    shorter = shifted(many, tmp_path / "shorter", lambda data: data.isel(env_step=slice(0, 2)), env_steps=1000)
    jaxrl("compare", many, shorter, "--statistic", "mean")
    out = said(capsys)
    data = results.load(many / "results.nc")
    until = int(data.env_step[1])
    assert f"the first ran for 2,000 steps and the second for {until:,}: compared are the first {until:,}" in out
    assert f"{float(data.evaluation_return[:, 1].mean()):.4g}" in out
    assert "steps=2000" in out
    assert "steps=1000" in out
    early = shifted(many, tmp_path / "early", lambda data: data.isel(env_step=[1]).assign_coords(env_step=[1]))
    late = shifted(many, tmp_path / "late", lambda data: data.isel(env_step=slice(1, None)))
    jaxrl("compare", late, early, check=2)
    assert "has no evaluation within the 1 steps" in capsys.readouterr().err


def test_plot_in_all_kinds(many, tmp_path, capsys):
    for kind in ("curves", "seeds", "profile"):
        jaxrl("plot", many, "--kind", kind, "--statistic", "median", "--out", tmp_path / f"{kind}.png")
        assert (tmp_path / f"{kind}.png").read_bytes().startswith(b"\x89PNG")
    jaxrl("plot", many, "--out", tmp_path / "curves.png", check=2)
    assert "nothing is overwritten" in capsys.readouterr().err
    jaxrl("plot", many, "--out", tmp_path / "curves.png", "--overwrite")
    jaxrl("plot", many, "--kind", "heat", "--out", tmp_path / "heat.png", check=2)
    assert "needs two axes of a grid" in capsys.readouterr().err


@pytest.fixture
def drawn(monkeypatch):
    """The labels and the title of the curves that `plot` would draw."""
    calls = []
    monkeypatch.setattr(plotting, "learning_curve", lambda data, path, title, *more: calls.append((list(data), title)))
    return calls


def test_no_two_runs_of_a_picture_are_one_curve(run, tmp_path, drawn):
    """Not even if they differ in nothing but where they lie."""
    for name in "abc":
        shutil.copytree(run, tmp_path / name / "run")
    paths = [tmp_path / name / "run" for name in "abc"]
    jaxrl("plot", *paths, "--out", tmp_path / "x.png")
    assert drawn == [(["a", "b", "c"], "q_learning GridWorld-4x4")]


def test_curves_are_called_by_what_differs(run, tmp_path, drawn, capsys):
    config = results.read_config(run)
    settings = [
        config,
        config | {"hp": config["hp"] | {"learning_rate": 0.5}},
        config | {"hp": config["hp"] | {"learning_rate": 0.5}, "seeds": [7, 9]},
        config | {"agent": "sarsa"},
    ]
    paths = []
    for index, entries in enumerate(settings):
        paths.append(shutil.copytree(run, tmp_path / f"r{index}"))
        write_config(paths[-1], entries)
    jaxrl("plot", *paths[:2], "--out", tmp_path / "x.png")
    assert drawn[-1] == (["hp.learning_rate=0.2", "hp.learning_rate=0.5"], "q_learning GridWorld-4x4")
    jaxrl("plot", *paths, "--out", tmp_path / "x.png", "--title", "mine")
    assert drawn[-1] == (
        [
            "q_learning, hp.learning_rate=0.2, seeds=0–3",
            "q_learning, hp.learning_rate=0.5, seeds=0–3",
            "q_learning, hp.learning_rate=0.5, seeds=(7, 9)",
            "sarsa",
        ],
        "mine",
    )
    jaxrl("plot", paths[0], paths[3], "--out", tmp_path / "x.png")
    assert drawn[-1] == (["q_learning", "sarsa"], "GridWorld-4x4")
    same = shutil.copytree(paths[1], tmp_path / "again")
    jaxrl("plot", paths[0], paths[1], same, "--out", tmp_path / "x.png")
    assert drawn[-1][0] == ["hp.learning_rate=0.2", "hp.learning_rate=0.5 (r1)", "hp.learning_rate=0.5 (again)"]
    jaxrl("plot", paths[0], paths[0], "--out", tmp_path / "x.png", check=2)
    assert "is named twice" in capsys.readouterr().err


BAD = [
    (["train", "pp", "CartPole-v1"], "unknown agent 'pp'. Did you mean 'ppo'?"),
    (["train", "ppo", "CartPol-v1"], "Did you mean 'CartPole-v1'?"),
    (["trian", "ppo", "CartPole-v1"], "Did you mean 'train'?"),
    (["train", "ppo"], "usage: jaxrl train AGENT ENV"),
    (["train", "ppo", "CartPole-v1", "--config.num-minibatches", "3"], "num_minibatches=3 does not divide"),
    (["train", "ppo", "CartPole-v1", "--steps", "100"], "too few"),
    (["train", "ppo", "CartPole-v1", "--seeds", "0"], "--seeds: seeds=0 must be from 1 to"),
    (["train", "ppo", "CartPole-v1", "--seeds"], "--seeds needs a value"),
    (["train", "ppo", "CartPole-v1", "--steps", "1e18"], "--steps: steps=1e18 must be from 1 to"),
    (["train", "ppo", "CartPole-v1", "--evals", "1e9"], "--evals: evals=1e9 must be from 1 to"),
    (["train", "ppo", "CartPole-v1", "--eval-episodes=1e9"], "--eval-episodes: eval_episodes=1e9 must be from 1"),
    (["train", "ppo", "CartPole-v1", "--first-seed", "-1"], "--first-seed: first_seed=-1 must be from 0"),
    (["train", "ppo", "CartPole-v1", "--first-seed", "4294967295", "--seeds", "2"], "seeds go up to 4294967295"),
    (["train", "ppo", "CartPole-v1", "--config.num-envs", "0"], "--config.num-envs: num_envs=0 must be at least 1"),
    (["train", "ppo", "CartPole-v1", "--config.num-envs=many"], "num_envs=many must be a whole number of at least 1"),
    (["train", "ppo", "CartPole-v1", "--config.hidden", "64", "0"], "hidden=64 0 must be a list, each entry a whole"),
    (["train", "ppo", "CartPole-v1", "--config.activation", "tanhh"], "Did you mean 'tanh'?"),
    (["train", "ppo", "CartPole-v1", "--hp.gamma", "nan"], "--hp.gamma: gamma=nan must be a number from 0 to 1"),
    (["train", "ppo", "CartPole-v1", "--hp.gamma="], "--hp.gamma: gamma= must be a number"),
    (["train", "ppo", "CartPole-v1", "--config.num-envs=2=3"], "num_envs=2=3 must be a whole number"),
    (["train", "dqn", "CartPole-v1", "--config.double", "perhaps"], "double=perhaps must be true or false"),
    (["train", "dqn", "CartPole-v1", "perhaps"], "unexpected 'perhaps'"),
    (["train", "dqn", "CartPole-v1", "--learning-rate", "1"], "flag --learning-rate. Did you mean --hp.learning-rate?"),
    (["train", "dqn", "CartPole-v1", "--hp.learning-rat=1"], "Did you mean --hp.learning-rate?"),
    (["train", "dqn", "CartPole-v1", "--config.dobule"], "Did you mean --config.double?"),
    (["train", "dqn", "CartPole-v1", "--env.lenth=1"], "Did you mean --env.length?"),
    (["train", "dqn", "CartPole-v1", "--env.max-steps", "0"], "max_steps=0 must be a whole number of at"),
    (["train", "ppo", "Ant-v5"], "unknown environment 'Ant-v5'. There are"),
    (["train", "ppo", "no_such_module:Env"], "no module 'no_such_module'"),
    (["train", "no_such_module:Agent", "CartPole-v1"], "no module 'no_such_module'"),
    (["train", "envs.spaces:Box", "CartPole-v1"], "is no agent: it has no Config, Hyperparams, make"),
    (["train", "ppo", "CartPole-v1", "--import", "no_such_module"], "no module 'no_such_module'"),
    (["evaluate", "nowhere", "--episodes", "0"], "--episodes: episodes=0 must be from 1"),
    (["render", "nowhere", "--fps", "0"], "--fps: fps=0 must be a whole number of at least 1"),
    (["train", "dqn", "Pendulum-v1"], "Discrete action space"),
    (["train", "q_learning", "CartPole-v1"], "Discrete observation space"),
    (["list", "env"], "Did you mean 'envs'?"),
    (["parity", "GridWorld-4x4"], "GridWorld-4x4"),
    (["resume", "nowhere"], "nowhere is not a run directory"),
    (["evaluate", "nowhere"], "nowhere is not a run directory"),
    (["plot", "nowhere"], "nowhere is not a run directory"),
    (["sweep", "ppo", "CartPole-v1", "--grid", "hp.gama=1,2"], "Did you mean 'hp.gamma'?"),
    (["sweep", "ppo", "CartPole-v1", "--grid", "hp.gamma"], "is not AXIS=VALUE"),
    (["sweep", "ppo", "CartPole-v1", "--search", "hp.gamma=0.9:x"], "--search hp.gamma=x must be a number"),
    (["sweep", "ppo", "CartPole-v1", "--search", "hp.gamma=0.9:"], "is not AXIS=LOW:HIGH"),
    (["sweep", "ppo", "CartPole-v1", "--search", "hp.gamma=0.99:0.9"], "is empty"),
    (["sweep", "ppo", "CartPole-v1", "--search", "hp.entropy_coef=0:inf"], "endless"),
    (["sweep", "ppo", "CartPole-v1", "--search", "config.clip_value=0:1"], "must be true or false"),
    (["sweep", "dqn", "CartPole-v1", "--search", "config.batch_size=0.5:64"], "--search config.batch_size=0.5 must be"),
    (
        ["sweep", "dqn", "CartPole-v1", "--grid", "config.double=ture"],
        "--grid config.double=ture must be true or false",
    ),
    (["sweep", "dqn", "CartPole-v1", "--grid", "config.double=true,True"], "one or more different values"),
    (["sweep", "ppo", "CartPole-v1", "--grid", "config.torso=cnn"], "Did you mean 'minatar_cnn' or 'nature_cnn'?"),
    (["sweep", "ppo", "CartPole-v1", "--grid", "config.hidden=(8,8),(4,0)"], "config.hidden=(4,0) must be a list"),
    (["sweep", "ppo", "CartPole-v1", "--grid", "config.hidden=(8,8"], "do not close"),
    (["sweep", "ppo", "CartPole-v1", "--grid", "hp.gamma=1", "--search", "hp.gamma=1"], "do not go together"),
    (["sweep", "ppo", "CartPole-v1", "--share", "2/2"], "is not I/N"),
    (["compare", "nowhere", "nowhere"], "nowhere is not a run directory"),
]


@pytest.mark.parametrize(
    ("arguments", "message"), BAD, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_bad_input_is_one_message_and_status_2(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    jaxrl(*arguments, check=2)
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.startswith("error: ")
    assert captured.err.count("\n") == 1
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_flags_are_read_by_the_type_of_their_field():
    """One way of writing a value or another, for the command, the agent and the environment alike."""
    typed = "--env.is-slippery False --env.max-steps NONE --config.no-double --config.double True --env.desc SFG FFF"
    typed += " --config.num_envs=2.0 --seeds 1e2 --hp.total-steps 1e5"
    options, config, hp, env = flags.parse_flags(
        training.TrainOptions, "train", "q_learning", "FrozenLake-v1", typed.split()
    )
    assert (options.seeds, config.double, config.num_envs, hp.total_steps) == (100, True, 2, 1e5)
    assert env == {"is_slippery": False, "max_steps": None, "desc": ("SFG", "FFF")}
    typed = "--config.target-subset none --config.hidden --config.no-prioritized=false --env.gravity (5)"
    with pytest.raises(InputError, match=r"--env.gravity: gravity=\(5\) must be a number"):
        flags.parse_flags(training.TrainOptions, "train", "sac", "Pendulum-v1", typed.split())
    _, config, *_ = flags.parse_flags(training.TrainOptions, "train", "sac", "Pendulum-v1", typed.split()[:-2])
    assert (config.target_subset, config.hidden, config.prioritized) == (None, (), True)


def test_directories_are_never_overwritten(run, tmp_path, capsys):
    before = (run / "config.json").read_bytes()
    jaxrl("train", "q_learning", "GridWorld-4x4", *SMALL, "--out", run, check=2)
    assert "nothing is overwritten" in capsys.readouterr().err
    assert (run / "config.json").read_bytes() == before
    (tmp_path / "file").write_text("mine")
    jaxrl("train", "q_learning", "GridWorld-4x4", *SMALL, "--out", tmp_path / "file", check=2)
    jaxrl("train", "q_learning", "GridWorld-4x4", *SMALL, "--out", tmp_path / "file" / "below", check=2)
    assert (tmp_path / "file").read_text() == "mine"


def test_damaged_and_foreign_runs(run, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    config = (copy / "config.json").read_bytes()
    (copy / "config.json").write_bytes(config.replace(b"2000", b"9999"))
    jaxrl("resume", copy, check=2)
    assert "is not as it was written" in capsys.readouterr().err
    results.change_config(run, run="another")
    (copy / "config.json").write_bytes((run / "config.json").read_bytes())
    (run / "config.json").write_bytes(config)
    jaxrl("resume", copy, check=2)
    assert 'run: ours "another"' in capsys.readouterr().err
    (copy / "config.json").write_text("{")
    jaxrl("evaluate", copy, check=2)
    assert "damaged" in capsys.readouterr().err
    (copy / "config.json").write_bytes(config)
    for file in (copy / "checkpoints").rglob("*"):
        if file.is_file():
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    jaxrl("evaluate", copy, check=2)
    assert "checkpoint" in capsys.readouterr().err
    shutil.rmtree(copy / "checkpoints")
    jaxrl("evaluate", copy, check=2)
    assert "no checkpoint" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["1e38"])
def test_divergence_is_reported(value, tmp_path, capsys):
    arguments = ["train", "ppo", "CartPole-v1", "--hp.learning-rate", value, "--config.hidden", "4", *SMALL[:4]]
    jaxrl(*arguments, "--config.rollout-length", 16, "--out", tmp_path / "run", check=2)
    err = capsys.readouterr().err
    assert "not finite in iteration" in err
    assert "lane 0 (seed 0)" in err


def test_gymnasium_plays_the_same_weights(tmp_path, capsys):
    path = tmp_path / "ppo"
    small = ["--config.hidden", "16", "--steps", "20000", "--evals", "1", "--seeds", "2", "--env.max-steps", "60"]
    jaxrl("train", "ppo", "CartPole-v1", *small, "--out", path)
    capsys.readouterr()
    jaxrl("evaluate", path, "--gymnasium", "--episodes", 40, "--tolerance", 30)
    out = capsys.readouterr().out
    assert "run by NumPy in Gymnasium" in out
    assert "95 % interval" in out
    assert "the same within ± 30" in out
    jaxrl("evaluate", path, "--gymnasium", "--episodes", 1)
    out = capsys.readouterr().out
    assert "nan" not in out
    assert "cannot tell (a verdict needs 5 on each side: the first has 1" in out


def test_what_was_evaluated_is_printed_before_gymnasium_is_tried(run, capsys):
    jaxrl("evaluate", run, "--gymnasium", "--episodes", 6, check=2)
    captured = capsys.readouterr()
    assert "6 episodes for each seed" in " ".join(captured.out.split())
    assert "mean return" in captured.out
    assert "Gymnasium cannot make GridWorld-4x4" in captured.err


@pytest.mark.slow
def test_minigrids_own_environments_play_the_weights(tmp_path, capsys):
    pytest.importorskip("minigrid")
    small = ["--steps", "2000", "--evals", "1", "--eval-episodes", "2", "--env.max-steps", "20"]
    jaxrl("train", "ppo", "MiniGrid-Empty-5x5-v0", *small, "--out", tmp_path / "ppo")
    jaxrl("evaluate", tmp_path / "ppo", "--gymnasium", "--episodes", 6)
    assert "run by NumPy in Gymnasium" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--help"], ["--steps", "ppo_recurrent", "jaxrl list envs"]),
        (["train", "ppo", "-h"], ["--steps", "--config.num-envs", "--hp.gae-lambda", "Proximal policy optimisation"]),
        (["sweep", "--help"], ["--grid"]),
        (["sweep", "q_learning", "--help"], ["--grid", "--hp.initial-value"]),
    ],
)
def test_help_before_agent_and_environment_are_known(arguments, words, capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(arguments)
    assert stopped.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert all(word in text for word in words)
    assert "--env." not in text


def test_version(capsys):
    jaxrl("--version")
    assert capsys.readouterr().out == f"jaxrl {package.__version__}\n"
    assert package.__version__ == importlib.metadata.version("jaxrl")


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_a_terminal_that_lacks_characters(encoding):
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    for arguments, status in ((["--help"], 0), (["nonsense"], 2)):
        done = subprocess.run([sys.executable, "-m", "jaxrl", *arguments], env=environment, capture_output=True)
        assert done.returncode == status, done.stderr
        assert b"UnicodeEncodeError" not in done.stderr
        assert (b"usage:" in done.stdout) == (status == 0)


def test_another_package_of_the_name_envs_is_named(tmp_path):
    (tmp_path / "envs").mkdir()
    (tmp_path / "envs/__init__.py").write_text("")
    done = subprocess.run([sys.executable, "-c", "import jaxrl"], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 1
    assert f"`import envs` finds {tmp_path / 'envs/__init__.py'}" in done.stderr.splitlines()[-1]


def test_usage(capsys):
    jaxrl("--help")
    out = capsys.readouterr().out
    for command in ("train", "sweep", "resume", "evaluate", "plot", "render", "parity", "list"):
        assert f"  {command} " in out


def test_the_package_runs_from_another_directory(tmp_path):
    """What is installed does not depend on the working directory."""
    done = subprocess.run(
        [sys.executable, "-m", "jaxrl", "list", "agents"], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert Path(tmp_path).exists()
