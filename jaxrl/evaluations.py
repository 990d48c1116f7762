"""Named evaluations beside that of the greedy policy: who else plays, or where else.

    agent = evaluations.add(agent, ["sampling", "test"])

Their results have a dimension `evaluation`, and each is a row of a table and a curve of a plot. Own ones are
`jaxrl.types.Evaluated`: agent._replace(evaluations=(…,)).
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax

from envs.errors import InputError, unknown
from jaxrl.train import fields_of
from jaxrl.types import Agent, Evaluated


def sampling(agent: Agent) -> Evaluated:
    """The policy that gathers experience, as it explores.

    Raises:
        InputError: nobody of this agent's acts alone (evolution strategies perturb a whole population).
    """
    if agent.explore is None:
        raise InputError(f"{agent.name} has no exploring policy that could be evaluated by itself.")
    return Evaluated("sampling", agent.env, lambda state, shared: state.env_params, agent.explore)


def own_reward(agent: Agent) -> Evaluated:
    """The greedy policy, judged by the environment's own reward: without noise, scaling, clipping or shaping.

    Raises:
        InputError: no wrapper changes the reward.
    """
    env = agent.env.with_own_reward()
    if env == agent.env:
        raise InputError(f"the reward of {type(agent.env).__name__} is its own: no wrapper changes it.")

    def params(state: Any, shared: Any) -> Any:
        del shared
        wanted = env.default_params()
        known = fields_of(state.env_params)
        return type(wanted)(*(known[name] for name in fields_of(wanted))) if wanted else wanted

    return Evaluated("own_reward", env, params, agent.policy)


def test(agent: Agent) -> Evaluated:
    """The greedy policy on the levels that training does not see.

    Raises:
        InputError: the environment has no numbered levels.
    """
    try:
        jax.eval_shape(agent.env.held_out, agent.env.default_params())
    except NotImplementedError:
        raise InputError(f"{type(agent.env).__name__} has no numbered levels, so none are held out.") from None
    return Evaluated("test", agent.env, lambda state, shared: agent.env.held_out(state.env_params), agent.policy)


KINDS: dict[str, Callable[[Agent], Evaluated]] = {"sampling": sampling, "own_reward": own_reward, "test": test}


def add(agent: Agent, names: Sequence[str], env_params: Any = None) -> Agent:
    """The agent with further evaluations.

    Args:
        agent: from an agent's `make`.
        names: of `KINDS`.
        env_params: of its environment, where they are known: then it is checked that they leave levels out.

    Raises:
        InputError: an unknown name, one given twice, or an evaluation that the agent or environment cannot have.
    """
    if isinstance(names, str):
        raise InputError(f"evaluations {names!r} must be a list of names, such as [{names!r}].")
    for name in names:
        if name not in KINDS:
            raise unknown("evaluation", name, KINDS)
    more = tuple(KINDS[name](agent) for name in names)
    together = [evaluated.name for evaluated in (*agent.evaluations, *more)]
    if len(set(together)) != len(together):
        raise InputError(f"evaluations {', '.join(together)}: each may be named once.")
    if "test" in names and env_params is not None:
        agent.env.held_out(env_params)  # raises where they leave no levels out
    return agent._replace(evaluations=(*agent.evaluations, *more))
