"""Our MiniGrid tasks against the original package: rules and views step by step, and layouts by their distributions."""

import numpy as np
import pytest

import envs
from envs.interop import minigrid_parity as module
from envs.interop.parity import names, parity

pytest.importorskip("minigrid")

# One name for every class and view of ours; sizes at which a driver without memory ends some episodes.
NAMES = (
    "MiniGrid-Empty-Random-6x6-v0",
    "MiniGrid-DoorKey-6x6-v0",
    "MiniGrid-MultiRoom-N4-S5-v1",
    "MiniGrid-MemoryS9-v0",
    "MiniGrid-Unlock-v0",
    "MiniGrid-UnlockPickup-v0",
    "MiniGrid-KeyCorridorS3R2-v0",
)


class _Fixed:
    """The original, but for its agent, which always looks the same way."""

    def __init__(self, env):
        self.env = env

    def __getattr__(self, name):
        return 3 if name == "agent_dir" else getattr(self.env, name)


def failures(checks):
    return [check for check in checks if not check.passed]


@pytest.mark.parametrize("name", NAMES)
def test_steps_and_layouts(name):
    env, params = envs.make(name)
    rng = np.random.default_rng(0)
    reference = module.original(name)
    run = module.record(reference, 16, 80, rng)
    assert run.valid.sum() > 0.2 * run.valid.size
    assert run.terminated[run.valid].any()
    assert (run.reward[run.valid] > 0).any()
    layouts = module.layouts(env, reference, 300 if "MultiRoom" in name else 700, rng)
    assert not failures([*module.replayed(env, params, run), layouts])


def test_report():
    report = parity("MiniGrid-Empty-5x5-v0", samples=1000)
    assert report.passed, failures(report.rows)
    assert report.reference.startswith("minigrid 3")
    assert {row.quantity for row in report.rows} >= {"observation", "state", "layouts", "random policy: returns"}


def test_other_rules_and_layouts_are_found():
    env, params = envs.make("MiniGrid-DoorKey-6x6-v0")
    rng = np.random.default_rng(0)
    reference = module.original("MiniGrid-DoorKey-6x6-v0")
    run = module.record(reference, 8, 80, rng)
    turned = run._replace(action=np.where(run.action == 0, 1, run.action))
    assert {"observation", "state"} <= {check.quantity for check in failures(module.replayed(env, params, turned))}
    memory = module.original("MiniGrid-MemoryS11-v0")
    assert failures([module.layouts(envs.make("MiniGrid-MemoryS11-v0")[0], _Fixed(memory), 200, rng)])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in names() if name.startswith("MiniGrid-")])
def test_many_steps_and_layouts(name):
    report = parity(name, samples=20_000)
    assert report.passed, failures(report.rows)
