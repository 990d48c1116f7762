"""Run directories by name: what may stand in config.json, going on, going on for longer, and who may."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from envs.errors import InputError
from jaxrl import checkpoint, cli, files, results, runs
from jaxrl.agents import q_learning

SPEC = runs.Spec(
    agent="q_learning",
    env="GridWorld-4x4",
    seeds=(3, 8),
    env_steps=300,
    config=q_learning.Config(),
    hp=q_learning.Hyperparams(),
    num_evals=3,
    eval_episodes=2,
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    directory = tmp_path_factory.mktemp("runs") / "finished"
    runs.train(SPEC, directory)
    return directory


@pytest.fixture
def run(finished, tmp_path):
    """A copy, to be changed."""
    return shutil.copytree(finished, tmp_path / "run")


def state_of(directory, step=None):
    _, state, done = runs.restore(runs.read_spec(directory), directory, step)
    leaves = jax.tree.leaves(state)
    keys = [jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key) for leaf in leaves]
    return done, [np.asarray(jax.random.key_data(x) if key else x) for x, key in zip(leaves, keys, strict=True)]


def bits(directory):
    return {path: path.read_bytes() for path in directory.rglob("*") if path.is_file()}


def command(*arguments):
    return cli.main([str(argument) for argument in arguments])


def test_a_run_that_goes_on_for_longer_is_the_longer_run(run, tmp_path):
    """Nothing in it depends on how long it is; where its evaluations were, they stay."""
    longer = runs.read_spec(run).extended(700)
    assert (longer.env_steps, longer.num_evals, longer.earlier) == (700, 7, ((300, 3),))
    before = results.load(run / "results.nc")
    out = runs.train(longer, run, resume=True)
    np.testing.assert_array_equal(out.results.env_step, [0, 100, 200, 300, 400, 500, 600, 700])
    assert out.results.isel(env_step=slice(4)).equals(before)
    runs.train(dataclasses.replace(SPEC, env_steps=700, num_evals=7), tmp_path / "at once")
    for one, other in zip(state_of(run)[1], state_of(tmp_path / "at once")[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert results.load(tmp_path / "at once" / "results.nc").equals(results.load(run / "results.nc"))
    assert runs.read_spec(run) == longer
    runs.train(runs.read_spec(run), run, resume=True)  # it is finished: nothing changes
    assert results.load(run / "results.nc").equals(out.results)


def test_an_uneven_extension(run):
    """Whole iterations of 100 steps: 250 more are two of them, in one stretch a hundred steps as before."""
    spec = runs.read_spec(run).extended(550).extended(600)
    assert spec.earlier == ((300, 3), (550, 5))
    out = runs.train(spec, run, resume=True)
    np.testing.assert_array_equal(out.results.env_step, [0, 100, 200, 300, 400, 500, 600])


@pytest.mark.parametrize(("given", "then"), [(None, 600.0), (1000.0, 1000.0)])
def test_schedules_end_with_the_new_budget_unless_their_end_was_given(given, then, tmp_path, capsys):
    hp = q_learning.Hyperparams(epsilon_start=1.0, epsilon_end=0.0, total_steps=given)
    runs.train(dataclasses.replace(SPEC, hp=hp), tmp_path / "run")
    out = runs.train(runs.read_spec(tmp_path / "run").extended(600), tmp_path / "run", resume=True)
    np.testing.assert_array_equal(out.state.hp.total_steps, [then, then])
    err = capsys.readouterr().err
    assert "600 steps instead of 300." in err
    assert ("The schedules end there, too." in err) == (given is None)


def test_a_smaller_budget_is_refused(run, capsys):
    before = bits(run)
    for steps in (300, 200):
        assert command("resume", run, "--steps", steps) == 2
        assert f"--steps {steps}: the budget of the run is 300 already" in capsys.readouterr().err
    assert bits(run) == before


def test_a_finished_run_says_so(run, capsys):
    assert command("resume", run) == 0
    out = capsys.readouterr().out
    assert "it was finished already: `--steps N` trains it for longer" in out
    assert "env steps/s" not in out


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seeds": [1.5]}, "seeds"),
        ({"seeds": "01"}, "seeds"),
        ({"seeds": []}, "must be one or more different numbers"),
        ({"seeds": [4, 4]}, "must be one or more different numbers"),
        ({"seeds": [-1]}, "seeds"),
        ({"seeds": [float("nan")]}, "seeds"),
        ({"seeds": None}, "seeds"),
        ({"env_steps": float("nan")}, "env_steps"),
        ({"env_steps": 300.5}, "env_steps"),
        ({"env_steps": "300"}, "env_steps"),
        ({"num_evals": 0}, "num_evals"),
        ({"num_evals": 2.5}, "num_evals"),
        ({"eval_episodes": True}, "eval_episodes"),
        ({"evaluations": [1]}, "evaluations"),
        ({"earlier": [[1]]}, "earlier"),
        ({"agent": 3}, "agent"),
        ({"agent": "q_learnin"}, "q_learning"),
        ({"env": ["GridWorld-4x4"]}, "env"),
        ({"config": {"double": "yes"}}, "double"),
        ({"config": {"num_envs": 0}}, "num_envs"),
        ({"config": {"doubel": True}}, "double"),
        ({"config": []}, "must be settings by name"),
        ({"hp": {"gamma": "high"}}, "gamma"),
        ({"hp": {"gamma": float("nan")}}, "gamma"),
        ({"env_options": {"max_step": 3}}, "max_steps"),
    ],
    ids=str,
)
def test_what_config_json_may_not_say(change, message, run, capsys):
    """Whoever made the checksum fit: it is refused before anything is computed or written."""
    results.change_config(run, **change)
    before = bits(run)
    for arguments in (("resume", run), ("evaluate", run)):
        assert command(*arguments) == 2
        err = capsys.readouterr().err
        assert err.startswith("error: ")
        assert err.count("\n") == 1
        assert message in err
    assert bits(run) == before


def test_two_at_once(run, tmp_path, capsys, monkeypatch):
    """Another process has the lock: whoever comes second is refused at once, and changes nothing."""
    monkeypatch.setattr(files, "_acquire", lambda path, shared: None)
    monkeypatch.setattr(files, "in_use", lambda directory: "process 1 on there")
    before = bits(run)
    arguments = ["q_learning", "GridWorld-4x4", "--steps", 300, "--evals", 3, "--out"]
    for call in (["resume", run], ["resume", run, "--steps", 600], ["train", *arguments, run]):
        assert command(*call) == 2
        assert "is in use by" in capsys.readouterr().err
    (tmp_path / "new").mkdir()
    assert command("train", *arguments, tmp_path / "new") == 2
    assert "is in use by" in capsys.readouterr().err
    assert list((tmp_path / "new").iterdir()) == []
    assert bits(run) == before


def test_a_damaged_newest_checkpoint_is_done_again(run, capsys):
    """`resume` says so and takes the one before; `evaluate` and `render` say how to."""
    wanted, curves = state_of(run), results.load(run / "results.nc")
    file = run / "checkpoints" / "3" / "manifest.json"
    file.write_bytes(file.read_bytes().replace(b'"step": 3', b'"step": 4'))
    for name in ("evaluate", "render"):
        assert command(name, run) == 2
        assert "The checkpoint before it is of step 2 (--checkpoint 2)." in capsys.readouterr().err
    assert command("evaluate", run, "--checkpoint", 2, "--episodes", 2) == 0
    assert command("evaluate", run, "--checkpoint", 1, "--episodes", 2) == 2
    assert "no checkpoint of step 1" in capsys.readouterr().err
    assert command("resume", run) == 0
    assert "Going on from step 2; set-aside-3 is what was newer" in capsys.readouterr().err
    done, leaves = state_of(run)
    assert done == wanted[0] == 3
    for one, other in zip(leaves, wanted[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert results.load(run / "results.nc").equals(curves)


def test_a_named_checkpoint_is_gone_on_from(run, capsys):
    wanted = state_of(run)
    assert command("resume", run, "--checkpoint", 2) == 0
    for one, other in zip(state_of(run)[1], wanted[1], strict=True):
        np.testing.assert_array_equal(one, other)
    assert command("resume", run, "--checkpoint", 1) == 2
    assert "--checkpoint 1: there are 2, 3 in" in capsys.readouterr().err


@pytest.mark.parametrize("how", ["damaged", "behind", "of other seeds", "gone"])
def test_results_that_do_not_fit_are_those_of_the_checkpoint(how, run, tmp_path, capsys):
    path = run / "results.nc"
    curves = results.load(path)
    if how == "damaged":
        path.write_bytes(path.read_bytes()[:-4] + b"1234")
    elif how == "behind":
        results.save(curves.isel(env_step=slice(2)), path)
    elif how == "of other seeds":
        runs.train(dataclasses.replace(SPEC, seeds=(5, 6)), tmp_path / "other")
        shutil.copy(tmp_path / "other" / "results.nc", path)
        assert command("plot", run, "--out", tmp_path / "plot.png") == 2
        assert "belongs to another run" in capsys.readouterr().err
    else:
        path.unlink()
    given = path.read_bytes() if path.exists() else b""
    assert command("resume", run) == 0
    assert results.load(path).equals(curves)
    aside = run / "set-aside-results.nc"
    assert aside.exists() == (how in ("damaged", "of other seeds"))
    if aside.exists():
        assert aside.read_bytes() == given
        assert "It is now set-aside-results.nc; those of the checkpoint are used." in capsys.readouterr().err


def test_results_without_their_checkpoints_are_not_overwritten(run, capsys):
    shutil.rmtree(run / "checkpoints")
    before = bits(run)
    assert command("resume", run) == 2
    assert "has results but no checkpoint to go on from" in capsys.readouterr().err
    (run / "checkpoints").write_text("")
    assert command("resume", run) == 2
    assert "checkpoints is a file, but must be a directory" in capsys.readouterr().err
    (run / "checkpoints").unlink()
    assert bits(run) == before


def test_a_place_for_policies_that_is_a_file_is_refused_before_training(run, capsys):
    shutil.rmtree(run / "policies")
    (run / "policies").write_text("")
    assert command("resume", run, "--steps", 600) == 2
    assert "policies is a file, but must be a directory" in capsys.readouterr().err
    assert checkpoint.steps(run / "checkpoints") == [2, 3]
    assert runs.read_spec(run).env_steps == 300


def test_another_number_of_devices_is_said_and_noted(run, capsys):
    config = results.read_config(run)
    config["provenance"]["devices"] = ["cpu"] * 7
    results.change_config(run, provenance=config["provenance"])
    assert command("resume", run) == 0  # there is nothing left to compute
    assert "before: 7" not in capsys.readouterr().err
    assert "resumed" not in results.read_config(run)
    assert command("resume", run, "--steps", 400) == 0
    assert "(before: 7 × cpu): equal to an undisturbed run to rounding, not bit for bit." in capsys.readouterr().err
    assert results.read_config(run)["resumed"][0]["evaluations"] == 3


def test_an_environment_that_has_changed_is_another_run(run, monkeypatch, capsys):
    """A default that another version of the environment has is not in what the run had changed."""
    real = runs.Spec.identity

    def changed(spec):
        return real(spec) | {"environment": real(spec)["environment"] | {"max_steps": "77"}}

    monkeypatch.setattr(runs.Spec, "identity", changed)
    assert command("resume", run) == 2
    assert 'environment.max_steps: ours "77", the checkpoint\'s' in capsys.readouterr().err


def test_policies_know_their_run_and_seed(run, tmp_path):
    assert runs.load_policy(run, 8).meta["seed"] == 8
    shutil.copy(runs.policy_file(run, 3), runs.policy_file(run, 8))
    with pytest.raises(InputError, match=r"seed-8.npz is the policy of another run or of another seed"):
        runs.load_policy(run, 8)


def test_directories_without_a_name_are_made_by_the_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(results.time, "strftime", lambda *args: "20300101-120000")
    made = [runs.train(SPEC).directory.name for _ in range(2)]
    assert made == ["q_learning-GridWorld-4x4-20300101-120000", "q_learning-GridWorld-4x4-20300101-120000-2"]
    with pytest.raises(InputError, match="too few"):
        runs.train(dataclasses.replace(SPEC, env_steps=100))
    assert len(list((tmp_path / "runs").iterdir())) == 2
