"""A2C's update by hand; that it learns."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs.spaces import Box, Discrete
from jaxrl import policies
from jaxrl.agents import a2c
from jaxrl.train import make_train
from jaxrl.types import Context, Transition


def batch(steps=5, num_envs=3, seed=0):
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, steps, num_envs, 3)).astype(np.float32)
    action = jnp.asarray(rng.integers(0, 2, (steps, num_envs)))
    flags = rng.random((2, steps, num_envs)) < 0.2
    goes_on = ~flags.any(0)[:-1, :, None]
    next_obs[:-1] = np.where(goes_on, obs[1:], next_obs[:-1])  # what the next step sees
    reward = jnp.asarray(rng.normal(size=(steps, num_envs)), jnp.float32)
    return Transition(obs, action, reward, *map(jnp.asarray, flags), next_obs, policies.Sampled(action, jnp.nan))


@pytest.mark.parametrize(("epsilon_in_root", "anneal"), [(True, True), (False, False)])
def test_update_is_one_step_of_rmsprop_on_the_loss_by_hand(epsilon_in_root, anneal):
    """After a quarter of a run that anneals, three quarters of the step size are left."""
    config = a2c.Config(hidden=(4,), epsilon_in_root=epsilon_in_root, anneal_learning_rate=anneal)
    hp = a2c.Hyperparams(
        learning_rate=0.01 / 0.75 if anneal else 0.01, gamma=0.9, entropy_coef=0.02, value_coef=0.7, max_grad_norm=1e9
    )
    nets = a2c.build(config, Box(-9, 9, (3,)), Discrete(2))
    learner, data = a2c.init_learner(nets, jax.random.key(0), hp), batch()
    context = Context(progress=jnp.float32(0.25 if anneal else 0.0))

    @jax.jit
    def update(learner):
        return a2c.update(config, nets, hp, context, learner, data, jax.random.key(1))

    new, (scalars, _) = update(learner)

    value, next_value = (np.asarray(nets.value(learner.params, x), np.float64) for x in (data.obs, data.next_obs))
    terminated, truncated, reward = (np.asarray(x) for x in (data.terminated, data.truncated, data.reward))
    target = np.zeros((5, 3))
    for b in range(3):  # n-step returns, forwards, up to an ending or the end of the rollout
        for t in range(5):
            weight = 1.0
            for k in range(t, 5):
                target[t, b] += weight * reward[k, b]
                weight *= 0.9
                if terminated[k, b]:
                    break
                if truncated[k, b] or k == 4:
                    target[t, b] += weight * next_value[k, b]
                    break

    def loss(params):
        logits = nets.policy(params, data.obs).logits
        log_probs = logits - jax.nn.logsumexp(logits, -1, keepdims=True)
        chosen = jnp.where(data.action == 0, log_probs[..., 0], log_probs[..., 1])
        critic = 0.5 * (nets.value(params, data.obs) - target) ** 2
        entropy = -(jnp.exp(log_probs) * log_probs).sum(-1)
        return (-chosen * (target - value) + 0.7 * critic - 0.02 * entropy).mean()

    want, grads = jax.jit(jax.value_and_grad(loss))(learner.params)
    np.testing.assert_allclose(scalars["loss"], want, rtol=1e-4)
    # RMSProp's first step: ν = 0.01 g², the step is lr · g / √(ν + ε) or lr · g / (√ν + ε).
    for (path, old), now, g in zip(
        jax.tree_util.tree_leaves_with_path(learner.params),
        jax.tree.leaves(new.params),
        jax.tree.leaves(grads),
        strict=True,
    ):
        root = np.sqrt(0.01 * np.square(g) + 1e-5) if epsilon_in_root else 0.1 * np.abs(g) + 1e-5
        step = 0.01 * g / root
        np.testing.assert_allclose(now, old - step, rtol=1e-3, atol=1e-5, err_msg=jax.tree_util.keystr(path))


@pytest.mark.slow
def test_learns_cartpole_quickly(optimised):
    """A random policy has a return of 22."""
    env, params = envs.make("CartPole-v1")
    result = optimised(make_train(a2c.make(env), env_steps=100_000, num_evals=1))(
        jax.random.key(1011), a2c.Hyperparams(), params
    )
    assert float(result.evaluation.returns[-1].mean()) >= 100
