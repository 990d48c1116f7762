"""One gradient step of one part of a learner: what every agent of this family takes several of in a round."""

from collections.abc import Callable
from typing import Any

import jax
import optax


def step(
    optimizer: optax.GradientTransformation, loss: Callable[[Any], tuple[jax.Array, Any]], params: Any, opt_state: Any
) -> tuple[tuple[jax.Array, Any], Any, Any]:
    """Moves parameters down the gradient of a loss.

    Args:
        optimizer: makes a step of the gradient.
        loss: params -> (f32[], what else is worth knowing).
        params: where the gradient is taken.
        opt_state: of the optimiser.

    Returns:
        (what `loss` returned before the step, params, opt_state).
    """
    values, grads = jax.value_and_grad(loss, has_aux=True)(params)
    updates, opt_state = optimizer.update(grads, opt_state)
    return values, optax.apply_updates(params, updates), opt_state
