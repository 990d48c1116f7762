"""What the agents of this family share: a policy with a value beside it, an optimiser over both, and how it acts."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import optax

from jaxrl import policies
from jaxrl.types import Algorithm


@dataclass(frozen=True)
class Config(policies.Config):
    """What is static: a new value means a new compilation."""

    anneal_learning_rate: bool = True
    """Let the learning rates fall linearly to 0 over hp.total_steps."""


class Learner(NamedTuple):
    """What `update` changes."""

    params: Any
    opt_state: Any


def init_learner(params: Any, optimizer: optax.GradientTransformation) -> Learner:
    """Nothing has been learnt yet."""
    return Learner(params, optimizer.init(params))


def descend(learner: Learner, grads: Any, optimizer: optax.GradientTransformation) -> Learner:
    """One gradient step."""
    step, opt_state = optimizer.update(grads, learner.opt_state, learner.params)
    return Learner(optax.apply_updates(learner.params, step), opt_state)


def algorithm(
    nets: policies.Networks, init: Callable[..., Any], update: Callable[..., Any], *, update_draws: bool = True
) -> Algorithm:
    """Acts by the policy that is learnt: draws from it while learning, its mode when evaluated.

    Args:
        nets: policy and value.
        init: (key, hp) -> a learner with `params`.
        update: as in `Algorithm`.
        update_draws: whether it uses its key.
    """
    return Algorithm(
        init=init,
        update=update,
        explore=lambda hp, context, learner: policies.sampling(nets, learner.params),
        greedy=lambda hp, context, learner: policies.greedy(nets, learner.params),
        update_draws=update_draws,
    )
