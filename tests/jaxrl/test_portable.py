import io
import json
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

import envs
from envs import spaces
from envs.errors import InputError
from jaxrl import portable
from jaxrl.agents import ppo
from jaxrl.export import export_policy, reason_against
from jaxrl.types import Policy

OBSERVATIONS = 100
VECTOR = spaces.Box(-np.inf, np.inf, (6,))
ACTIONS = spaces.Discrete(4)
TORQUES = spaces.Box(-2.0, 2.0, (3,))


class State(NamedTuple):
    params: dict
    key: jax.Array
    replay: jax.Array


class Actor(nn.Module):
    """tanh and relu layers, layer norm, softplus, a dueling head: what the agents' networks are made of."""

    @nn.compact
    def __call__(self, x):
        x = nn.tanh(nn.Dense(16)(x))
        x = nn.LayerNorm()(nn.relu(nn.Dense(16)(x)))
        x = nn.gelu(x) + nn.elu(x) + nn.silu(x) + nn.softplus(x) + nn.leaky_relu(x)
        advantage = nn.Dense(4)(x)
        return nn.Dense(1)(x) + advantage - advantage.mean(-1, keepdims=True)


class Pixels(nn.Module):
    @nn.compact
    def __call__(self, x):
        x = x.astype(jnp.float32) / 255
        x = nn.relu(nn.Conv(8, (3, 3), (2, 2))(x))
        x = nn.relu(nn.Conv(8, (3, 3), padding="VALID", kernel_dilation=(2, 2), feature_group_count=2)(x))
        x = nn.max_pool(x, (2, 2), (1, 1)) + nn.avg_pool(x, (2, 2), (1, 1))
        return nn.Dense(4)(x.reshape(x.shape[0], -1))


def random_params(module, *inputs):
    """Parameters of the right shapes, none of them zero. NumPy draws them: compiling JAX's generator takes seconds."""
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(module.init, jax.random.key(0), *inputs)
    return jax.tree.map(lambda leaf: jnp.asarray(0.3 * rng.standard_normal(leaf.shape, np.float32)), shapes)


def run_state(params):
    return State(params, jax.random.key(7), jnp.zeros((1000, 6)))


def feed_forward(act):
    """An agent's `policy` whose action is act(state, obs)."""

    def policy(state):
        return Policy(lambda key, obs, memory: (act(state, obs), memory, {}))

    return policy


def draw(space, count=OBSERVATIONS):
    """A batch of elements, [count, ...]; unbounded ones are normal."""
    rng = np.random.default_rng(3)

    def part(space):
        if isinstance(space, dict):
            return {name: part(inner) for name, inner in space.items()}
        if isinstance(space, tuple):
            return tuple(map(part, space))
        shape = (count, *space.shape)
        if not isinstance(space, spaces.Box):
            limits = space.n if isinstance(space, spaces.Discrete) else space.nvec
            return rng.integers(limits, size=shape).astype(np.int32)
        bounded = np.isfinite(space.lower).all()
        drawn = rng.uniform(space.low, space.high, shape) if bounded else rng.normal(size=shape)
        return drawn.astype(space.dtype)

    return part(space)


def check_same(tmp_path, policy_fn, state, obs_space, action_space, atol=1e-5):
    """NumPy's actions, one by one, against JAX's in a batch; returns the policy read back."""
    path = export_policy(tmp_path / "policy.npz", policy_fn, state, obs_space, action_space, meta={"agent": "test"})
    policy = portable.load(path)
    obs = draw(obs_space)
    expected, _, _ = jax.jit(policy_fn(state).act)(jax.random.key(0), obs, ())
    # a batch of JAX and one observation at a time can differ in the last bit, and in an argmax only where values tie
    for i in range(OBSERVATIONS):
        action, memory = policy.act(jax.tree.map(lambda x, i=i: np.asarray(x[i]), obs))
        assert memory == ()
        want = jax.tree.map(lambda x, i=i: np.asarray(x[i]), expected)
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=atol), action, want)
        assert spaces.contains(action_space, action)
    return policy


def test_layers_and_a_dueling_head(tmp_path):
    network = Actor()
    state = run_state(random_params(network, jnp.zeros((1, 6))))
    greedy = feed_forward(lambda s, obs: jnp.argmax(network.apply(s.params, obs), -1).astype(jnp.int32))
    policy = check_same(tmp_path, greedy, state, VECTOR, ACTIONS)
    assert policy.meta == {"agent": "test"}
    # only what the action needs, under its name in the state; the replay and the key stay behind
    assert "params.params.Dense_0.kernel" in policy.weights
    assert not any(name.startswith(("replay", "key")) for name in policy.weights)
    values = feed_forward(lambda s, obs: network.apply(s.params, obs))
    check_same(tmp_path, values, state, VECTOR, spaces.Box(-np.inf, np.inf, (4,)))


def test_convolutions_of_uint8_pictures(tmp_path):
    network = Pixels()
    space = spaces.Box(0, 255, (12, 12, 3), np.uint8)
    state = run_state(random_params(network, jnp.zeros((1, 12, 12, 3))))
    values = feed_forward(lambda s, obs: network.apply(s.params, obs))
    policy = check_same(tmp_path, values, state, space, spaces.Box(-np.inf, np.inf, (4,)))
    assert policy.observation_space == {"kind": "box", "low": 0, "high": 255, "shape": [12, 12, 3], "dtype": "uint8"}


def test_squashed_action_and_normaliser(tmp_path):
    network = nn.Dense(6)
    params = random_params(network, jnp.zeros((1, 6)))
    state = {"net": params, "mean": jnp.arange(6.0), "var": jnp.linspace(0.1, 2, 6), "count": jnp.float32(10)}

    def act(s, obs):
        obs = jnp.clip((obs - s["mean"]) * jax.lax.rsqrt(s["var"] + 1e-8), -5, 5)
        mean, _ = jnp.split(network.apply(s["net"], obs), 2, -1)
        return jnp.tanh(mean) * 2.0

    policy = check_same(tmp_path, feed_forward(act), state, VECTOR, TORQUES)
    assert {"mean", "var"} < set(policy.weights)
    assert "count" not in policy.weights
    assert policy.observation_space["low"] == "-inf"


def test_q_table_with_discrete_observations(tmp_path):
    table = jnp.asarray(np.random.default_rng(1).normal(size=(16, 4)), jnp.float32)
    by_index = feed_forward(lambda s, obs: jnp.argmax(s[obs], -1))
    by_one_hot = feed_forward(lambda s, obs: jnp.argmax(jax.nn.one_hot(obs, 16) @ s, -1))
    by_lane = feed_forward(lambda s, obs: jax.vmap(lambda o: jnp.argmax(jax.lax.dynamic_slice(s, (o, 0), (1, 4))))(obs))
    for policy_fn in (by_index, by_one_hot, by_lane):
        policy = check_same(tmp_path, policy_fn, table, spaces.Discrete(16), ACTIONS)
    assert list(policy.weights) == ["state"]
    with pytest.raises(InputError, match="outside its space"):
        policy.act(16)


def test_nested_spaces(tmp_path):
    space = {"pair": (spaces.Discrete(3), spaces.MultiDiscrete((2, 5))), "x": spaces.Box(-1.0, 1.0, (2, 2))}
    actions = {"b": spaces.Discrete(2), "a": (spaces.Box(-9.0, 9.0, (2,)),)}

    def act(s, obs):
        flat = spaces.flatten(space, obs)
        return {"b": (flat @ s > 0).astype(jnp.int32), "a": (jnp.stack([flat.sum(-1), flat.min(-1)], -1),)}

    policy = check_same(tmp_path, feed_forward(act), jnp.linspace(-1, 1, 14), space, actions)
    good = {"pair": (1, np.array([1, 4])), "x": np.zeros((2, 2))}
    policy.act(good)
    for bad, message in (
        ({"x": np.zeros((2, 2))}, "must be a dict of pair, x"),
        ({**good, "pair": (1,)}, "must be a tuple of 2"),
        ({**good, "x": np.zeros((1, 2, 2))}, r"observation\['x'\] must have shape \(2, 2\)"),
        ({**good, "pair": (0.5, np.array([1, 4]))}, "must be int32, not float64"),
        ({**good, "pair": (1, np.array([1, 5]))}, "outside its space"),
    ):
        with pytest.raises(InputError, match=message):
            policy.act(bad)


class Recurrent(nn.Module):
    """A GRU that is unrolled over a time axis of one step, as recurrent agents do it."""

    @nn.compact
    def __call__(self, carry, obs):
        scan = nn.scan(nn.GRUCell, variable_broadcast="params", split_rngs={"params": False}, in_axes=1, out_axes=1)
        carry, features = scan(8)(carry, obs[:, None])
        return carry, nn.Dense(3)(features[:, 0])


def test_recurrent_policy_with_memory(tmp_path):
    network = Recurrent()
    params = random_params(network, jnp.zeros((1, 8)), jnp.zeros((1, 6)))

    def policy_fn(state):
        def act(key, obs, memory):
            carry, out = network.apply(state.params, memory["carry"], obs)
            return 2 * jnp.tanh(out), {"carry": carry, "t": memory["t"] + 1}, {}

        return Policy(act, {"carry": jnp.full(8, 0.1), "t": jnp.int32(0)})

    policy = portable.load(export_policy(tmp_path / "p.npz", policy_fn, run_state(params), VECTOR, TORQUES))
    act = jax.jit(policy_fn(run_state(params)).act)
    batched = jax.tree.map(lambda x: x[None], policy_fn(run_state(params)).memory)
    memory = None
    for obs in draw(VECTOR):
        want, batched, _ = act(jax.random.key(0), obs[None], batched)
        action, memory = policy.act(np.asarray(obs), memory)
        np.testing.assert_allclose(action, want[0], atol=1e-5)
    np.testing.assert_allclose(memory[0], batched["carry"][0], atol=1e-5)
    assert int(memory[1]) == OBSERVATIONS
    again, _ = policy.act(np.asarray(draw(VECTOR)[0]))  # the policy itself has not changed
    np.testing.assert_allclose(again, policy.act(np.asarray(draw(VECTOR)[0]), None)[0])
    with pytest.raises(InputError, match="memory"):
        policy.act(np.zeros(6, np.float32), ())


def wrapped(function, x):
    """A call of every kind that is inlined."""

    @jax.custom_vjp
    def doubled(x):
        return 2 * x

    doubled.defvjp(lambda x: (2 * x, None), lambda _, g: (2 * g,))
    return jax.checkpoint(jax.jit(function))(doubled(x)) / 2


X = np.linspace(-3, 3, 24, dtype=np.float32).reshape(2, 3, 4)
COUNT = np.arange(24, dtype=np.int32).reshape(2, 3, 4) - 11
OPERATIONS = {
    "unary": lambda x, i: sum(
        f(0.3 * x)
        for f in (jnp.sin, jnp.cos, jnp.tan, jnp.sinh, jnp.cosh, jnp.exp2, jnp.expm1, jnp.cbrt, jnp.square, jnp.arctan)
    ),
    "inverse": lambda x, i: jnp.arcsin(x / 4) + jnp.arccos(x / 4) + jnp.arctanh(x / 4) + jnp.arcsinh(x),
    "special": lambda x, i: jax.lax.erf(x) + jax.lax.erfc(x) + jax.lax.lgamma(x * x + 1) + jax.nn.sigmoid(x),
    "logs": lambda x, i: jnp.log(x * x + 1) + jnp.log1p(x * x) + jnp.sqrt(x * x) + jnp.arccosh(x * x + 1),
    "rounding": lambda x, i: jnp.floor(x) + 2 * jnp.ceil(x) + 3 * jnp.round(x) + 5 * jax.lax.round(x) + jnp.sign(x),
    "powers": lambda x, i: x**3 + x**-2 + (x * x) ** x + jnp.arctan2(x, x + 1),
    "integers": lambda x, i: (i // 3) + 7 * (i % 4) + 11 * jax.lax.div(i, 5) + 13 * jax.lax.rem(i, 5),
    "bits": lambda x, i: (i & 6) + (i | 1) + (i ^ 3) + ~i,
    "comparisons": lambda x, i: ((x > 0) & (x <= 2)) | (i == -11) | ~(x != x) & (i >= 3) ^ (x < -1),
    "finite": lambda x, i: jnp.isfinite(1 / (x - x[0, 0, 0])) & ~jnp.isnan(jnp.log(x)),
    "conversions": lambda x, i: (1e12 * x).astype(jnp.int32) // 2 + (100 * x).astype(jnp.uint8) + i.astype(jnp.int8),
    "clamp": lambda x, i: jnp.clip(x, -1, 2) + jax.lax.clamp(-1.0, x, 1.0) + jnp.minimum(x, 0),
    "reductions": lambda x, i: x.sum((0, 2)) + x.max((0, 2)) + x.min((0, 2)) + x.prod((0, 2)) + x.var((0, 2)),
    "logic": lambda x, i: (x > 0).all((0, 2)) ^ (x > 2).any((0, 2)),
    "argmin": lambda x, i: jnp.argmin(jnp.sin(x), 1) + jnp.argmax(jnp.cos(x), 1) + jnp.argmax(x),
    "softmax": lambda x, i: jax.nn.softmax(x) + jax.nn.log_softmax(x, 1) + jax.nn.logsumexp(x, 0),
    "shapes": lambda x, i: jnp.concatenate([x.reshape(4, 6).T, jnp.flip(x, (0, 2)).reshape(6, 4)], 0)[1:9:2, ::-1],
    "padding": lambda x, i: jax.lax.pad(x, 7.0, ((1, 0, 0), (-1, 2, 1), (2, -1, 0))),
    "splits": lambda x, i: jnp.split(x, [1, 3], -1)[1] + jnp.repeat(x, 2, 2)[..., :2] + jnp.tile(x, 2)[..., 4:6],
    "einsum": lambda x, i: jnp.einsum("abc,abd->bcd", x, x) + jnp.einsum("abc,dbc->abd", x, x).sum(),
    "integer matmul": lambda x, i: i[0] @ i[1].T,
    "running": lambda x, i: jnp.cumsum(x, 1) + jnp.cumprod(x, 2) + jax.lax.cummax(jnp.sin(x), 0),
    "running back": lambda x, i: jax.lax.cumsum(x, 1, reverse=True) + jax.lax.cumlogsumexp(x, 2, reverse=True),
    "sorting": lambda x, i: jnp.sort(jnp.sin(x), 1) + jnp.argsort(jnp.cos(3 * x), -1),
    "median": lambda x, i: jnp.median(x, -1),
    "iota": lambda x, i: jnp.arange(12).reshape(3, 4) * i + jnp.eye(4)[1:],
    "table": lambda x, i: x[i[0] % 2, :, i[1] % 4] + x[1, -1, 2],
    "take": lambda x, i: jnp.take(x, i[0] + 5, 1) + jnp.take(x, i[0], 1, mode="clip")[0],
    "take integers": lambda x, i: jnp.take(i, i[0], 1, mode="fill") // 2,
    "along": lambda x, i: (
        jnp.take_along_axis(x, i % 4, -1) + jnp.take_along_axis(x, jnp.argmax(x, 1, keepdims=True), 1)
    ),
    "lanes": lambda x, i: jax.vmap(lambda a, b: a[b[0, 0] % 3, b[0] % 4])(x, i),
    "dynamic slice": lambda x, i: jax.lax.dynamic_slice(x, (i[1, 2, 3], i[0, 0, 0], 1), (1, 2, 3)),
    "dynamic update": lambda x, i: jax.lax.dynamic_update_slice(x, -x[:1, :2], (i[1, 2, 3], i[0, 0, 0], 1)),
    "set": lambda x, i: x.at[:, i[0, :, 0] % 3].set(7.0, unique_indices=False).at[0, 1].set(x[1, 1]),
    "set outside": lambda x, i: x.at[:, :, i[0, 0] + 13].set(-x, mode="drop"),
    "add at": lambda x, i: x.at[:, jnp.array([0, 0, 1])].add(x),
    "stacks": lambda x, i: jnp.stack([x, -x], 1) + jnp.stack(jnp.unstack(x, axis=2), -1)[:, None],
    "where": lambda x, i: jax.lax.select_n(i % 3, x, -x, 2 * x) + jnp.where(x > 0, x, 0.0),
    "branches": lambda x, i: (
        jax.lax.switch(i[1, 2, 0], [jnp.sin, jnp.cos, jnp.tanh], x)
        + jax.lax.cond(x[0, 0, 0] > 0, lambda x: x, lambda x: -x, x)
    ),
    "loops": lambda x, i: (
        jax.lax.scan(lambda c, y: (c + y, c * y), x[0], x, reverse=True)[1]
        + jax.lax.fori_loop(0, 3, lambda j, c: c + j, x)
    ),
    "calls": lambda x, i: wrapped(jnp.sin, x) + jax.lax.stop_gradient(x) + jnp.linalg.norm(x, axis=0),
    "bitcast": lambda x, i: jax.lax.bitcast_convert_type(x, jnp.int32) // 2,
    "transposed convolution": lambda x, i: jax.lax.conv_transpose(
        x, jnp.asarray(np.sin(np.arange(40, dtype=np.float32)).reshape(2, 4, 5)), (2,), "SAME"
    ),
    "windows": lambda x, i: (
        jax.lax.reduce_window(x, jnp.inf, jax.lax.min, (1, 2, 3), (1, 1, 2), "SAME")
        + jax.lax.reduce_window(i, 0, jax.lax.add, (1, 2, 3), (1, 1, 2), "SAME")
    ),
    "infinities": lambda x, i: jnp.where(x > 0, jnp.inf, -jnp.inf) * x,
}


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(tmp_path, name):
    """Each operation on arrays that depend on the observation, so that nothing is computed in advance."""

    def compute(obs):
        return OPERATIONS[name](jnp.asarray(X) * obs[0, 0], jnp.asarray(COUNT) * obs[0, 1].astype(jnp.int32))

    want = np.asarray(jax.jit(compute)(jnp.ones((1, 2))))
    policy_fn = feed_forward(lambda s, obs: compute(obs)[None])
    space = spaces.Box(-np.inf, np.inf, want.shape)
    path = export_policy(tmp_path / "p.npz", policy_fn, (), spaces.Box(0.0, 1.0, (2,)), space)
    action, _ = portable.load(path).act(np.ones(2, np.float32))
    assert action.dtype == want.dtype
    np.testing.assert_allclose(action, want, rtol=2e-5, atol=2e-5)


def test_the_file_alone_and_numpy_alone(tmp_path):
    """What a user does on a machine without JAX: this one file, copied, and the policy."""
    network = Actor()
    state = run_state(random_params(network, jnp.zeros((1, 6))))
    greedy = feed_forward(lambda s, obs: jnp.argmax(network.apply(s.params, obs), -1))
    export_policy(tmp_path / "policy.npz", greedy, state, VECTOR, ACTIONS)
    shutil.copy(portable.__file__, tmp_path / "portable.py")
    (tmp_path / "broken.npz").write_bytes(b"PK" + bytes(100))
    program = """
import importlib.util, sys
import numpy as np
spec = importlib.util.spec_from_file_location("portable", "portable.py")
portable = importlib.util.module_from_spec(spec)
spec.loader.exec_module(portable)
policy = portable.load("policy.npz")
actions = [int(policy.act(obs)[0]) for obs in np.load("obs.npy")]
try:
    portable.load("broken.npz")
except ValueError as error:
    assert "broken.npz is damaged" in str(error)
foreign = {name.split(".")[0] for name in sys.modules} & {"jax", "jaxlib", "flax", "jaxrl", "envs", "scipy", "xarray"}
assert not foreign, foreign
print(actions)
"""
    obs = draw(VECTOR)
    np.save(tmp_path / "obs.npy", np.asarray(obs))
    out = subprocess.run(
        [sys.executable, "-W", "error", "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=60
    )
    assert out.returncode == 0, out.stderr
    expected, _, _ = greedy(state).act(jax.random.key(0), obs, ())
    assert json.loads(out.stdout) == np.asarray(expected).tolist()


def test_the_same_policy_makes_the_same_bytes(tmp_path):
    greedy = feed_forward(lambda s, obs: jnp.argmax(obs @ s, -1))
    weights = jnp.arange(24.0).reshape(6, 4)
    first, second = (export_policy(tmp_path / n, greedy, weights, VECTOR, ACTIONS) for n in ("a.npz", "b.npz"))
    assert first.read_bytes() == second.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]
    with np.load(first, allow_pickle=False) as file:
        assert sorted(file.files) == ["__policy__", "state"]
        json.loads(file["__policy__"].tobytes())


def test_a_random_policy_is_refused(tmp_path):
    def from_key(state):
        return Policy(lambda key, obs, memory: (jax.random.randint(key, (1,), 0, 4), memory, {}))

    def from_state(state):
        noise = jax.random.normal(state.key, (1, 4))
        return Policy(lambda key, obs, memory: (jnp.argmax(obs[:, :4] + noise, -1), memory, {}))

    def from_constant(state):
        return Policy(lambda key, obs, memory: (jax.random.randint(jax.random.key(0), (1,), 0, 4), memory, {}))

    for policy_fn in (from_key, from_state, from_constant):
        with pytest.raises(InputError, match="draws random numbers"):
            export_policy(tmp_path / "p.npz", policy_fn, run_state({}), VECTOR, ACTIONS)
    assert list(tmp_path.iterdir()) == []


def test_unused_randomness_is_no_obstacle(tmp_path):
    def policy_fn(state):
        def act(key, obs, memory):
            extra = jax.random.normal(jax.random.split(key)[0], (3,))
            return jnp.argmax(obs[:, :4], -1), memory, {"noise": extra}

        return Policy(act)

    check_same(tmp_path, policy_fn, run_state({}), VECTOR, ACTIONS)


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda s, obs: jnp.argmax(jax.lax.while_loop(lambda x: x.sum() < 1, lambda x: x + 1, obs)[:, :4], -1),
            "while",
        ),
        (lambda s, obs: jnp.argmax(obs[:, :4].astype(jnp.bfloat16) * 2, -1), "bfloat16"),
        (lambda s, obs: jnp.argmax(jax.lax.digamma(obs)[:, :4], -1), "digamma"),
        (lambda s, obs: jnp.argmax(obs), "do not fit"),
        (lambda s, obs: {"a": jnp.argmax(obs, -1)}, "do not fit"),
    ],
)
def test_what_cannot_be_exported_is_named(tmp_path, act, message):
    with pytest.raises(InputError, match=message):
        export_policy(tmp_path / "p.npz", feed_forward(act), run_state({}), VECTOR, ACTIONS)


def test_bad_destinations_and_sources(tmp_path):
    greedy = feed_forward(lambda s, obs: jnp.argmax(obs @ s, -1))
    weights = jnp.arange(24.0).reshape(6, 4)
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "missing" / "p.npz", tmp_path / "file" / "p.npz"):
        with pytest.raises(InputError, match="cannot write"):
            export_policy(place, greedy, weights, VECTOR, ACTIONS)
    with pytest.raises(InputError, match="there is no policy file"):
        portable.load(tmp_path / "none.npz")

    good = export_policy(tmp_path / "good.npz", greedy, weights, VECTOR, ACTIONS)
    whole = good.read_bytes()
    bad = tmp_path / "bad.npz"
    for content in (b"", b"text", whole[: len(whole) // 2], whole[:-1]):
        bad.write_bytes(content)
        with pytest.raises(InputError, match="damaged"):
            portable.load(bad)
    refused = 0
    for i in range(0, len(whole), 7):  # a bit that flips is noticed, or is one that no reader looks at
        bad.write_bytes(whole[:i] + bytes([whole[i] ^ 16]) + whole[i + 1 :])
        try:
            np.testing.assert_array_equal(portable.load(bad).weights["state"], weights)
        except InputError:
            refused += 1
    assert refused > len(whole) / 7 / 2
    np.savez(bad, weights=np.ones(3))
    with pytest.raises(InputError, match="no policy file"):
        portable.load(bad)
    np.savez(bad, weights=np.array([{}], object))  # pickled: never read
    with pytest.raises(InputError, match="no policy file"):
        portable.load(bad)


def test_an_edited_graph_is_refused(tmp_path):
    greedy = feed_forward(lambda s, obs: jnp.argmax(obs @ s, -1))
    good = export_policy(tmp_path / "p.npz", greedy, jnp.arange(24.0).reshape(6, 4), VECTOR, ACTIONS)
    with zipfile.ZipFile(good) as archive, archive.open("__policy__.npy") as file:
        graph = json.loads(np.lib.format.read_array(file).tobytes())

    def load(**changes):
        text = json.dumps({**graph, **changes}).encode()
        np.savez(tmp_path / "q.npz", __policy__=np.frombuffer(text, np.uint8), state=np.zeros((6, 4), np.float32))
        return portable.load(tmp_path / "q.npz")

    load()
    with pytest.raises(InputError, match="version 2; this program reads 1"):
        load(version=2)
    with pytest.raises(InputError, match="no policy file"):
        load(format="other")
    for changes in (
        {"weights": [["other", 0]]},
        {"nodes": []},
        {"nodes": [["open", *node[1:]] for node in graph["nodes"]]},
        {"observation_space": {**graph["observation_space"], "shape": [5]}},
    ):
        with pytest.raises(InputError, match="damaged: its graph cannot be run"):
            load(**changes)


def crafted(path, nodes, **arrays):
    """A policy file whose graph is these nodes: value 0 is the observation, what the last one gives the action."""
    slots = {name: 100 + i for i, name in enumerate(arrays)}
    graph = {
        "format": portable.FORMAT,
        "version": portable.VERSION,
        "meta": {},
        "observation_space": {"kind": "box", "low": 0.0, "high": 1.0, "shape": [4], "dtype": "float32"},
        "action_space": {"kind": "discrete", "n": 2},
        "weights": [[name, slot] for name, slot in slots.items()],
        "memory": [],
        "literals": [],
        "observation": [0],
        "nodes": nodes,
        "action": [nodes[-1][2][0][0]],
        "action_structure": None,
        "next_memory": [],
    }
    np.savez(path, __policy__=np.frombuffer(json.dumps(graph).encode(), np.uint8), **arrays)
    return path


def iota(slot, *shape):
    return ["iota", [], [[slot, "float32", list(shape)]], {"shape": list(shape), "dimension": 0}]


def dot(x, y, slot, *shape, contract=((1,), (0,)), batch=((), ())):
    return ["dot_general", [x, y], [[slot, "float32", list(shape)]], {"dimension_numbers": [contract, batch]}]


HUGE = {
    "a product of 20,000 cubed": [iota(1, 20_000, 1), iota(2, 1, 20_000), dot(1, 2, 3, 20_000, 20_000)],
    "many products that fit": [iota(1, 2_000, 2_000), *(dot(1, 1, 2 + i, 2_000, 2_000) for i in range(3))],
    "an array": [iota(1, 10**6, 10**6)],
    "a picture": [
        ["broadcast_in_dim", [0], [[1, "float32", [1]]], {"shape": [1 << 20, 1 << 20, 4], "broadcast_dimensions": [2]}]
    ],
    "padding": [["pad", [0, 100], [[1, "float32", [1]]], {"padding_config": [[0, 0, 0], [0, 10**9, 0]]}]],
    "holes": [["pad", [0, 100], [[1, "float32", [1]]], {"padding_config": [[0, 0, 0], [0, 0, 10**9]]}]],
    "tiles": [["tile", [0], [[1, "float32", [1]]], {"reps": [10**5, 10**5]}]],
    "an outer sum": [iota(1, 1, 20_000), iota(2, 20_000, 1), ["add", [1, 2], [[3, "float32", [1]]], {}]],
    "a list with itself": [
        iota(1, 1_000_000),
        *(["concatenate", [1 + i] * 10, [[2 + i, "float32", [1]]], {"dimension": 0}] for i in range(3)),
    ],
    "rows of rows": [
        iota(1, 30_000, 1),
        ["convert_element_type", [1], [[2, "int32", [30_000, 1]]], {}],
        [
            "gather",
            [101, 2],
            [[3, "float32", [1]]],
            {
                "slice_sizes": [1, 9_000],
                "window_axes": [1],
                "dropped_axes": [0],
                "operand_batch": [],
                "index_axes": [0],
            },
        ],
    ],
    "windows": [
        [
            "reduce_window_sum",
            [101],
            [[1, "float32", [1]]],
            {"padding": [[0, 0], [10**8, 0]], "base_dilation": [1, 1], "window_dimensions": [1, 10**7]}
            | {"window_strides": [1, 1], "window_dilation": [1, 1]},
        ]
    ],
    "a convolution": [
        iota(1, 1, 1, 9_000, 9_000),
        iota(2, 1, 1, 4_000, 4_000),
        [
            "conv_general_dilated",
            [1, 2],
            [[3, "float32", [1]]],
            {"dimension_numbers": [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]], "feature_group_count": 1}
            | {"padding": [[0, 0], [0, 0]], "lhs_dilation": [1, 1], "rhs_dilation": [1, 1], "window_strides": [1, 1]},
        ],
    ],
}


@pytest.mark.parametrize("name", HUGE)
def test_a_small_file_cannot_ask_for_much(name, tmp_path):
    """What its graph would take is known, and refused, before it is computed."""
    path = crafted(tmp_path / "p.npz", HUGE[name], zero=np.float32(0), row=np.ones((9, 9_000), np.float32))
    started, peak = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(InputError, match="take more memory or time than a policy may"):
        portable.load(path)
    assert time.perf_counter() - started < 60
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - peak < 2**20  # KiB: a gibibyte


def test_weights_are_not_unpacked_before_their_size_is_known(tmp_path):
    path = tmp_path / "p.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("w.npy", "w", force_zip64=True) as file,
    ):
        for _ in range(300):
            file.write(bytes(1 << 20))
    assert path.stat().st_size < 1 << 20
    with pytest.raises(InputError, match="unpacked it has 314,572,800 bytes of at most 268,435,456"):
        portable.load(path)
    nodes = [["argmax", [0], [[1, "int32", [1]]], {"axes": [1]}]]
    small = crafted(path, nodes, row=np.ones(1_000, np.float32))
    assert portable.load(small).act(np.asarray([0, 3, 1, 2], np.float32))[0] == 1
    with pytest.raises(InputError, match=r"bytes of at most 4,000; `load\(path, limit=…\)` allows more"):
        portable.load(small, limit=4_000)
    # A header that promises more than there is, and an observation that nobody can have.
    content = io.BytesIO()
    np.lib.format.write_array_header_1_0(content, {"descr": "<f4", "fortran_order": False, "shape": (10**10,)})
    with zipfile.ZipFile(small, "a") as archive:
        archive.writestr("more.npy", content.getvalue() + bytes(16))
    with pytest.raises(InputError, match=r"an array of \(10000000000,\) float32 has 16 bytes"):
        portable.load(small)


def test_whether_a_policy_can_be_exported_is_known_before_training():
    env, params = envs.make("CartPole-v1")
    agent, hp = ppo.make(env, ppo.Config(num_envs=2, hidden=(4,))), ppo.Hyperparams(total_steps=1e3)
    assert reason_against(agent, hp, params) == ""
    assert "draws random numbers" in reason_against(agent._replace(policy=agent.explore), hp, params)
