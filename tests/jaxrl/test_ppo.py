import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import envs
import jaxrl
from envs.base import Env, Step
from envs.errors import InputError
from envs.spaces import Box, Discrete
from jaxrl import policies
from jaxrl.agents import ppo
from jaxrl.train import make_train
from jaxrl.types import Context, Transition

START = Context(progress=jnp.float32(0))


def batch(steps=8, num_envs=4, seed=0):
    rng = np.random.default_rng(seed)
    obs, next_obs = rng.normal(size=(2, steps, num_envs, 3)).astype(np.float32)
    action = rng.integers(0, 2, (steps, num_envs))
    flags = rng.random((2, steps, num_envs)) < 0.2
    goes_on = ~flags.any(0)[:-1, :, None]
    next_obs[:-1] = np.where(goes_on, obs[1:], next_obs[:-1])  # what the next step sees
    extras = policies.Sampled(jnp.asarray(action), jnp.full((steps, num_envs), -0.7))
    reward = jnp.asarray(rng.normal(size=(steps, num_envs)), jnp.float32)
    return Transition(obs, jnp.asarray(action), reward, *map(jnp.asarray, flags), next_obs, extras)


def numpy_mlp(params, x):
    torso = params["MLP_0"]
    for name in ("Dense_0", "Dense_1"):
        x = np.tanh(x @ torso[name]["kernel"] + torso[name]["bias"])
    head = params["policy"] if "policy" in params else params["value"]
    return x @ head["kernel"] + head["bias"]


def test_update_is_one_hand_computed_adam_step():
    """One epoch of one minibatch: the loss written out in NumPy, its gradient by finite differences."""
    config = ppo.Config(num_epochs=1, num_minibatches=1, hidden=(4, 4))
    hp = ppo.Hyperparams(learning_rate=0.01, gamma=0.9, gae_lambda=0.8, entropy_coef=0.02, max_grad_norm=0.3)
    nets = ppo.build(config, Box(-9, 9, (3,)), Discrete(2))
    learner = ppo.init_learner(nets, jax.random.key(0), hp)
    data = batch()

    @jax.jit
    def update(learner):
        return ppo.update(config, nets, ppo.loss, hp, START, learner, data, jax.random.key(1))

    new, (scalars, _) = update(learner)

    flat, unravel = jax.flatten_util.ravel_pytree(learner.params)
    flat = np.asarray(flat, np.float64)

    def forward(vector):
        params = jax.tree.map(lambda x: np.asarray(x, np.float64), _unravel64(unravel, vector, learner.params))
        logits = numpy_mlp(params["actor"], np.asarray(data.obs, np.float64))
        log_probs = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        value = numpy_mlp(params["critic"], np.asarray(data.obs, np.float64))[..., 0]
        next_value = numpy_mlp(params["critic"], np.asarray(data.next_obs, np.float64))[..., 0]
        return log_probs, value, next_value

    _, old_value, next_value = forward(flat)
    goes_on = ~np.asarray(data.terminated)
    ended = np.asarray(data.terminated | data.truncated)
    targets, g = np.zeros((8, 4)), next_value[-1]
    for t in reversed(range(8)):
        lam = 0.8 * ~ended[t]
        g = np.asarray(data.reward[t]) + 0.9 * goes_on[t] * ((1 - lam) * next_value[t] + lam * g)
        targets[t] = g
    advantage = targets - old_value
    normalized = (advantage - advantage.mean()) / (advantage.std() + 1e-8)

    def loss(vector):
        log_probs, value, _ = forward(vector)
        chosen = np.take_along_axis(log_probs, np.asarray(data.action)[..., None], -1)[..., 0]
        ratio = np.exp(chosen + 0.7)
        policy = -np.minimum(ratio * normalized, np.clip(ratio, 0.8, 1.2) * normalized).mean()
        near = old_value + np.clip(value - old_value, -0.2, 0.2)
        critic = (0.5 * np.maximum((value - targets) ** 2, (near - targets) ** 2)).mean()
        entropy = -(np.exp(log_probs) * log_probs).sum(-1).mean()
        return policy + 0.5 * critic - 0.02 * entropy

    np.testing.assert_allclose(scalars["loss"], loss(flat), rtol=1e-4)
    step = 1e-6
    grad = np.array([(loss(flat + step * e) - loss(flat - step * e)) / (2 * step) for e in np.eye(len(flat))])
    norm = np.linalg.norm(grad)  # over actor and critic together
    np.testing.assert_allclose(scalars["grad_norm"], norm, rtol=1e-3)
    assert norm > 0.3
    clipped = grad * 0.3 / norm
    # Adam's first step: m̂ = g, v̂ = g².
    want = flat - 0.01 * clipped / (np.abs(clipped) + 1e-5)
    got = np.asarray(jax.flatten_util.ravel_pytree(new.params)[0])
    large = np.abs(clipped) > 1e-4  # where the sign of a finite difference is certain
    assert large.mean() > 0.5
    np.testing.assert_allclose(got[large], want[large], atol=2e-5)


def _unravel64(unravel, vector, template):
    """Unravels without rounding to float32, which a finite difference would not survive."""
    leaves, structure = jax.tree.flatten(template)
    out, start = [], 0
    for leaf in leaves:
        out.append(vector[start : start + leaf.size].reshape(leaf.shape))
        start += leaf.size
    return jax.tree.unflatten(structure, out)


def test_early_stop_throws_the_rest_of_an_update_away():
    """Minibatch by minibatch in Python, left at the first whose KL is too large; and a bound that is never met."""
    config = ppo.Config(num_epochs=3, num_minibatches=2, hidden=(4,), early_stop=True)
    hp = ppo.Hyperparams(learning_rate=0.02, target_kl=0.004, max_grad_norm=10.0)
    nets = ppo.build(config, Box(-9, 9, (3,)), Discrete(2))
    learner = ppo.init_learner(nets, jax.random.key(0), hp)
    data, key = batch(steps=16), jax.random.key(2)
    log_prob = nets.policy(learner.params, data.obs).log_prob(data.action)
    data = data._replace(extras=data.extras._replace(log_prob=log_prob))

    @jax.jit
    def update(hp):
        return ppo.update(config, nets, ppo.loss, hp, START, learner, data, key)

    stopped, (scalars, _) = update(hp)
    applied = round(float(scalars["applied"]) * 6)
    assert 1 < applied < 6
    assert float(scalars["approx_kl"]) <= 1.5 * 0.004
    # Adam counts the steps that it has taken.
    assert int(optax.tree.get(stopped.opt_state, "count")) == applied
    whole, (scalars, _) = update(dataclasses.replace(hp, target_kl=1e9))
    assert float(scalars["applied"]) == 1.0
    assert int(optax.tree.get(whole.opt_state, "count")) == 6
    plain = ppo.Config(num_epochs=3, num_minibatches=2, hidden=(4,))
    want, _ = jax.jit(lambda learner: ppo.update(plain, nets, ppo.loss, hp, START, learner, data, key))(learner)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(want), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


def test_penalty_doubles_and_halves_and_its_gradient_holds_the_policy():
    config = ppo.Config(num_epochs=4, num_minibatches=1, hidden=(4,), surrogate="kl_penalty")
    hp = ppo.Hyperparams(learning_rate=0.02, entropy_coef=0.0, max_grad_norm=10.0)
    nets = ppo.build(config, Box(-9, 9, (3,)), Discrete(2))
    learner = ppo.init_learner(nets, jax.random.key(0), hp)
    data = batch(steps=16)
    old = nets.policy(learner.params, data.obs)
    data = data._replace(extras=data.extras._replace(log_prob=old.log_prob(data.action)))

    @jax.jit
    def update(hp, beta):
        changed = learner._replace(kl_coef=beta)
        return ppo.update(config, nets, ppo.loss, hp, START, changed, data, jax.random.key(1))

    moved = []
    for beta in (0.0, 1.0, 100.0):
        new, (scalars, _) = update(hp, jnp.float32(beta))
        kl = float(old.kl(nets.policy(new.params, data.obs)).mean())
        np.testing.assert_allclose(scalars["kl"], kl, rtol=1e-3, atol=1e-7)
        moved.append(kl)
    assert moved[0] > moved[1] > moved[2] > 0
    for target, factor in ((moved[1] / 1.6, 2.0), (moved[1] / 1.4, 1.0), (moved[1] * 1.4, 1.0), (moved[1] * 1.6, 0.5)):
        new, _ = update(dataclasses.replace(hp, target_kl=target), jnp.float32(1.0))
        assert float(new.kl_coef) == factor


@dataclasses.dataclass(frozen=True)
class Forbidden(Env):
    """One step, three actions that pay 0, 1 and 2; the best is masked in half of the episodes."""

    @property
    def observation_space(self):
        return {"coin": Box(0.0, 1.0, (1,)), "action_mask": Box(0, 1, (3,), jnp.bool_)}

    @property
    def action_space(self):
        return Discrete(3)

    def default_params(self):
        return ()

    def reset(self, key, params):
        return self.observe(jax.random.bernoulli(key))

    def observe(self, coin):
        return {"coin": jnp.zeros(1), "action_mask": jnp.array([True, True, False]).at[2].set(coin)}, coin

    def step(self, key, state, action, params):
        reward = jnp.where((action == 2) & ~state, -100.0, action.astype(jnp.float32))
        return Step(self.observe(state)[0], state, reward, jnp.bool_(True), {})


def test_masked_actions_are_not_taken_while_learning_or_after(optimised):
    """The network does not see when the best action is forbidden (at a price of 100); the mask alone keeps it away."""
    env = Forbidden()
    agent = ppo.make(env, ppo.Config(num_envs=16, rollout_length=8, num_minibatches=2, hidden=(4,)))

    @optimised
    def learn(key):
        start = agent.init(key, ppo.Hyperparams(learning_rate=0.02, total_steps=1e6), ())
        state, metrics = jaxrl.run(agent, start, 60)
        played = jaxrl.evaluate(env, (), agent.policy(state), jax.random.key(1), 256, max_steps=1)
        return metrics.episodes.return_sum.sum(), metrics.episodes.count.sum(), played.returns

    total, count, returns = learn(jax.random.key(0))
    assert float(total / count) > 1.2  # one forbidden action in a hundred would cost a whole unit
    assert set(np.unique(returns)) == {1.0, 2.0}
    np.testing.assert_allclose(returns.mean(), 1.5, atol=0.15)


@pytest.mark.slow
def test_pictures_through_the_nature_cnn_and_a_frame_stack():
    """Two updates on 84 × 84 bytes, four frames: all parameters move and none becomes NaN."""
    env, params = envs.make("Breakout-Pixels-v0")
    assert env.observation_space.shape == (84, 84, 4)
    config = ppo.Config(
        num_envs=2,
        rollout_length=8,
        num_epochs=1,
        num_minibatches=1,
        torso="nature_cnn",
        hidden=(16,),
        shared_torso=True,
    )
    agent = ppo.make(env, config)

    @jax.jit
    def learn(key):
        start = agent.init(key, ppo.Hyperparams(total_steps=1e6), params)
        return start.learner.params, jaxrl.run(agent, start, 2)[0].learner.params

    before, after = learn(jax.random.key(0))
    for (path, old), new in zip(jax.tree_util.tree_leaves_with_path(before), jax.tree.leaves(after), strict=True):
        assert np.isfinite(new).all(), jax.tree_util.keystr(path)
        assert (old != new).any(), jax.tree_util.keystr(path)


@pytest.mark.parametrize("shared", [False, True])
def test_gaussian_policy_acts_inside_the_box(shared):
    env, params = envs.make("Pendulum-v1")
    agent = ppo.make(env, ppo.Config(num_envs=4, rollout_length=8, num_minibatches=1, hidden=(8,), shared_torso=shared))
    state, metrics = jax.jit(lambda key: agent.step(agent.init(key, ppo.Hyperparams(total_steps=1e4), params)))(
        jax.random.key(0)
    )
    action, _, _ = agent.policy(state).act(jax.random.key(0), 100 * jnp.ones((5, 3)), ())
    assert action.shape == (5, 1)
    assert bool((jnp.abs(action) <= 2.0).all())
    np.testing.assert_allclose(metrics.scalars["entropy"], 1.4189, atol=0.01)  # of a standard normal


def test_annealing_reaches_zero_and_stays():
    env, params = envs.make("CartPole-v1")
    agent = ppo.make(env, ppo.Config(num_envs=2, rollout_length=8, num_minibatches=1, hidden=(4,)))
    hp = ppo.Hyperparams(total_steps=3.0 * agent.steps_per_iteration)

    @jax.jit
    def trajectory(key):
        def step(state, _):
            state, _ = agent.step(state)
            return state, state.learner.params["critic"]["value"]["bias"]

        return jax.lax.scan(step, agent.init(key, hp, params), None, length=6)[1]

    bias = np.asarray(trajectory(jax.random.key(0)))
    assert bias[1] != bias[2]
    assert bias[2] == bias[3] == bias[5]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_minibatches": 3}, r"num_minibatches=3 does not divide .* = 4 · 128 = 512"),
        ({"num_minibatches": 0}, "num_minibatches=0"),
    ],
)
def test_sizes_that_do_not_divide(options, message):
    env, _ = envs.make("CartPole-v1")
    with pytest.raises(InputError, match=message):
        ppo.make(env, ppo.Config(**options))


def test_spaces_that_do_not_fit():
    env, _ = envs.make("GridWorld-4x4")
    with pytest.raises(InputError, match="normalize_obs"):
        ppo.make(env, ppo.Config(normalize_obs=True))


def test_learns_cartpole_quickly(optimised):
    """100,000 steps at CleanRL's settings reach a return of several hundred; a random policy has 22."""
    env, params = envs.make("CartPole-v1")
    train = make_train(ppo.make(env), env_steps=100_000, num_evals=1)
    result = optimised(train)(jax.random.key(11), ppo.Hyperparams(), params)
    assert float(result.evaluation.returns[-1].mean()) >= 200


@pytest.mark.slow
def test_learns_pendulum():
    env, params = envs.make("Pendulum-v1")
    config = ppo.Config(num_envs=8, num_epochs=10, normalize_obs=True, normalize_reward=True)
    hp = ppo.Hyperparams(learning_rate=1e-3, gamma=0.95, entropy_coef=0.0)
    out = jaxrl.fit(ppo.make(env, config), params, hp, seeds=range(20, 24), env_steps=500_000, num_evals=1)
    assert float(out.results.evaluation_return.isel(env_step=-1).mean()) >= -250


def test_optimizer_clips_the_global_norm():
    optimizer = ppo.optimizer(ppo.Hyperparams(max_grad_norm=1.0))
    params = {"actor": jnp.zeros(2), "critic": jnp.zeros(2)}
    grads = {"actor": jnp.array([3.0, 0.0]), "critic": jnp.array([0.0, 4.0])}
    clip, _ = optax.clip_by_global_norm(1.0).update(grads, optax.EmptyState())
    np.testing.assert_allclose(clip["actor"], [0.6, 0.0])
    _, state = optimizer.update(grads, optimizer.init(params))
    np.testing.assert_allclose(state[1][0].mu, [0.06, 0.0, 0.0, 0.08], rtol=1e-6)  # (1 − 0.9) · 0.6 and 0.8
