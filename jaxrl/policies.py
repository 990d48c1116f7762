"""Policy and value networks of the on-policy agents, and how they act.

A softmax over Discrete actions, one for each part of MultiDiscrete ones, or a Gaussian over a Box whose standard
deviation does not depend on the state. The Gaussian lives before the map into the Box ("unit action"), where its
log-probabilities and divergences are exact: the map is fixed, so the *ratio* of two probabilities and the gradient of
a log-probability are the same before and after tanh. An entropy is the Gaussian's, without what tanh or the clipping
takes from it.

Where the observation has a mask (`jaxrl.masks`) it goes to the softmax; the network sees the other entries.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

import jax
import jax.numpy as jnp
import optax

from envs.errors import InputError
from envs.spaces import Box, Discrete, MultiDiscrete, Space, flat_size
from envs.values import Checked
from jaxrl import masks, networks
from jaxrl.actions import require_bounded_box, unit_box
from jaxrl.distributions import Categorical, MultiCategorical, Normal
from jaxrl.types import Policy

Distribution: TypeAlias = Categorical | MultiCategorical | Normal

Squash = Literal["clip", "tanh"]


@dataclass(frozen=True)
class Config(Checked):
    """The sizes of policy and value."""

    torso: networks.Torso = "mlp"
    """What stands between the observation and the heads."""
    hidden: tuple[int, ...] = (64, 64)
    """Sizes of the dense layers."""
    activation: networks.Activation = "tanh"
    """After every dense layer."""
    squash: Squash = "clip"
    """How a Gaussian action enters the Box: clipped to it, or through tanh."""


class Networks(NamedTuple):
    """Policy and value function over one tree of parameters."""

    init: Callable[[jax.Array], Any]  # key -> params
    policy: Callable[[Any, Any], Any]  # (params, obs [..., *obs]) -> the distribution of actions over [...]
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
        action_space: Discrete, MultiDiscrete, or a Box of shape (n,).
        torso: what stands between observation and heads.
        hidden: sizes of the dense layers.
        activation: after every dense layer.
        shared_torso: one torso for both instead of two; params {"net"} instead of {"actor", "critic"}. A Gaussian
            adds {"log_std"}, which begins at 0.
        squash: how a Gaussian action enters the Box.

    Raises:
        InputError: another action space, or a mask that does not fit it.
    """
    num_outputs = _num_outputs(agent, action_space)
    masks.require_fit(agent, observation_space, action_space)
    policy_head, value_head = ("policy", num_outputs, 0.01), ("value", 1, 1.0)
    shape = (torso, hidden, activation)

    def distribution(params: Any, outputs: jax.Array, obs: Any) -> Distribution:
        return _distribution(action_space, params, outputs, obs)

    def with_log_std(params: dict[str, Any]) -> dict[str, Any]:
        return _with_log_std(action_space, params)

    to_env = _into_space(agent, action_space, squash)
    if shared_torso:
        net = networks.with_heads(observation_space, (policy_head, value_head), *shape)

        def both(params: Any, obs: Any) -> tuple[Any, jax.Array]:
            outputs, value = net.apply(params["net"], obs)
            return distribution(params, outputs, obs), value[..., 0]

        return Networks(
            init=lambda key: with_log_std({"net": net.init(key)}),
            policy=lambda params, obs: both(params, obs)[0],
            value=lambda params, obs: both(params, obs)[1],
            both=both,
            to_env=to_env,
        )

    actor = networks.with_heads(observation_space, (policy_head,), *shape)
    critic = networks.with_heads(observation_space, (value_head,), *shape)

    def init(key: jax.Array) -> Any:
        key_actor, key_critic = jax.random.split(key)
        return with_log_std({"actor": actor.init(key_actor), "critic": critic.init(key_critic)})

    def policy(params: Any, obs: Any) -> Distribution:
        return distribution(params, actor.apply(params["actor"], obs)[0], obs)

    def value(params: Any, obs: Any) -> jax.Array:
        return critic.apply(params["critic"], obs)[0][..., 0]

    return Networks(init, policy, value, lambda params, obs: (policy(params, obs), value(params, obs)), to_env)


class MemoryNetworks(NamedTuple):
    """Policy and value function that see more of the episode than the last observation, through a memory."""

    init: Callable[[jax.Array], Any]  # key -> params
    memory: Any  # of one environment at the start of an episode
    step: Callable[..., Any]
    """(params, obs [B, *obs], memory [B, ...]) -> (distribution over [B], value f32[B], memory [B, ...])."""
    unroll: Callable[..., Any]
    """(params, obs [T, B, *obs], memory [B, ...] before the first, ended bool[T, B], next_obs [T, B, *obs] or None) ->
    (distribution over [T, B], value f32[T, B], value of `next_obs` f32[T, B] or None)."""
    to_env: Callable[[jax.Array], jax.Array]  # unit action [..., *action] -> action inside the action space


def with_memory(
    agent: str,
    observation_space: Space,
    action_space: Space,
    make: Callable[[Space, tuple[tuple[str, int, float], ...]], networks.SequenceNetwork],
) -> MemoryNetworks:
    """Builds policy and value as two heads of one network with a memory; params {"net"}, for a Gaussian {"log_std"}.

    Args:
        agent: who asks, for messages.
        observation_space: any; with an entry "action_mask" the actions are masked.
        action_space: Discrete, MultiDiscrete, or a Box of shape (n,).
        make: (space that the network sees, heads (name, features, scale of the weights)) -> the network.

    Raises:
        InputError: another action space, or a mask that does not fit it.
    """
    num_outputs = _num_outputs(agent, action_space)
    masks.require_fit(agent, observation_space, action_space)
    net = make(observation_space, (("policy", num_outputs, 0.01), ("value", 1, 1.0)))

    def init(key: jax.Array) -> Any:
        return _with_log_std(action_space, {"net": net.init(key)})

    def step(params: Any, obs: Any, memory: Any) -> Any:
        (outputs, value), memory = net.step(params["net"], obs, memory)
        return _distribution(action_space, params, outputs, obs), value[..., 0], memory

    def unroll(params: Any, obs: Any, memory: Any, ended: jax.Array, next_obs: Any = None) -> Any:
        (outputs, value), after = net.unroll(params["net"], obs, memory, ended, next_obs)
        policy = _distribution(action_space, params, outputs, obs)
        return policy, value[..., 0], None if after is None else after[1][..., 0]

    return MemoryNetworks(init, net.memory, step, unroll, _into_space(agent, action_space, "clip"))


def _num_outputs(agent: str, action_space: Space) -> int:
    if isinstance(action_space, Discrete | MultiDiscrete):
        return flat_size(action_space)
    if isinstance(action_space, Box) and len(action_space.shape) == 1:
        return action_space.shape[0]
    raise InputError(
        f"{agent} needs a Discrete or MultiDiscrete action space, or a Box of shape (n,); "
        f"the environment has {action_space}."
    )


def _distribution(action_space: Space, params: Any, outputs: jax.Array, obs: Any) -> Distribution:
    if isinstance(action_space, Box):
        return Normal(outputs, jnp.broadcast_to(jnp.exp(params["log_std"]), outputs.shape))
    if isinstance(action_space, MultiDiscrete):
        return MultiCategorical.of(outputs, action_space.nvec, masks.given(obs))
    return Categorical(masks.choosable(outputs, obs))


def _with_log_std(action_space: Space, params: dict[str, Any]) -> dict[str, Any]:
    if isinstance(action_space, Box):
        return params | {"log_std": jnp.zeros(action_space.shape[0])}
    return params


def _into_space(agent: str, action_space: Space, squash: Squash) -> Callable[[jax.Array], jax.Array]:
    if not isinstance(action_space, Box):
        return lambda unit_action: unit_action
    if squash == "clip":
        return unit_box(action_space).to_env
    box = unit_box(require_bounded_box(f"{agent} with tanh", action_space))
    return lambda unit_action: box.to_env(jnp.tanh(unit_action))


class Sampled(NamedTuple):
    """What a policy that samples attaches to its step."""

    unit_action: jax.Array  # [..., *action] as it was drawn, before the map into the action space
    log_prob: jax.Array  # f32[...] of it


def sampling(nets: Networks, params: Any) -> Policy:
    """The policy as it explores; extras are `Sampled`."""

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        drawn = Sampled(*nets.policy(params, obs).sample_and_log_prob(key))
        return nets.to_env(drawn.unit_action), memory, drawn

    return Policy(act)


def greedy(nets: Networks, params: Any) -> Policy:
    """The most probable action, or the Gaussian's mean."""

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        del key
        return nets.to_env(nets.policy(params, obs).mode()), memory, ()

    return Policy(act)


def sampling_with_memory(nets: MemoryNetworks, params: Any) -> Policy:
    """As `sampling`, for networks with a memory."""

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        policy, _, memory = nets.step(params, obs, memory)
        drawn = Sampled(*policy.sample_and_log_prob(key))
        return nets.to_env(drawn.unit_action), memory, drawn

    return Policy(act, nets.memory)


def greedy_with_memory(nets: MemoryNetworks, params: Any) -> Policy:
    """As `greedy`, for networks with a memory."""

    def act(key: jax.Array, obs: Any, memory: Any) -> tuple[Any, Any, Any]:
        del key
        policy, _, memory = nets.step(params, obs, memory)
        return nets.to_env(policy.mode()), memory, ()

    return Policy(act, nets.memory)


def two_optimizers(
    policy: optax.GradientTransformation, value: optax.GradientTransformation
) -> optax.GradientTransformation:
    """One optimiser for the policy's parameters and one for the critic's, which must not share a torso."""
    return optax.multi_transform(
        {"policy": policy, "value": value},
        lambda params: {name: "value" if name == "critic" else "policy" for name in params},
    )
