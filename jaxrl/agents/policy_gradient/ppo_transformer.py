"""PPO with a gated transformer-XL as memory, for tasks whose observation is not the state (GTrXL, Parisotto et al.).

    (π(·|o_≤t), V_t) = net_θ(o_t, m_{t−1}),   L(θ) as in PPO (Schulman et al. 2017, arXiv:1707.06347)

The network is `jaxrl.transformer`: layers that attend to their own inputs of the last `memory_length` steps of the
episode, with gates in place of sums (arXiv:1910.06764, where V-MPO trains it). The memory m is those inputs.

The loss and how a memory changes it are in `memory_ppo`. Here the network replays a rollout in one pass; steps of an
earlier episode are not attended to, in acting and in replaying alike.

Deviations from the paper: PPO for V-MPO; one actor process; learnt biases for relative positions (see
`jaxrl.transformer`); far fewer and smaller layers.
"""

from dataclasses import dataclass

from envs.base import Env
from envs.spaces import Space
from jaxrl import networks, policies, transformer
from jaxrl.agents.policy_gradient import memory_ppo
from jaxrl.agents.policy_gradient.memory_ppo import Hyperparams, Learner, init_learner, update
from jaxrl.types import Agent, Algorithm

__all__ = ["Config", "Hyperparams", "Learner", "algorithm", "build", "init_learner", "make", "update"]


@dataclass(frozen=True)
class Config(memory_ppo.Config):
    """What is static: a new value means a new compilation."""

    rollout_length: int = 64
    """Steps in each environment between updates; gradients reach back at most so far."""
    hidden: tuple[int, ...] = ()
    """Sizes of the dense layers before the linear map to `features`."""
    features: int = 32
    """Width of the layers."""
    num_layers: int = 1
    """Gated layers."""
    num_heads: int = 2
    """Heads of each attention; must divide features."""
    memory_length: int = 64
    """Steps that a layer looks back."""


def build(config: Config, observation_space: Space, action_space: Space) -> policies.MemoryNetworks:
    """Builds policy and value for a pair of spaces; see `policies.with_memory` for what they may be."""
    shape = (config.torso, config.hidden, config.activation)
    sizes = (config.features, config.num_layers, config.num_heads, config.memory_length)

    def make_net(space: Space, heads: tuple[tuple[str, int, float], ...]) -> networks.SequenceNetwork:
        return transformer.gated_transformer(space, heads, *shape, *sizes)

    return policies.with_memory("ppo_transformer", observation_space, action_space, make_net)


def algorithm(config: Config, observation_space: Space, action_space: Space) -> Algorithm:
    """PPO with a transformer for a pair of spaces.

    Raises:
        InputError: spaces that PPO cannot handle, or sizes of layers that do not work together.
    """
    return memory_ppo.algorithm(config, build(config, observation_space, action_space))


def make(env: Env, config: Config = Config()) -> Agent:
    """Binds PPO with a transformer to an environment.

    Raises:
        InputError: environments that do not split into minibatches, sizes of layers that do not work together, or
            spaces that PPO cannot handle or normalise.
    """
    return memory_ppo.make("ppo_transformer", env, config, algorithm(config, env.observation_space, env.action_space))
