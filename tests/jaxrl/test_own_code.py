"""A user's own agent and environment on the command line: as the notebooks write them, in files and fresh processes."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

import envs
import jaxrl
from envs import registry
from envs.errors import InputError
from jaxrl import agents, cli, results, runs
from jaxrl.agents import q_learning

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"
OWN = """
from functools import partial

import envs
from envs.gridworld.grid_world import GridWorld
from jaxrl import agents
from jaxrl.agents import q_learning


class Mine:
    Config, Hyperparams, make = q_learning.Config, q_learning.Hyperparams, staticmethod(q_learning.make)


agents.register("mine", Mine, replace=True)
envs.register("Mine-v0", GridWorld, replace=True, rows=3)
"""


def write_module(notebook, path, parts):
    """Puts imports and the cells that define `parts` into a file, as the notebook tells its reader to."""
    cells = json.loads((NOTEBOOKS / f"{notebook}.ipynb").read_text())["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    imports = [line for line in sources[1].splitlines() if line.startswith(("import ", "from "))]
    wanted = [source for source in sources if any(f"{part}" in source for part in parts)]
    assert len(wanted) == len(parts)
    path.write_text("\n".join([*imports, *wanted]) + "\n")


def jaxrl_process(cwd, *arguments):
    """Runs a command as the console script does, which does not put the working directory on sys.path by itself."""
    code = "import sys; from jaxrl.cli import main; sys.exit(main())"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *map(str, arguments)], cwd=cwd, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


@pytest.mark.slow
def test_the_notebooks_environment_and_agent_in_fresh_processes(tmp_path):
    write_module("write_your_own_environment", tmp_path / "thermostat.py", ["class Thermostat("])
    write_module("write_your_own_agent", tmp_path / "my_agent.py", ["class Config(", "def update(", "def make("])
    names = ["my_agent:", "thermostat:Thermostat"]
    small = ["--evals", 2, "--eval-episodes", 2, "--seeds", 2, "--config.hidden", 8, "--env.max-steps", 20]
    jaxrl_process(tmp_path, "train", *names, *small, "--steps", 1_024, "--env.price", 0.5, "--out", "run")
    config = json.loads((tmp_path / "run/config.json").read_text())
    assert (config["agent"], config["env"]) == tuple(names)
    assert config["env_options"] == {"max_steps": 20, "price": 0.5}
    jaxrl_process(tmp_path, "resume", "run", "--steps", 2_048)
    steps = results.load(tmp_path / "run/results.nc").env_step.values
    assert steps[-1] == 2_048
    assert "my_agent: on thermostat:Thermostat" in jaxrl_process(tmp_path, "evaluate", "run", "--episodes", 2)
    assert "20 steps" in jaxrl_process(tmp_path, "render", "run")
    assert (tmp_path / "run/episode.gif").read_bytes().startswith(b"GIF8")
    jaxrl_process(tmp_path, "export", "run", "table.csv")
    axes = ["--grid", "env.loss=0.01,0.04", "--grid", "config.num_envs=8.0,16", "--grid", "env.max_steps=10,20"]
    jaxrl_process(tmp_path, "sweep", *names, *small, *axes, "--steps", 1_024, "--out", "sweep")
    swept = results.load(tmp_path / "sweep/results.nc")
    assert {axis: list(swept[axis].values) for axis in ("config.num_envs", "env.max_steps")} == {
        "config.num_envs": [8, 16],
        "env.max_steps": [10, 20],
    }
    (tmp_path / "sweep/results.nc").unlink()
    jaxrl_process(tmp_path, "resume", "sweep")
    assert (tmp_path / "sweep/results.nc").exists()


@pytest.fixture
def own(tmp_path, monkeypatch):
    """A module that registers an agent and an environment, in the working directory; nothing of it stays."""
    monkeypatch.setattr(registry, "_ENTRIES", dict(registry._ENTRIES))
    monkeypatch.setattr(agents, "_REGISTERED", dict(agents._REGISTERED))
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.chdir(tmp_path)
    (tmp_path / "own_code.py").write_text(OWN)
    yield tmp_path
    sys.modules.pop("own_code", None)


def forget():
    """As in a fresh process: nothing is registered or imported."""
    sys.modules.pop("own_code", None)
    registry._ENTRIES.pop("Mine-v0", None)
    agents._REGISTERED.pop("mine", None)


def test_imported_names_are_kept_with_the_run(own, capsys):
    small = ["--steps", "600", "--evals", "2", "--eval-episodes", "2"]
    assert cli.main(["train", "mine", "Mine-v0", *small, "--out", "no"]) == 2
    assert "unknown agent 'mine'" in capsys.readouterr().err
    assert cli.main(["train", "mine", "Mine-v0", "--import", "own_code", *small, "--out", "run"]) == 0
    forget()
    assert cli.main(["resume", "run", "--steps", "800"]) == 0
    forget()
    assert cli.main(["evaluate", "run", "--episodes", "2"]) == 0
    forget()
    assert cli.main(["render", "run"]) == 0
    forget()
    assert jaxrl.load("run").agent.env.rows == 3
    forget()
    sweep = ["sweep", "mine", "Mine-v0", "--import=own_code", *small, "--seeds", "1", "--grid", "env.rows=2,3"]
    assert cli.main([*sweep, "--out", "sweep"]) == 0
    forget()
    assert cli.main(["resume", "sweep"]) == 0
    assert not Path("no").exists()
    forget()
    Path("own_code.py").unlink()
    capsys.readouterr()
    assert cli.main(["evaluate", "run"]) == 2
    assert "no module 'own_code' to import: it must lie in the working directory" in capsys.readouterr().err


def test_names_of_modules_need_no_registry(own, capsys):
    small = ["--steps", "600", "--evals", "2", "--eval-episodes", "2", "--config.steps-per-iteration", "50"]
    names = ["own_code:Mine", "own_code:GridWorld"]
    assert cli.main(["train", *names, *small, "--out", "run"]) == 0
    spec = runs.read_spec("run")
    assert (spec.agent, spec.env) == tuple(names)
    one = spec.build()[0]
    assert one.env == envs.make("GridWorld-4x4")[0]
    assert results.load("run/results.nc").env_step[-1] == 600


def test_agents_are_registered_once_unless_replaced(own):
    agents.register("another", q_learning)
    with pytest.raises(InputError, match="there already; replace=True"):
        agents.register("another", q_learning)
    with pytest.raises(InputError, match="there already"):
        agents.register("ppo", q_learning)
    agents.register("another", "jaxrl.agents.tabular:sarsa", replace=True)
    assert agents.get("another").__name__ == "jaxrl.agents.tabular.sarsa"
    assert "another" in agents.names()
    with pytest.raises(InputError, match="no agent: it has no Config, Hyperparams, make"):
        agents.register("half", object())
    with pytest.raises(InputError, match="MODULE:NAME"):
        agents.register("my:agent", q_learning)
    with pytest.raises(InputError, match="Did you mean 'another'"):
        agents.get("anothr")


def test_what_goes_wrong_in_ones_own_module_is_shown(own):
    (own / "own_code.py").write_text("import not_there_at_all\n")
    with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
        cli.main(["train", "ppo", "own_code:Env"])


def test_an_environment_without_a_picture_says_what_to_write(own):
    (own / "own_code.py").write_text(
        "from envs.classic_control.cartpole import CartPole\nfrom envs.base import Env\n\n\n"
        "class Plain(CartPole):\n    render = Env.render\n"
    )
    small = ["--steps", "1024", "--evals", "1", "--eval-episodes", "2", "--config.hidden", "8"]
    assert cli.main(["train", "ppo", "own_code:Plain", *small, "--out", "run"]) == 0
    with pytest.raises(InputError, match=r"Plain draws no picture. Write `def render\(self, state, params\)`"):
        envs.make("own_code:Plain")[0].render(None, None)
    assert cli.main(["render", "run"]) == 2
    assert not (own / "run/episode.gif").exists()
