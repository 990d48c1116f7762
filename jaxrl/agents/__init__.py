"""Agents, one file per algorithm in the folder of its family; each has Config, Hyperparams, Learner, `update`, `make`.

`from jaxrl.agents import ppo` and `agents.get("ppo")` find an algorithm whatever its family.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from envs.errors import unknown

if TYPE_CHECKING:
    from jaxrl.agents.continuous_control import crossq, d4pg, ddpg, mpo, sac, td3, tqc
    from jaxrl.agents.policy_gradient import (
        a2c,
        actor_critic,
        apg,
        awr,
        es,
        impala,
        ppo,
        ppo_recurrent,
        ppo_transformer,
        reinforce,
        trpo,
    )
    from jaxrl.agents.tabular import (
        bandit,
        dyna_q,
        monte_carlo,
        n_step_sarsa,
        q_learning,
        sarsa,
        sarsa_lambda,
    )
    from jaxrl.agents.value_based import bootstrapped_dqn, c51, dqn, iqn, pqn, qr_dqn, r2d2, rainbow, sac_discrete

FAMILIES: dict[str, tuple[str, ...]] = {
    "tabular": ("bandit", "dyna_q", "monte_carlo", "n_step_sarsa", "q_learning", "sarsa", "sarsa_lambda"),
    "value_based": ("bootstrapped_dqn", "c51", "dqn", "iqn", "pqn", "qr_dqn", "r2d2", "rainbow", "sac_discrete"),
    "policy_gradient": (
        "a2c",
        "actor_critic",
        "apg",
        "awr",
        "es",
        "impala",
        "ppo",
        "ppo_recurrent",
        "ppo_transformer",
        "reinforce",
        "trpo",
    ),
    "continuous_control": ("crossq", "d4pg", "ddpg", "mpo", "sac", "td3", "tqc"),
}
NAMES = tuple(sorted(name for names in FAMILIES.values() for name in names))


def get(name: str) -> ModuleType:
    """Looks an algorithm up by its name ("ppo") and returns its module.

    Raises:
        InputError: no such agent; the message has the nearest.
    """
    for family, names in FAMILIES.items():
        if name in names:
            return importlib.import_module(f"jaxrl.agents.{family}.{name}")
    raise unknown("agent", name, NAMES)


def __getattr__(name: str) -> ModuleType:
    if name in NAMES:
        return get(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
