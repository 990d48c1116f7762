import sys
import types

import numpy as np
import pytest

from envs.errors import InputError
from jaxrl import cli, launch, results

SWEEP = ["q_learning", "GridWorld-4x4", "--grid", "hp.learning_rate=0.1,0.5", "--steps", "2000", "--evals", "2"]


def test_bad_input(monkeypatch):
    with pytest.raises(InputError, match="at least one process"):
        launch.slurm([*SWEEP, "--out", "x"], 0, "logs")
    with pytest.raises(InputError, match="give --out"):
        launch.ray(SWEEP, 2)
    for module, start in (
        ("submitit", lambda: launch.slurm([*SWEEP, "--out", "x"], 2, "logs")),
        ("ray", lambda: launch.ray([*SWEEP, "--out=x"], 2)),
    ):
        monkeypatch.setitem(sys.modules, module, None)
        with pytest.raises(InputError, match=f"{module} is not installed"):
            start()


def test_what_ray_is_asked(monkeypatch):
    """A task for every share, on a cluster that is started if need be."""
    asked = []

    class Task:
        def __init__(self, function):
            self.function = function

        def options(self, **options):
            asked.append(options)
            return self

        def remote(self, *arguments):
            asked.append(arguments)
            return 0

    fake = types.SimpleNamespace(is_initialized=lambda: False, init=lambda: asked.append("init"), remote=Task, get=list)
    monkeypatch.setitem(sys.modules, "ray", fake)
    assert launch.ray([*SWEEP, "--out", "x"], 2, num_gpus=1) == [0, 0]
    shares = [([*SWEEP, "--out", "x"], index, 2) for index in range(2)]
    assert asked == ["init", {"num_gpus": 1}, *shares]


@pytest.mark.slow
@pytest.mark.filterwarnings("default")  # submitit's own
def test_jobs_of_submitit(tmp_path, capsys):
    """Two jobs on this machine, then the results put together: those of a sweep by one process."""
    pytest.importorskip("submitit")
    arguments = [*SWEEP, "--seeds", "10", "--out", str(tmp_path / "jobs")]
    jobs = launch.slurm(arguments, 2, tmp_path / "logs", cluster="local", timeout_min=5)
    assert [job.result() for job in jobs] == [0, 0]
    assert cli.main(["resume", str(tmp_path / "jobs")]) == 0
    assert "compiled" not in capsys.readouterr().err
    assert cli.main(["sweep", *SWEEP, "--seeds", "10", "--out", str(tmp_path / "one")]) == 0
    jobs, one = (results.load(tmp_path / name / "results.nc").evaluation_return for name in ("jobs", "one"))
    np.testing.assert_array_equal(jobs, one)
