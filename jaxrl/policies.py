"""Policy and value networks of the on-policy agents, and how they act.

A softmax over Discrete actions, or a Gaussian over a Box whose standard deviation does not depend on the state. The
Gaussian lives before the map into the Box ("unit action"), where its log-probabilities and divergences are exact:
the map is fixed, so the *ratio* of two probabilities and the gradient of a log-probability are the same before and
after tanh. An entropy is the Gaussian's, without what tanh or the clipping takes from it.

Action masks come in the observation: a dict whose entry "action_mask" has one truth value for every action. That is
the one place from which a mask reaches the policy when it acts, the update that replays the step, and evaluation
alike (`Step.info` reaches none of them). The mask goes to the softmax; the network sees the other entries.
"""

from collections.abc import Callable, Mapping
from typing import Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import optax

from envs.errors import InputError
from envs.spaces import Box, Discrete, Space
from jaxrl import networks
from jaxrl.actions import require_bounded_box, unit_box
from jaxrl.distributions import Categorical, Normal
from jaxrl.types import Policy

MASK = "action_mask"

Squash = Literal["clip", "tanh"]


class Networks(NamedTuple):
    """Policy and value function over one tree of parameters."""

    init: Callable[[jax.Array], Any]  # key -> params
    policy: Callable[[Any, Any], Any]  # (params, obs [..., *obs]) -> Categorical or Normal over [...]
    value: Callable[[Any, Any], jax.Array]  # (params, obs [..., *obs]) -> f32[...]
    both: Callable[[Any, Any], tuple[Any, jax.Array]]  # the two at once
    to_env: Callable[[jax.Array], jax.Array]  # unit action [..., *action] -> action inside the action space


def build(
    agent: str,
    observation_space: Space,
    action_space: Space,
    torso: networks.Torso,
    hidden: tuple[int, ...],
    activation: networks.Activation,
    shared_torso: bool = False,
    squash: Squash = "clip",
) -> Networks:
    """Builds policy and value for a pair of spaces.

    Args:
        agent: who asks, for messages.
        observation_space: any; with an entry "action_mask" the actions are masked.
        action_space: Discrete, or a Box of shape (n,).
        torso: what stands between observation and heads.
        hidden: sizes of the dense layers.
        activation: after every dense layer.
        shared_torso: one torso for both instead of two; params {"net"} instead of {"actor", "critic"}. A Gaussian
            adds {"log_std"}, which begins at 0.
        squash: how a Gaussian action enters the Box.

    Raises:
        InputError: another action space, or a mask that does not fit it.
    """
    if isinstance(action_space, Discrete):
        num_outputs = action_space.n
    elif isinstance(action_space, Box) and len(action_space.shape) == 1:
        num_outputs = action_space.shape[0]
    else:
        raise InputError(
            f"{agent} needs a Discrete action space or a Box of shape (n,); the environment has {action_space}."
        )
    seen_space, see, mask_of = _split_mask(agent, observation_space, action_space)
    policy_head, value_head = ("policy", num_outputs, 0.01), ("value", 1, 1.0)
    shape = (torso, hidden, activation)

    def distribution(params: Any, outputs: jax.Array, obs: Any) -> Categorical | Normal:
        if isinstance(action_space, Box):
            return Normal(outputs, jnp.broadcast_to(jnp.exp(params["log_std"]), outputs.shape))
        return Categorical(outputs if mask_of is None else jnp.where(mask_of(obs), outputs, -jnp.inf))

    def with_log_std(params: dict[str, Any]) -> dict[str, Any]:
        return params if isinstance(action_space, Discrete) else params | {"log_std": jnp.zeros(num_outputs)}

    to_env = _into_space(agent, action_space, squash)
    if shared_torso:
        net = networks.with_heads(seen_space, (policy_head, value_head), *shape)

        def both(params: Any, obs: Any) -> tuple[Any, jax.Array]:
            outputs, value = net.apply(params["net"], see(obs))
            return distribution(params, outputs, obs), value[..., 0]

        return Networks(
            init=lambda key: with_log_std({"net": net.init(key)}),
            policy=lambda params, obs: both(params, obs)[0],
            value=lambda params, obs: both(params, obs)[1],
            both=both,
            to_env=to_env,
        )

    actor = networks.with_heads(seen_space, (policy_head,), *shape)
    critic = networks.with_heads(seen_space, (value_head,), *shape)

    def init(key: jax.Array) -> Any:
        key_actor, key_critic = jax.random.split(key)
        return with_log_std({"actor": actor.init(key_actor), "critic": critic.init(key_critic)})

    def policy(params: Any, obs: Any) -> Categorical | Normal:
        return distribution(params, actor.apply(params["actor"], see(obs))[0], obs)

    def value(params: Any, obs: Any) -> jax.Array:
        return critic.apply(params["critic"], see(obs))[0][..., 0]

    return Networks(init, policy, value, lambda params, obs: (policy(params, obs), value(params, obs)), to_env)


def _split_mask(
    agent: str, observation_space: Space, action_space: Space
) -> tuple[Space, Callable[[Any], Any], Callable[[Any], jax.Array] | None]:
    """(the space that the network sees, observation -> that part, observation -> bool[..., A] or None)."""
    if not isinstance(observation_space, Mapping) or MASK not in observation_space:
        return observation_space, lambda obs: obs, None
    mask = observation_space[MASK]
    shape = getattr(mask, "shape", None)
    if not isinstance(action_space, Discrete) or shape != (action_space.n,):
        raise InputError(
            f"{agent} masks Discrete actions, by one truth value for each: the observation's {MASK!r} is {mask}, "
            f"the action space {action_space}."
        )
    rest = [name for name in observation_space if name != MASK]
    if len(rest) == 1:  # so that a picture beside its mask can go through a CNN
        return observation_space[rest[0]], lambda obs: obs[rest[0]], lambda obs: obs[MASK] != 0
    space = {name: observation_space[name] for name in rest}
    return space, lambda obs: {name: obs[name] for name in rest}, lambda obs: obs[MASK] != 0


def _into_space(agent: str, action_space: Space, squash: Squash) -> Callable[[jax.Array], jax.Array]:
    if not isinstance(action_space, Box):
        return lambda unit_action: unit_action
    if squash == "clip":
        return unit_box(action_space).to_env
    box = unit_box(require_bounded_box(f"{agent} with tanh", action_space))
    return lambda unit_action: box.to_env(jnp.tanh(unit_action))


def sampling(nets: Networks, params: Any, see: Callable[[Any], Any] = lambda obs: obs) -> Policy:
    """The policy as it explores; extras hold "unit_action" as it was drawn and its "log_prob" f32[B].

    Args:
        nets: from `build`.
        params: their parameters.
        see: what to do to an observation first, e.g. normalise it.
    """

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        unit_action, log_prob = nets.policy(params, see(obs)).sample_and_log_prob(key)
        return nets.to_env(unit_action), memory, {"unit_action": unit_action, "log_prob": log_prob}

    return Policy(act)


def greedy(nets: Networks, params: Any, see: Callable[[Any], Any] = lambda obs: obs) -> Policy:
    """The most probable action, or the Gaussian's mean; arguments as in `sampling`."""

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        del key
        return nets.to_env(nets.policy(params, see(obs)).mode()), memory, ()

    return Policy(act)


def two_optimizers(
    policy: optax.GradientTransformation, value: optax.GradientTransformation
) -> optax.GradientTransformation:
    """One optimiser for the policy's parameters and one for the critic's, which must not share a torso."""
    return optax.multi_transform(
        {"policy": policy, "value": value},
        lambda params: {name: "value" if name == "critic" else "policy" for name in params},
    )
