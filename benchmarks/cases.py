"""What the training benchmarks train: settings of ours and of each peer that mean the same."""

from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Case:
    """One comparison."""

    title: str
    """What a reader sees."""
    agent: str
    """Of this framework."""
    env: str
    num_seeds: int
    """Trained side by side in a turn."""
    env_steps: int
    """Of each seed in a turn."""
    config: dict[str, Any]
    """Fields of the agent's Config that are not its defaults."""
    hp: dict[str, Any]
    """Fields of the agent's Hyperparams that are not its defaults."""
    rejax: dict[str, Any] | None = None
    """Arguments of rejax's `create`; None: not measured."""
    sb3: dict[str, Any] | None = None
    """Arguments of Stable-Baselines3's class, and "num_envs"; None: not measured."""
    sb3_steps: int = 0
    """Environment steps of its turn, fewer because it is slow; one seed."""
    purejaxrl: str = ""
    """What was measured of purejaxrl, which is not in the package registry, at these settings."""
    eval_episodes: int = 32
    """Episodes of the greedy policy in the end, outside the clock for ours."""
    notes: list[str] = field(default_factory=list)
    """Where the settings cannot be the same."""


def _ppo_cartpole(num_seeds: int, env_steps: int) -> Case:
    return Case(
        title=f"PPO, CartPole-v1, {num_seeds} seed{'s' if num_seeds > 1 else ''}",
        agent="ppo",
        env="CartPole-v1",
        num_seeds=num_seeds,
        env_steps=env_steps,
        config={},  # the defaults are CleanRL's and purejaxrl's settings
        hp={},
        rejax={
            "algorithm": "ppo",
            "num_envs": 4,
            "num_steps": 128,
            "num_epochs": 4,
            "num_minibatches": 4,
            "learning_rate": 2.5e-4,
            "max_grad_norm": 0.5,
            "ent_coef": 0.01,
            "agent_kwargs": {"activation": "tanh", "hidden_layer_sizes": (64, 64)},
        },
        sb3={"algorithm": "PPO", "num_envs": 4, "n_steps": 128, "batch_size": 128, "n_epochs": 4, "ent_coef": 0.01},
        sb3_steps=20_480,
        notes=["rejax does not anneal the learning rate"],
    )


def _dqn_cartpole(num_seeds: int, env_steps: int) -> Case:
    return Case(
        title=f"DQN, CartPole-v1, {num_seeds} seed{'s' if num_seeds > 1 else ''}",
        agent="dqn",
        env="CartPole-v1",
        num_seeds=num_seeds,
        env_steps=env_steps,
        # 10 environments, an update of 128 for every 10 steps, replay of 10,000.
        config={"warmup_steps": 10_000, "hidden": (64, 64), "double": True},
        hp={"learning_rate": 2.5e-4},
        rejax={
            "algorithm": "dqn",
            "num_envs": 10,
            "buffer_size": 10_000,
            "fill_buffer": 10_000,
            "batch_size": 128,
            "learning_rate": 2.5e-4,
            "target_update_freq": 500,
            "polyak": 0.0,
            "exploration_fraction": 0.5,
            "agent_kwargs": {"activation": "relu"},
        },
        sb3={
            "algorithm": "DQN",
            "buffer_size": 10_000,
            "learning_starts": 1_000,
            "batch_size": 128,
            "train_freq": 10,
            "learning_rate": 2.5e-4,
        },
        sb3_steps=20_000,
        notes=["double DQN with layers of 64, which rejax has fixed; Stable-Baselines3's is not double"],
    )


def _continuous(agent: str, num_seeds: int, batch: int, hidden: int) -> Case:
    updates = {"num_updates": 1} if agent == "sac" else {"num_updates": 2}
    rejax_networks: dict[str, Any] = {"agent_kwargs": {"activation": "relu", "hidden_layer_sizes": (hidden, hidden)}}
    if agent == "td3":  # always two layers of 64
        rejax_networks = {"actor_kwargs": {"activation": "relu"}, "critic_kwargs": {"activation": "relu"}}
    return Case(
        title=f"{agent.upper()}, Pendulum-v1, {num_seeds} seed{'s' if num_seeds > 1 else ''}",
        agent=agent,
        env="Pendulum-v1",
        num_seeds=num_seeds,
        env_steps=10_000,
        config={
            "num_envs": 1,
            "rollout_length": updates["num_updates"],
            **updates,
            "batch_size": batch,
            "hidden": (hidden, hidden),
            "replay_capacity": 10_000,
        },
        hp={"critic_learning_rate": 1e-3, "policy_learning_rate": 1e-3} if agent == "sac" else {"learning_rate": 1e-3},
        rejax={
            "algorithm": agent,
            "num_envs": 1,
            "buffer_size": 10_000,
            "fill_buffer": 1_000,
            "batch_size": batch,
            "learning_rate": 1e-3,
            "polyak": 0.995,
            **rejax_networks,
        },
        sb3={"algorithm": agent.upper(), "learning_starts": 1_000, "batch_size": batch, "learning_rate": 1e-3},
        sb3_steps=2_000,
    )


CASES = {
    "ppo-cartpole-1": _ppo_cartpole(1, 500_000),
    "ppo-cartpole-64": _ppo_cartpole(64, 51_200),
    "dqn-cartpole-1": _dqn_cartpole(1, 500_000),
    "dqn-cartpole-16": _dqn_cartpole(16, 30_000),
    "sac-pendulum-1": _continuous("sac", 1, 256, 64),
    "sac-pendulum-8": _continuous("sac", 8, 256, 64),
    "td3-pendulum-1": _continuous("td3", 1, 100, 64),
    "td3-pendulum-8": _continuous("td3", 8, 100, 64),
    "ppo-breakout-1": Case(
        title="PPO, Breakout-MinAtar, 1 seed",
        agent="ppo",
        env="Breakout-MinAtar",
        num_seeds=1,
        env_steps=1_000_000,
        config={"num_envs": 64, "num_minibatches": 8, "activation": "relu"},
        hp={"learning_rate": 5e-3},
        notes=["purejaxrl steps gymnax's rules (no sticky actions), ours the original's"],
    ),
}
