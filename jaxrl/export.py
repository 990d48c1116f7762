"""Writing portable policies: the greedy policy of any agent, traced with JAX, as a graph that NumPy alone runs.

`export_policy` traces the policy, keeps the operations and the weights that the action depends on, and writes them in
the format that `jaxrl.portable` describes and runs.
"""

import io
import json
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np

from envs.errors import InputError
from jaxrl import files
from jaxrl.portable import DTYPES, FORMAT, GRAPH, OPERATIONS, VERSION, highest, lowest
from jaxrl.results import plain
from jaxrl.types import Agent

_CALLS = ("jaxpr", "call_jaxpr", "fun_jaxpr")  # under which name a call keeps what it calls
_INLINED = (
    *("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat", "remat2"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vjp_call_jaxpr"),
)
_IDENTITIES = ("copy", "copy_p", "stop_gradient", "sharding_constraint", "optimization_barrier")
_LONGEST_SCAN = 256  # steps that are unrolled into the graph
_SUMMED = ("axes",)
_POOLED = ("window_dimensions", "window_strides", "padding", "base_dilation", "window_dilation")
_RUNNING = ("axis", "reverse")
# What of a primitive's parameters the file keeps; the rest are hints to the compiler.
_PARAMETERS: dict[str, tuple[str, ...]] = {
    "integer_pow": ("y",),
    "round": ("rounding_method",),
    "iota": ("shape", "dimension"),
    "broadcast_in_dim": ("shape", "broadcast_dimensions"),
    "reshape": ("new_sizes",),
    "transpose": ("permutation",),
    "squeeze": ("dimensions",),
    "rev": ("dimensions",),
    "concatenate": ("dimension",),
    "stack": ("axis",),
    "unstack": ("axis",),
    "tile": ("reps",),
    "split": ("sizes", "axis"),
    "slice": ("start_indices", "limit_indices", "strides"),
    "dynamic_slice": ("slice_sizes",),
    "pad": ("padding_config",),
    "dot_general": ("dimension_numbers",),
    "conv_general_dilated": (
        "window_strides",
        "padding",
        "lhs_dilation",
        "rhs_dilation",
        "dimension_numbers",
        "feature_group_count",
    ),
    **dict.fromkeys(("reduce_sum", "reduce_prod", "reduce_max", "reduce_min", "reduce_and", "reduce_or"), _SUMMED),
    **dict.fromkeys(("argmax", "argmin"), _SUMMED),
    **dict.fromkeys(("reduce_window_sum", "reduce_window_max", "reduce_window_min"), _POOLED),
    **dict.fromkeys(("cumsum", "cumprod", "cummax", "cummin", "cumlogsumexp"), _RUNNING),
    "sort": ("dimension",),
}


def reason_against(agent: Agent, hp: Any, env_params: Any) -> str:
    """Why the greedy policy of an agent cannot be a portable file, or "": so that it is known before training."""

    def empty(leaf: Any) -> Any:
        if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
            return jax.random.key(0)
        return np.zeros(leaf.shape, leaf.dtype)

    env = agent.env
    state = jax.tree.map(empty, jax.eval_shape(agent.init, jax.random.key(0), hp, env_params))
    try:
        with tempfile.TemporaryDirectory() as directory:
            export_policy(Path(directory) / "policy.npz", agent.policy, state, env.observation_space, env.action_space)
    except InputError as error:
        return str(error)
    return ""


def export_policy(
    path: str | Path,
    policy_fn: Callable[[Any], Any],
    state: Any,
    obs_space: Any,
    action_space: Any,
    memory: Any = None,
    meta: Mapping[str, Any] | None = None,
) -> Path:
    """Writes the policy of one run as a portable file.

    Args:
        path: the `.npz` to write; it is replaced as a whole.
        policy_fn: (state) -> Policy, an agent's `policy`: deterministic, made of operations that the graph knows.
        state: the agent's state of ONE run, without run axis.
        obs_space: the space of observations (`envs.spaces`).
        action_space: the space of actions.
        memory: the policy's memory at the start of an episode, without batch axis; None: `policy_fn(state).memory`.
        meta: whatever JSON can hold that says what it is: agent, environment, step ….

    Returns:
        The path.

    Raises:
        InputError: the policy draws random numbers, or uses an operation or dtype that NumPy cannot run here (it is
            named); its actions do not fit the action space; the file cannot be written.
    """
    if memory is None:
        memory = policy_fn(state).memory
    spaces = describe_space(obs_space), describe_space(action_space)

    def batch_of_one(leaf: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct((1, *leaf.shape), leaf.dtype)

    def act(state: Any, key: Any, obs: Any, memory: Any) -> tuple[Any, Any]:
        action, memory, _ = policy_fn(state).act(key, obs, memory)
        return action, memory

    memory = jax.tree.map(lambda leaf: np.asarray(jax.numpy.asarray(leaf)), memory)
    arguments = (state, jax.random.key(0), _structs(obs_space), jax.tree.map(batch_of_one, memory))
    closed, (action_shape, memory_shape) = jax.make_jaxpr(act, return_shape=True)(*arguments)
    _check_outputs(action_shape, action_space, memory_shape, arguments[3])

    graph = _Graph()
    paths, _ = jax.tree_util.tree_flatten_with_path(state)
    state_slots = [graph.value(leaf) for _, leaf in paths]
    key_slot = graph.value(arguments[1])
    obs_slots = [graph.value(leaf) for leaf in jax.tree.leaves(arguments[2])]
    memory_slots = [graph.value(leaf) for leaf in jax.tree.leaves(arguments[3])]
    const_slots = [graph.value(const) for const in closed.consts]
    outputs = graph.inline(closed.jaxpr, const_slots, [*state_slots, key_slot, *obs_slots, *memory_slots])
    live = graph.prune(outputs)
    if key_slot in live:
        raise InputError(
            "this policy draws random numbers, so a portable file cannot hold it: "
            f"its action depends on {graph.first_user(key_slot)}. Export a deterministic policy."
        )
    graph.check()

    arrays: dict[str, np.ndarray] = {}

    def keep(name: str, array: Any, slot: int) -> list[Any]:
        while name in arrays or name == GRAPH:
            name += "_"
        arrays[name] = np.asarray(array)
        _numpy_dtype(name, arrays[name].dtype)
        return [name, slot]

    sources = [
        (jax.tree_util.keystr(route, simple=True, separator=".") or "state", leaf, slot)
        for (route, leaf), slot in zip(paths, state_slots, strict=True)
    ] + [(f"constant.{i}", const, slot) for i, (const, slot) in enumerate(zip(closed.consts, const_slots, strict=True))]
    sources += [(f"constant.{len(closed.consts) + i}", const, slot) for i, (slot, const) in enumerate(graph.constants)]
    weights = []
    for name, leaf, slot in sources:
        if slot in live:
            if jax.numpy.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                raise InputError(
                    f"this policy draws random numbers from {name} of the state; export a deterministic one."
                )
            weights.append(keep(name, leaf, slot))
    memories = [
        keep(f"memory.{i}", leaf, slot)
        for i, (leaf, slot) in enumerate(zip(jax.tree.leaves(memory), memory_slots, strict=True))
    ]
    actions = len(jax.tree.leaves(action_shape))
    description = {
        "format": FORMAT,
        "version": VERSION,
        "meta": plain(meta or {}),
        "observation_space": spaces[0],
        "action_space": spaces[1],
        "weights": weights,
        "memory": memories,
        "literals": [literal for literal in graph.literals if literal[0] in live],
        "observation": obs_slots,
        "nodes": graph.nodes,
        "action": outputs[:actions],
        "action_structure": _structure(spaces[1]),
        "next_memory": outputs[actions:],
    }
    text = json.dumps(description)
    arrays[GRAPH] = np.frombuffer(text.encode("utf-8"), np.uint8)
    return _write(Path(path), arrays)


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> Path:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            # A fixed date: the same policy makes the same bytes.
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w", force_zip64=True) as file:
                np.lib.format.write_array(file, array, allow_pickle=False)
    files.write(path, content.getvalue())
    return path


def describe_space(space: Any) -> dict[str, Any]:
    """Returns a space of `envs.spaces` as JSON; the kinds are listed at `PortablePolicy`.

    Infinite bounds are the texts "inf" and "-inf", which JSON numbers cannot be.
    """
    if isinstance(space, Mapping):
        return {"kind": "dict", "spaces": {name: describe_space(space[name]) for name in sorted(space)}}
    if isinstance(space, tuple):
        return {"kind": "tuple", "spaces": [describe_space(part) for part in space]}
    if hasattr(space, "nvec"):
        return {"kind": "multi_discrete", "nvec": [int(n) for n in space.nvec]}
    if hasattr(space, "n"):
        return {"kind": "discrete", "n": int(space.n)}

    def bound(value: Any) -> Any:
        if isinstance(value, list | tuple | np.ndarray) and np.ndim(value):
            return [bound(inner) for inner in value]
        number = np.asarray(value).item()
        return number if np.isfinite(number) else str(float(number))

    return {
        "kind": "box",
        "low": bound(space.low),
        "high": bound(space.high),
        "shape": [int(n) for n in space.shape],
        "dtype": np.dtype(space.dtype).name,
    }


def _structure(space: Mapping[str, Any]) -> Any:
    if space["kind"] == "dict":
        return {name: _structure(part) for name, part in space["spaces"].items()}
    return [_structure(part) for part in space["spaces"]] if space["kind"] == "tuple" else None


def _structs(space: Any) -> Any:
    """A batch of one element of `space`, as shapes and dtypes."""
    if isinstance(space, Mapping):
        return {name: _structs(part) for name, part in space.items()}
    if isinstance(space, tuple):
        return tuple(_structs(part) for part in space)
    return jax.ShapeDtypeStruct((1, *space.shape), space.dtype)


def _check_outputs(action: Any, action_space: Any, memory_after: Any, memory_before: Any) -> None:
    def shapes(tree: Any) -> Any:
        return jax.tree.map(lambda leaf: leaf.shape, tree), jax.tree.structure(tree)

    if shapes(action) != shapes(_structs(action_space)):
        raise InputError(
            f"this policy's actions {jax.tree.map(lambda leaf: str(leaf.shape), action)} (a batch of one) do not fit "
            f"the action space {describe_space(action_space)}."
        )
    if shapes(memory_after) != shapes(memory_before):
        raise InputError("this policy returns a memory of another structure or shape than it was given.")


def _numpy_dtype(what: str, dtype: Any) -> None:
    name = str(dtype)
    if name not in DTYPES and name != "float16":
        raise InputError(f"a portable policy cannot hold {what}: it is {name}, which NumPy does not have.")


class _Graph:
    """The graph while it is written: calls inlined, loops of known length unrolled."""

    def __init__(self) -> None:
        self.nodes: list[list[Any]] = []  # [operation, inputs, [[slot, dtype, shape], …], parameters]
        self.literals: list[list[Any]] = []  # [slot, value, dtype]
        self.constants: list[tuple[int, np.ndarray]] = []  # arrays that the trace holds
        self._literal_slots: dict[tuple[str, str], int] = {}
        self._users: dict[int, str] = {}
        self._next = 0
        self._avals: dict[int, tuple[str, list[int]]] = {}

    def value(self, like: Any) -> int:
        """A new value with the shape and dtype of `like`."""
        slot = self._next
        self._next += 1
        self._avals[slot] = (str(like.dtype), [int(n) for n in like.shape])
        return slot

    def literal(self, value: Any, dtype: Any) -> int:
        """A value that is known already; scalars become part of the JSON, once each, and arrays go beside it."""
        is_key = not isinstance(dtype, np.dtype)
        array = value if is_key else np.asarray(value, dtype)
        if array.ndim or is_key:
            slot = self.value(array)
            self.constants.append((slot, array))
            return slot
        item = array.item()
        written = item if np.isfinite(item) else str(item)
        known = (str(array.dtype), repr(written))
        if known not in self._literal_slots:
            self._literal_slots[known] = self.value(array)
            self.literals.append([self._literal_slots[known], written, str(array.dtype)])
        return self._literal_slots[known]

    def add(
        self, operation: str, inputs: Sequence[int], likes: Sequence[Any], parameters: Mapping[str, Any]
    ) -> list[int]:
        slots = [self.value(like) for like in likes]
        outputs = [[slot, *self._avals[slot]] for slot in slots]
        self.nodes.append([operation, list(inputs), outputs, _jsonable(parameters)])
        return slots

    def inline(self, jaxpr: Any, consts: Sequence[int], arguments: Sequence[int]) -> list[int]:
        """Appends the equations of `jaxpr`; returns the values of its results."""
        from jax.extend.core import Literal

        env = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*consts, *arguments], strict=True))

        def read(atom: Any) -> int:
            if not isinstance(atom, Literal):
                return env[atom]
            aval: Any = atom.aval
            return self.literal(atom.val, aval.dtype)

        for equation in jaxpr.eqns:
            inputs = [read(atom) for atom in equation.invars]
            env.update(zip(equation.outvars, self._equation(equation, inputs), strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _call(self, called: Any, arguments: Sequence[int]) -> list[int]:
        if not hasattr(called, "consts"):  # an open jaxpr
            return self.inline(called, (), arguments)
        return self.inline(called.jaxpr, [self.literal(c, c.dtype) for c in called.consts], arguments)

    def _equation(self, equation: Any, inputs: list[int]) -> list[int]:
        name, params = equation.primitive.name, equation.params
        likes = [var.aval for var in equation.outvars]
        if name in _IDENTITIES:
            return inputs
        if name in _INLINED:
            return self._call(next(params[key] for key in _CALLS if key in params), inputs)
        if name == "scan" and params["length"] <= _LONGEST_SCAN:
            return self._scan(params, inputs, likes)
        if name == "cond":  # without effects both branches can be computed
            results = [self._call(branch, inputs[1:]) for branch in params["branches"]]
            return [
                self.add("select_n", [inputs[0], *cases], [like], {})[0]
                for cases, like in zip(zip(*results, strict=True), likes, strict=True)
            ]
        if name in ("gather", "scatter", "scatter-add", "scatter_add"):
            operation = "gather" if name == "gather" else "scatter"
            return self.add(operation, inputs, likes, _indexing(name, params, equation))
        if name == "reduce_precision":
            info = np.finfo(likes[0].dtype)
            if params["exponent_bits"] >= info.iexp and params["mantissa_bits"] >= info.nmant:
                return inputs
        kept = {parameter: params[parameter] for parameter in _PARAMETERS.get(name, ()) if parameter in params}
        # Unsupported operations are kept too, and refused only if the action turns out to depend on them.
        return self.add(name if _supported(name, params, equation) else f"unsupported {name}", inputs, likes, kept)

    def _scan(self, params: Mapping[str, Any], inputs: list[int], likes: Sequence[Any]) -> list[int]:
        length, body = params["length"], params["jaxpr"]
        split = _ends(params)
        consts, carry, xs = inputs[: split[0]], inputs[split[0] : split[1]], inputs[split[1] :]
        order = range(length - 1, -1, -1) if params["reverse"] else range(length)
        stacks: dict[int, list[int]] = {}
        for i in order:
            entries = []
            for x, var in zip(xs, body.jaxpr.invars[split[1] :], strict=True):
                shape = self._avals[x][1]
                bounds = {"start_indices": [i] + [0] * (len(shape) - 1), "limit_indices": [i + 1, *shape[1:]]}
                row = _Like([1, *shape[1:]], var.aval.dtype)
                part = self.add("slice", [x], [row], {**bounds, "strides": None})
                entries += self.add("squeeze", part, [var.aval], {"dimensions": [0]})
            results = self._call(body, [*consts, *carry, *entries])
            carry, stacks[i] = results[: len(carry)], results[len(carry) :]
        stacked = []
        for j, like in enumerate(likes[len(carry) :]):
            rows = []
            for i in range(length):
                row = _Like([1, *like.shape[1:]], like.dtype)
                rows += self.add("reshape", [stacks[i][j]], [row], {"new_sizes": row.shape})
            stacked += (
                self.add("concatenate", rows, [like], {"dimension": 0})
                if rows
                else [self.literal(np.zeros(like.shape, like.dtype), like.dtype)]
            )
        return [*carry, *stacked]

    def prune(self, outputs: Sequence[int]) -> set[int]:
        """Drops what the outputs do not depend on; returns the values that remain."""
        live, kept = set(outputs), []
        for node in reversed(self.nodes):
            if any(slot in live for slot, _, _ in node[2]):
                live.update(node[1])
                kept.append(node)
        self.nodes = kept[::-1]
        for operation, inputs, _, _ in self.nodes:
            for slot in inputs:
                self._users.setdefault(slot, operation.removeprefix("unsupported "))
        return live

    def first_user(self, slot: int) -> str:
        """The first operation that reads a value."""
        return self._users.get(slot, "its key")

    def check(self) -> None:
        """Refuses operations and dtypes that the loader does not have."""
        for operation, _, outputs, _ in self.nodes:
            name = operation.removeprefix("unsupported ")
            if name.startswith("random_") or name in ("threefry2x32", "rng_bit_generator", "rng_uniform"):
                raise InputError(f"this policy draws random numbers ({name}); export a deterministic policy.")
            if name != operation or name not in OPERATIONS:
                raise InputError(f"a portable policy cannot hold the operation {name!r}, which this policy uses.")
            for _, dtype, _ in outputs:
                _numpy_dtype(f"the result of {name!r}", dtype)


def _ends(scan: Mapping[str, Any]) -> tuple[int, int]:
    """Where the constants and where the carried values end among the inputs of a scan, from its parameters."""
    if "num_consts" in scan:  # jax 0.10 and 0.11
        return scan["num_consts"], scan["num_consts"] + scan["num_carry"]
    if "ft_in" in scan:  # jax 0.12: a tree of (constants, carried values, sequences)
        consts, carry, _ = map(len, scan["ft_in"].unpack())
        return consts, consts + carry
    raise InputError(
        f"jax {jax.__version__} describes a scan by {', '.join(sorted(scan))}, unknown to this version of jaxrl, "
        "so a policy that contains one cannot be exported. It knows jax 0.10 to 0.12."
    )


class _Like:
    """A shape and a dtype."""

    def __init__(self, shape: list[int], dtype: Any) -> None:
        self.shape, self.dtype = shape, dtype


def _supported(name: str, params: Mapping[str, Any], equation: Any) -> bool:
    """Whether the loader has this operation, in the form that it has here."""
    if name == "conv_general_dilated":
        return params["batch_group_count"] == 1
    if name == "reshape":
        return params["dimensions"] is None
    if name == "mul":
        return params.get("out_dtype") is None
    if name == "sort":
        return params["num_keys"] == 1
    if name == "bitcast_convert_type":
        return equation.invars[0].aval.dtype.itemsize == equation.outvars[0].aval.dtype.itemsize
    return name in OPERATIONS


def _indexing(name: str, params: Mapping[str, Any], equation: Any) -> dict[str, Any]:
    """The parameters of gather and scatter in one form."""
    numbers = params["dimension_numbers"]
    mode = getattr(params["mode"], "name", str(params["mode"]))
    if name == "gather":
        fields: dict[str, Any] = {
            "window_axes": numbers.offset_dims,
            "dropped_axes": numbers.collapsed_slice_dims,
            "index_axes": numbers.start_index_map,
            "operand_batch": numbers.operand_batching_dims,
            "indices_batch": numbers.start_indices_batching_dims,
            "slice_sizes": params["slice_sizes"],
        }
        if mode == "FILL_OR_DROP":
            dtype = np.dtype(equation.outvars[0].aval.dtype)
            default = {"f": np.nan, "i": lowest(dtype), "u": highest(dtype), "b": True}[dtype.kind]
            fill = np.asarray(default if params["fill_value"] is None else params["fill_value"], dtype).item()
            fields["fill"] = fill if np.isfinite(fill) else str(fill)
        return fields
    operand, _, updates = (atom.aval.shape for atom in equation.invars)
    dropped = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
    window = iter(updates[axis] for axis in numbers.update_window_dims)
    return {
        "window_axes": numbers.update_window_dims,
        "dropped_axes": numbers.inserted_window_dims,
        "index_axes": numbers.scatter_dims_to_operand_dims,
        "operand_batch": numbers.operand_batching_dims,
        "indices_batch": numbers.scatter_indices_batching_dims,
        "slice_sizes": [1 if axis in dropped else next(window) for axis in range(len(operand))],
        "add": name != "scatter",
        "drop": mode != "CLIP",
    }


def _jsonable(value: Any) -> Any:
    """Parameters of a primitive as JSON: numbers, text, lists; enumerations by name."""
    if isinstance(value, Mapping):
        return {name: _jsonable(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int | np.integer) and not hasattr(value, "name"):
        return int(value)
    return str(getattr(value, "name", value))
