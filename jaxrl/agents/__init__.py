"""Agents, one file per algorithm in the folder of its family; each has Config, Hyperparams, Learner, `update`, `make`.

`from jaxrl.agents import ppo` and `agents.get("ppo")` find an algorithm whatever its family. One of your own is a
module, or anything else, that has

    Config              a frozen dataclass: what is static
    Hyperparams         what is traced, e.g. a subclass of another agent's
    make(env, config)   returns a `jaxrl.Agent`

and is found as "module:name", or by the name that `register` gives it.
"""

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

from envs.errors import InputError, unknown
from envs.modules import load

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


_PARTS = ("Config", "Hyperparams", "make")
_REGISTERED: dict[str, Any] = {}  # what is not ours


def register(name: str, agent: Any, *, replace: bool = False) -> None:
    """Adds an agent under `name`.

    Args:
        name: what the command line and `agents.get` will call it.
        agent: a module or another object with Config, Hyperparams and make, or "module:name", imported when it is
            first asked for.
        replace: the name may be taken: what it stood for is forgotten. So a cell of a notebook can be run again.

    Raises:
        InputError: `name` is taken already or has a colon, or `agent` lacks something.
    """
    if ":" in name:
        raise InputError(f"agent {name!r}: a name with a colon is MODULE:NAME.")
    if (name in NAMES or name in _REGISTERED) and not replace:
        raise InputError(f"agent {name!r} is there already; replace=True puts another in its place.")
    if not isinstance(agent, str):
        _require_complete(name, agent)
    _REGISTERED[name] = agent


def names() -> list[str]:
    """All names, sorted: ours and the registered ones."""
    return sorted({*NAMES, *_REGISTERED})


def get(name: str) -> Any:
    """Looks an algorithm up by its name ("ppo", or "module:name") and returns its module.

    Raises:
        InputError: no such agent; the message has the nearest. Or one that lacks something.
    """
    if name in _REGISTERED:
        return _require_complete(name, load(_REGISTERED[name]))
    for family, members in FAMILIES.items():
        if name in members:
            return importlib.import_module(f"jaxrl.agents.{family}.{name}")
    if ":" in name:
        return _require_complete(name, load(name))
    raise unknown("agent", name, names())


def name_of(agent: Any) -> str:
    """A short name of what `get` returns, for messages."""
    return getattr(agent, "__name__", type(agent).__name__).rpartition(".")[2]


def _require_complete(name: str, agent: Any) -> Any:
    missing = [part for part in _PARTS if not hasattr(agent, part)]
    if missing:
        raise InputError(f"{name} is no agent: it has no {', '.join(missing)} (see the help of jaxrl.agents).")
    return agent


def __getattr__(name: str) -> ModuleType:
    if name in NAMES:
        return get(name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
