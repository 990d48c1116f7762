"""CrossQ: batch renormalisation against flax and NumPy, the losses by hand, the joint batch, learning."""

import functools
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.errors import InputError
from jaxrl import networks
from jaxrl.agents import crossq
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

STILL = crossq.Hyperparams(learning_rate=0.0, gamma=0.9, temperature=0.2)


def test_batch_renormalisation_begins_as_flaxs_batch_normalisation():
    """Three batches, then their running statistics."""
    ours, theirs = networks.BatchRenorm(), nn.BatchNorm(momentum=0.99, epsilon=1e-3)
    batches = 2.0 + 3.0 * jax.random.normal(jax.random.key(0), (4, 32, 5))

    @jax.jit
    def run(batches):
        one = ours.init(jax.random.key(0), batches[0], False)
        other = theirs.init(jax.random.key(0), batches[0], use_running_average=True)
        out = []
        for batch in batches[:3]:
            y, changed = ours.apply(one, batch, True, mutable=["statistics"])
            z, moved = theirs.apply(other, batch, use_running_average=False, mutable=["batch_stats"])
            one, other = {**one, **changed}, {**other, **moved}
            out.append((y, z))
        out.append((ours.apply(one, batches[3], False), theirs.apply(other, batches[3], use_running_average=True)))
        return out

    for y, z in run(batches):
        np.testing.assert_allclose(y, z, rtol=1e-4, atol=1e-5)


def test_batch_renormalisation_after_its_warmup():
    """The batch's own normalisation, times r and shifted by d, within their bounds (arXiv:1702.03275, algorithm 1)."""
    module = networks.BatchRenorm(warmup=7)
    statistics = {
        "mean": jnp.array([0.5, 0.0, 0.0]),
        "variance": jnp.array([4.0, 1e-4, 1e4]),
        "batches": jnp.int32(7),
    }
    params = {"scale": jnp.array([2.0, 1.0, 1.0]), "bias": jnp.array([0.0, 1.0, 0.0])}
    x = np.random.default_rng(0).normal([1.0, 2.0, 3.0], 1.5, (16, 3)).astype(np.float32)

    def outputs(x) -> Any:
        return module.apply({"params": params, "statistics": statistics}, x, True, mutable=["statistics"])

    got, changed = outputs(jnp.asarray(x))
    std, batch_std = np.sqrt(np.asarray(statistics["variance"]) + 1e-3), np.sqrt(x.var(0) + 1e-3)
    r = np.clip(batch_std / std, 1 / 3, 3)
    d = np.clip((x.mean(0) - np.asarray(statistics["mean"])) / std, -5, 5)
    np.testing.assert_allclose(r[1:], [3, 1 / 3])  # both bounds are met …
    assert d[1] == 5
    assert 1 / 3 < r[0] < 3  # … and neither
    np.testing.assert_allclose(got, ((x - x.mean(0)) / batch_std * r + d) * params["scale"] + params["bias"], rtol=1e-4)
    np.testing.assert_allclose(changed["statistics"]["mean"], 0.99 * statistics["mean"] + 0.01 * x.mean(0), rtol=1e-5)
    assert changed["statistics"]["batches"] == 8


def simple_networks():
    """Values w·(s, a), where s has mean 0 in every batch: the centre of what a batch holds is taken off it."""

    def train(w, seen, x):
        return (x - x.mean(0) * jnp.array([1.0, 0.0])) @ w[:, None], seen + x.shape[0]

    critic = networks.Renormed(
        lambda key: (jnp.zeros(2), jnp.float32(0)), train, lambda w, seen, x: (x @ w)[..., None] + 0.0 * seen
    )
    actor = networks.Renormed(
        lambda key: (jnp.array([0.0, 0.0]), jnp.float32(0)),
        lambda w, seen, x: (w + 0.0 * x, seen + x.shape[0]),
        lambda w, seen, x: jnp.broadcast_to(w, (*x.shape[:-1], 2)) + 0.0 * seen,
    )
    return crossq.Networks(lambda obs: obs, actor, critic)


def test_losses_by_hand():
    """Observations 1 and 3 have the joint mean 2: so −1 and 1, Q(s, a) = −w₀ + a w₁, Q(s', a) = w₀ + a w₁."""
    nets = simple_networks()
    init = crossq.init_learner(nets, jax.random.key(0), STILL)
    weights = np.array([[2.0, 1.0], [-9.0, 0.5]])
    before = init._replace(actor=jnp.array([0.3, -15.0]), critics=jnp.asarray(weights, jnp.float32))
    update = jax.jit(functools.partial(crossq.update, crossq.Config(policy_delay=1), nets))
    # The policy is sure to act tanh(0.3); log π is that of a spread e⁻¹⁵ at the noise that was drawn.
    key_next, _ = jax.random.split(jax.random.key(0))
    noise = np.asarray(jax.random.normal(key_next, (4, 1)))[:, 0]
    action = np.tanh(0.3)
    log_prob = 15 - 0.5 * np.log(2 * np.pi) - 0.5 * noise**2 - np.log(1 - action**2)
    low = min(w @ [1, action] for w in weights)
    column, weight = jnp.ones((4, 1)), np.array([1.0, 1.0, 0.5, 0.0])
    for terminated, truncated in [(False, False), (False, True), (True, False)]:
        flags = jnp.full(4, terminated), jnp.full(4, truncated)
        batch = Transition(column, 0.2 * column, -column[:, 0], *flags, 3 * column, (), weight=jnp.asarray(weight))
        after, told = update(STILL, Context(), before, batch, jax.random.key(0))
        target = -1 + 0.9 * (1 - terminated) * (low - 0.2 * log_prob)
        errors = [target - (-w[0] + 0.2 * w[1]) for w in weights]
        np.testing.assert_allclose(
            told.scalars["critic_loss"], sum(0.5 * (weight * np.square(e)).mean() for e in errors), rtol=1e-3
        )
        np.testing.assert_allclose(told.priority, np.abs(errors).mean(0) * np.ones(4), rtol=1e-3)
        np.testing.assert_allclose(after.critics_statistics, [8.0, 8.0])  # both halves, in one pass
        np.testing.assert_allclose(after.actor_statistics, 4.0)
        # The policy's actions are judged by the running statistics, which here leave s as it is.
        np.testing.assert_allclose(told.scalars["actor_loss"], -0.2 * told.scalars["entropy"] - low, rtol=1e-3)


def test_what_does_not_fit_is_refused():
    with pytest.raises(InputError, match="crossq needs a Box action space"):
        crossq.make(envs.make("CartPole-v1")[0])
    with pytest.raises(InputError, match="policy_delay=2 does not divide num_updates=3"):
        crossq.make(envs.make("Pendulum-v1")[0], crossq.Config(policy_delay=2))


@pytest.mark.slow
def test_learns_pendulum(optimised):
    """10,000 steps; a random policy has −1236, the best −140."""
    env, params = envs.make("Pendulum-v1")
    config = crossq.Config(hidden=(64, 64), critic_hidden=(64, 64), batch_size=128)
    train = make_train(crossq.make(env, config), env_steps=10_000, num_evals=1)
    result = optimised(train)(jax.random.key(1000), crossq.Hyperparams(), params)
    assert float(result.evaluation.returns.mean()) >= -250
