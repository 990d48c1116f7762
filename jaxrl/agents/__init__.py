"""Agents, one file per algorithm in the folder of its family; each has Config, Hyperparams, Learner, `update`, `make`.

`from jaxrl.agents import ppo` and `agents.get("ppo")` find an algorithm whatever its family.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

from envs.errors import unknown

if TYPE_CHECKING:
    from jaxrl.agents import (
        actor_critic,
        apg,
        awr,
        bandit,
        bootstrapped_dqn,
        c51,
        crossq,
        d4pg,
        ddpg,
        dyna_q,
        es,
        impala,
        iqn,
        monte_carlo,
        mpo,
        n_step_sarsa,
        ppo_recurrent,
        ppo_transformer,
        pqn,
        qr_dqn,
        r2d2,
        rainbow,
        reinforce,
        sac_discrete,
        sarsa,
        sarsa_lambda,
        td3,
        tqc,
        trpo,
    )
    from jaxrl.agents.continuous_control import sac
    from jaxrl.agents.policy_gradient import a2c, ppo
    from jaxrl.agents.tabular import q_learning
    from jaxrl.agents.value_based import dqn

FAMILIES: dict[str, tuple[str, ...]] = {
    "": (
        "actor_critic",
        "apg",
        "awr",
        "bandit",
        "bootstrapped_dqn",
        "c51",
        "crossq",
        "d4pg",
        "ddpg",
        "dyna_q",
        "es",
        "impala",
        "iqn",
        "monte_carlo",
        "mpo",
        "n_step_sarsa",
        "ppo_recurrent",
        "ppo_transformer",
        "pqn",
        "qr_dqn",
        "r2d2",
        "rainbow",
        "reinforce",
        "sac_discrete",
        "sarsa",
        "sarsa_lambda",
        "td3",
        "tqc",
        "trpo",
    ),
    "tabular": ("q_learning",),
    "value_based": ("dqn",),
    "policy_gradient": ("a2c", "ppo"),
    "continuous_control": ("sac",),
}
NAMES = tuple(sorted(name for names in FAMILIES.values() for name in names))


def get(name: str) -> ModuleType:
    """Looks an algorithm up by its name ("ppo") and returns its module.

    Raises:
        InputError: no such agent; the message has the nearest.
    """
    for family, names in FAMILIES.items():
        if name in names:
            return importlib.import_module(".".join(filter(None, ("jaxrl.agents", family, name))))
    raise unknown("agent", name, NAMES)


def __getattr__(name: str) -> ModuleType:
    if name in NAMES:
        return get(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
