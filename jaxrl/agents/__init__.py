"""Agents, one file per algorithm; each has Config, Hyperparams, Learner, State, `update` and `make`."""

import importlib
from types import ModuleType

from envs.errors import unknown

NAMES = (
    "a2c",
    "actor_critic",
    "apg",
    "awr",
    "bandit",
    "bootstrapped_dqn",
    "c51",
    "crossq",
    "d4pg",
    "ddpg",
    "dqn",
    "dyna_q",
    "es",
    "impala",
    "iqn",
    "monte_carlo",
    "mpo",
    "n_step_sarsa",
    "ppo",
    "ppo_recurrent",
    "ppo_transformer",
    "pqn",
    "q_learning",
    "qr_dqn",
    "r2d2",
    "rainbow",
    "reinforce",
    "sac",
    "sac_discrete",
    "sarsa",
    "sarsa_lambda",
    "td3",
    "tqc",
    "trpo",
)


def get(name: str) -> ModuleType:
    """Looks an algorithm up by its name ("ppo") and returns its module.

    Raises:
        InputError: no such agent; the message has the nearest.
    """
    if name not in NAMES:
        raise unknown("agent", name, NAMES)
    return importlib.import_module(f"jaxrl.agents.{name}")
