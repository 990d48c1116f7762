"""Recurrent replay distributed DQN, R2D2 (Kapturowski et al., ICLR 2019), without the distribution: one learner.

    (Q_t, m_t) = net_θ(o_t, m_{t−1}),   G_t = h(Σ_{i<n} γ^i r_{t+i} + γ^n (1 − terminated) h⁻¹(Q_θ⁻(o_{t+n}, a*)))
    a* = argmax_a Q_θ(o_{t+n}, a),   L(θ) = E[½ (G_t − Q_θ(o_t, a_t))²]

For tasks whose observation is not the state: a gated recurrent unit carries a memory m through the episode. The replay
holds overlapping sequences [burn_in | rollout_length | n_step − 1]. The network is unrolled from the memory that the
actor had at the beginning of the sequence (`stored_memory`), which was made by older parameters; so the first `burn_in`
steps only bring it up to date and are not learnt from. The middle is; the last part completes its n-step targets.
h(x) = sign(x) (√(|x| + 1) − 1) + x/1000 squeezes large values (`value_rescaling`); without it h is the identity.

A sequence may hold the end of one episode and the beginning of another: the memory is set back between them, and
o_{t+n} is the true successor, valued with the memory of its own episode, so that a cut by the time limit is
bootstrapped like any other step.

With `prioritized` sequences are drawn by p = η max_t |δ_t| + (1 − η) mean_t |δ_t| over the errors δ learnt from.

DRQN (Hausknecht & Stone 2015, arXiv:1507.06527, with random updates) is the configuration without both remedies:
stored_memory=False, burn_in=0, n_step=1, double=False.

Deviations from R2D2: a GRU for the LSTM, fed with observations alone (there the last action and reward too); uniform
replay unless `prioritized` (there always by priority); sequences that cross the ends of episodes (there they stop);
Adam; one ε for all environments, falling; the replay is filled by random actions in `init`.
"""

from dataclasses import dataclass
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from envs.base import Env
from envs.errors import InputError
from envs.spaces import Space
from envs.values import Count, Fraction, Positive
from jaxrl import exploration, losses, masks, n_step, networks
from jaxrl.actions import require_discrete
from jaxrl.agents.value_based import action_values
from jaxrl.agents.value_based.action_values import Learner
from jaxrl.distributions import at_index
from jaxrl.loops import off_policy
from jaxrl.networks import Recurrent
from jaxrl.types import Agent, Algorithm, Context, Diagnostics, Policy, Transition


@dataclass(frozen=True)
class Config(action_values.Config):
    """What is static: a new value means a new compilation."""

    rollout_length: int = 10
    """Steps in each environment between updates, and steps of a sequence that are learnt from."""
    burn_in: Count = 10
    """Steps of a sequence that only bring the memory up to date."""
    stored_memory: bool = True
    """Unroll from the actor's memory instead of from that at the start of an episode."""
    num_updates: int = 4
    batch_size: int = 32
    """Sequences per gradient step."""
    replay_capacity: int = 2_000
    """Sequences that the replay holds."""
    warmup_steps: Count = 1_000
    """Environment steps with random actions before the first update, at least; they count as steps of the run."""
    n_step: int = 3
    double: bool = True
    """Double Q-learning."""
    value_rescaling: bool = False
    """Learn h(Q) instead of Q."""
    hidden: tuple[int, ...] = (64,)
    """Sizes of the dense layers before the memory."""
    memory_size: int = 64
    """Units of the memory."""


@struct.dataclass
class Hyperparams(action_values.Hyperparams, exploration.EpsilonGreedy):
    """What is traced: one compiled program serves every value, and a batch of runs may mix them."""

    max_grad_norm: Positive = 10.0
    """The gradient is scaled down to this global norm."""
    priority_eta: Fraction = 0.9
    """How much the greatest error of a sequence counts in its priority; the rest is that of the mean."""


def build(config: Config, observation_space: Space, num_actions: int) -> Recurrent:
    """Builds the recurrent network of action values; its outputs are (f32[..., A],)."""
    shape = (config.torso, config.hidden, config.activation, config.memory_size)
    return networks.recurrent(observation_space, [("q", num_actions, 1.0)], *shape)


def optimizer(hp: Hyperparams) -> optax.GradientTransformation:
    """Adam behind a clip of the global gradient norm."""
    return optax.chain(optax.clip_by_global_norm(hp.max_grad_norm), optax.adam(hp.learning_rate))


init_learner = partial(action_values.init_learner, optimizer=optimizer)


def update(
    config: Config,
    net: Recurrent,
    hp: Hyperparams,
    context: Context,
    learner: Learner,
    batch: Transition,
    key: jax.Array,
) -> tuple[Learner, Diagnostics]:
    """One gradient step.

    Args:
        config: static configuration.
        net: from `build`.
        hp: hyper-parameters.
        context: not used.
        learner: parameters, target and optimiser state.
        batch: [batch, burn_in + T + n_step − 1, ...] sequences of single steps, the memory f32[batch, memory_size]
            before their first steps, and weights f32[batch] or ().
        key: not used.

    Returns:
        (learner, diagnostics with a priority for each sequence).
    """
    del context, key
    burn_in = config.burn_in
    memory, steps = batch.memory, batch._replace(memory=(), weight=())
    steps = jax.tree.map(lambda x: jnp.swapaxes(x, 0, 1), steps)  # time first
    ended = steps.terminated | steps.truncated
    if not config.stored_memory:
        memory = jnp.broadcast_to(net.memory, memory.shape)
    early, late = jax.tree.map(lambda x: x[:burn_in], steps), jax.tree.map(lambda x: x[burn_in:], steps)

    def unroll(params: Any) -> tuple[jax.Array, jax.Array]:
        """Values of the observations after the burn-in, and of their true successors, f32[T + n − 1, batch, A]."""
        start = memory
        if burn_in:
            _, memories = net.unroll(params, early.obs, memory, ended[:burn_in])
            start = jax.lax.stop_gradient(jnp.where(ended[burn_in - 1][:, None], net.memory, memories[-1]))
        (q,), memories = net.unroll(params, late.obs, start, ended[burn_in:])
        (q_next,), _ = net.step(params, late.next_obs, memories)
        return q, q_next

    _, q_t = unroll(learner.target_params)

    def loss(params: Any) -> tuple[jax.Array, tuple[dict[str, jax.Array], jax.Array]]:
        q_tm1, selector = unroll(params)
        a_t = jnp.argmax(masks.choosable(selector if config.double else q_t, late.next_obs), -1)
        v_t = at_index(q_t, a_t)
        if config.value_rescaling:
            v_t = losses.signed_parabolic(v_t)
        # The value of the successor travels in the place of its observation.
        _, ahead = n_step.extend((), late._replace(obs=(), next_obs=v_t), hp.gamma, config.n_step)
        target = ahead.reward + n_step.discount(ahead, hp.gamma) * ahead.next_obs
        if config.value_rescaling:
            target = losses.signed_hyperbolic(target)
        q = at_index(q_tm1, late.action)[: target.shape[0]]
        error = jax.lax.stop_gradient(target) - q
        size = jnp.abs(error)
        priority = hp.priority_eta * size.max(0) + (1.0 - hp.priority_eta) * size.mean(0)
        return losses.weighted(losses.squared(error), batch.weight).mean(), ({"q_mean": q.mean()}, priority)

    return action_values.descend(loss, hp, learner, optimizer)


def explore(net: Recurrent, learner: Learner, epsilon: jax.Array | float) -> Policy:
    """ε-greedy; extras are the memory before each step."""

    def act(key: jax.Array, obs: Any, memory: jax.Array) -> tuple[Any, Any, Any]:
        (q,), following = net.step(learner.params, obs, memory)
        return exploration.epsilon_greedy(key, q, epsilon, allowed=masks.allowed(obs)), following, memory

    return Policy(act, net.memory)


def greedy(net: Recurrent, hp: Hyperparams, context: Context, learner: Learner) -> Policy:
    """The action of the greatest value."""
    del hp, context

    def act(key: jax.Array, obs: Any, memory: jax.Array) -> tuple[Any, Any, Any]:
        del key
        (q,), memory = net.step(learner.params, obs, memory)
        return jnp.argmax(masks.choosable(q, obs), -1), memory, ()

    return Policy(act, net.memory)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """R2D2 for a pair of spaces.

    Raises:
        InputError: an action space that is not Discrete, or hindsight.
    """
    num_actions = require_discrete("r2d2", action_space).n
    if config.hindsight:
        raise InputError(f"r2d2 stores sequences, which are not judged again: hindsight={config.hindsight} must be 0.")
    net = build(config, observation_space, num_actions)
    return Algorithm(
        init=partial(init_learner, net),
        update=partial(update, config, net),
        explore=lambda hp, context, learner: explore(net, learner, exploration.epsilon(hp, context.progress)),
        greedy=partial(greedy, net),
    )


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds R2D2 to an environment with Discrete actions.

    Raises:
        InputError: another action space, or sizes that cannot work together.
    """
    learner = algorithm(config, env.observation_space, env.action_space)
    net = build(config, env.observation_space, require_discrete("r2d2", env.action_space).n)
    return off_policy.make(
        "r2d2",
        env,
        learner,
        config,
        burn_in=config.burn_in,
        warmup=lambda hp, context, learner: explore(net, learner, 1.0),
        extras=jax.ShapeDtypeStruct(net.memory.shape, jnp.float32),
        together=False,
    )
