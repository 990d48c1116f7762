"""Portable policies: the greedy policy of any agent as one `.npz` file that NumPy alone can run.

`jaxrl.export` traces the policy with JAX, keeps the operations and the weights that the action depends on (networks,
tables, normalisers, recurrent cells alike), and writes them as a small graph in JSON beside the arrays. Nothing is
pickled. `load` runs that graph and needs only this file: copy `portable.py` next to a policy on a machine that has
NumPy and neither JAX nor this package::

    policy = portable.load("policy.npz")
    action, memory = policy.act(obs)            # one observation, no batch axis
    action, memory = policy.act(obs, memory)    # memory: () for feed-forward policies

The file holds one array for each weight, under the name it has in the agent's state, and `__policy__`: UTF-8 bytes of
the JSON text {format, version, meta, observation_space, action_space, weights, memory, literals, observation, nodes,
action, action_structure, next_memory}. Values are numbered; a node is [operation, inputs, outputs, parameters] with an
output as [number, dtype, shape]. Operations are those of JAX's `lax`, by their names there.
"""

import io
import json
import math
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = "jaxrl portable policy"
VERSION = 1
GRAPH = "__policy__"  # the entry that holds the JSON text
LIMIT = 1 << 28  # bytes of all weights, and of all intermediate values, unless `load` is told otherwise
_MOST_TEXT = 1 << 24  # bytes of the graph's JSON
_MOST_WORK = 1 << 34  # multiplications, or as many other operations on numbers, for one action
DTYPES = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)), "float32", "float64")


def _error(message: str) -> ValueError:
    """The package's InputError, or, where this file stands alone, a ValueError."""
    if __name__ == "jaxrl.portable":
        from envs.errors import InputError

        return InputError(message)
    return ValueError(message)


# ------------------------------------------------------------------------------------------------------ operations
# Each takes its inputs and its parameters, among them "dtype", the dtype of the (first) output.


def _divide(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    if x.dtype.kind == "f":
        return x / y
    floor = x // y
    return floor + ((floor < 0) & (floor * y != x))  # integers: towards zero


def _convert(x: np.ndarray, dtype: np.dtype) -> np.ndarray:
    if x.dtype.kind == "f" and dtype.kind in "iu":  # XLA saturates, where NumPy leaves the result undefined
        info = np.iinfo(dtype)
        wide = np.nan_to_num(np.trunc(x.astype(np.float64)), nan=0.0)
        inside = np.clip(wide, info.min, np.nextafter(float(info.max) + 1, 0)).astype(dtype)
        return np.where(wide > info.max, dtype.type(info.max), inside)
    return x.astype(dtype)


def _select(which: np.ndarray, *cases: np.ndarray) -> np.ndarray:
    result = cases[0]
    for i, case in enumerate(cases[1:], start=1):
        result = np.where(which == i, case, result)
    return result


def _each(function: Callable[[float], float]) -> Callable[..., np.ndarray]:
    """Makes a function of the math module, for which NumPy has no equal, elementwise."""
    vectorised = np.vectorize(function, otypes=[np.float64])
    return lambda inputs, params: vectorised(inputs[0])


def _round(x: np.ndarray, method: str) -> np.ndarray:
    return np.rint(x) if method == "TO_NEAREST_EVEN" else np.copysign(np.floor(np.abs(x) + 0.5), x)


def _broadcast(x: np.ndarray, shape: Sequence[int], dimensions: Sequence[int]) -> np.ndarray:
    expanded = [1] * len(shape)
    for axis, size in zip(dimensions, x.shape, strict=True):
        expanded[axis] = size
    return np.broadcast_to(x.reshape(expanded), shape)


def _slice(x: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    start, limit = params["start_indices"], params["limit_indices"]
    strides = params["strides"] or [1] * x.ndim
    return x[tuple(slice(*bounds) for bounds in zip(start, limit, strides, strict=True))]


def _window(x: np.ndarray, start: Sequence[np.ndarray], sizes: Sequence[int]) -> tuple[slice, ...]:
    """A window of `sizes` at `start`, moved inside `x` as XLA does."""
    firsts = [min(max(int(s), 0), n - size) for s, n, size in zip(start, x.shape, sizes, strict=True)]
    return tuple(slice(first, first + size) for first, size in zip(firsts, sizes, strict=True))


def _update_slice(x: np.ndarray, update: np.ndarray, *start: np.ndarray) -> np.ndarray:
    result = x.copy()
    result[_window(x, start, update.shape)] = update
    return result


def _pad(x: np.ndarray, value: Any, config: Sequence[Sequence[int]]) -> np.ndarray:
    """Puts `interior` values between entries, then `low` and `high` around them; negative ones cut off."""
    for axis, (low, high, interior) in enumerate(config):
        size = x.shape[axis]
        spread = size + max(size - 1, 0) * interior
        shape = list(x.shape)
        shape[axis] = spread + max(low, 0) + max(high, 0)
        padded = np.full(shape, value, x.dtype)
        index = [slice(None)] * x.ndim
        index[axis] = slice(max(low, 0), max(low, 0) + spread, interior + 1)
        padded[tuple(index)] = x
        index[axis] = slice(max(-low, 0), shape[axis] - max(-high, 0))
        x = padded[tuple(index)]
    return x


def _windows(x: np.ndarray, sizes: Sequence[int], strides: Sequence[int], dilation: Sequence[int]) -> np.ndarray:
    """All windows over the trailing len(sizes) axes: [..., positions …, entries …], without a copy."""
    axes = tuple(range(x.ndim - len(sizes), x.ndim))
    reach = tuple((size - 1) * step + 1 for size, step in zip(sizes, dilation, strict=True))
    every = np.lib.stride_tricks.sliding_window_view(x, reach, axis=axes)  # pyright: ignore[reportCallIssue,reportArgumentType]
    index = (..., *(slice(None, None, s) for s in strides), *(slice(None, None, d) for d in dilation))
    return every[index]


def _reduce_window(
    x: np.ndarray, params: Mapping[str, Any], reduce: Callable[..., np.ndarray], start: Any
) -> np.ndarray:
    config = [
        (low, high, base - 1) for (low, high), base in zip(params["padding"], params["base_dilation"], strict=True)
    ]
    windows = _windows(
        _pad(x, start, config), params["window_dimensions"], params["window_strides"], params["window_dilation"]
    )
    return reduce(windows, axis=tuple(range(x.ndim, 2 * x.ndim)))


def lowest(dtype: np.dtype) -> Any:
    """The least value of a dtype: where the maximum of nothing starts."""
    return -np.inf if dtype.kind == "f" else np.iinfo(dtype).min


def highest(dtype: np.dtype) -> Any:
    """The greatest value of a dtype: where the minimum of nothing starts."""
    return np.inf if dtype.kind == "f" else np.iinfo(dtype).max


def _dot(x: np.ndarray, y: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    (x_sum, y_sum), (x_batch, y_batch) = params["dimension_numbers"]
    x_free = [axis for axis in range(x.ndim) if axis not in (*x_sum, *x_batch)]
    y_free = [axis for axis in range(y.ndim) if axis not in (*y_sum, *y_batch)]
    batch = [x.shape[axis] for axis in x_batch]
    summed = math.prod(x.shape[axis] for axis in x_sum)
    left = x.transpose(*x_batch, *x_free, *x_sum).reshape(*batch, -1, summed)
    right = y.transpose(*y_batch, *y_sum, *y_free).reshape(*batch, summed, -1)
    product = np.matmul(left.astype(params["dtype"], copy=False), right.astype(params["dtype"], copy=False))
    return product.reshape(*batch, *(x.shape[axis] for axis in x_free), *(y.shape[axis] for axis in y_free))


def _convolve(x: np.ndarray, kernel: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    x_axes, kernel_axes, out_axes = params["dimension_numbers"]
    groups = params["feature_group_count"]
    x = x.astype(params["dtype"], copy=False).transpose(x_axes)  # [N, C, *space]
    kernel = kernel.astype(params["dtype"], copy=False).transpose(kernel_axes)  # [O, C / groups, *window]
    config = [
        (low, high, dilation - 1)
        for (low, high), dilation in zip(params["padding"], params["lhs_dilation"], strict=True)
    ]
    x = _pad(x, 0, [(0, 0, 0), (0, 0, 0), *config])
    windows = _windows(x, kernel.shape[2:], params["window_strides"], params["rhs_dilation"])
    space = x.ndim - 2
    axes = ([1, *range(2 + space, 2 + 2 * space)], [1, *range(2, 2 + space)])
    parts = [  # each [N, *space, O / groups]
        np.tensordot(part, weights, axes)
        for part, weights in zip(np.split(windows, groups, 1), np.split(kernel, groups, 0), strict=True)
    ]
    out = np.moveaxis(np.concatenate(parts, -1), -1, 1)
    return out.transpose(np.argsort(out_axes))


def _positions(shape: Sequence[int], indices: np.ndarray, rank: int, params: Mapping[str, Any]) -> tuple[Any, Any]:
    """Where gather reads, or scatter writes, in an operand of `shape`.

    Returns:
        One index array for each axis of the operand, each broadcastable to the result (gather) or the updates
        (scatter), of `rank` axes; and whether the windows lie inside, in that full shape.
    """
    window_axes, sizes = params["window_axes"], params["slice_sizes"]
    batch_axes = [axis for axis in range(rank) if axis not in window_axes]
    batch_shape = indices.shape[:-1]
    kept = [axis for axis in range(len(shape)) if axis not in (*params["dropped_axes"], *params["operand_batch"])]

    def place(values: np.ndarray) -> np.ndarray:
        expanded = [1] * rank
        for axis, size in zip(batch_axes, batch_shape, strict=True):
            expanded[axis] = size
        return np.broadcast_to(values, batch_shape).reshape(expanded)

    inside = place(np.asarray(True))
    positions = []
    for axis, size in enumerate(shape):
        if axis in params["index_axes"]:
            start = place(indices[..., params["index_axes"].index(axis)].astype(np.int64))
            inside = inside & (start >= 0) & (start <= size - sizes[axis])
            start = np.clip(start, 0, size - sizes[axis])
        elif axis in params["operand_batch"]:
            batch_axis = params["indices_batch"][params["operand_batch"].index(axis)]
            start = place(np.arange(size).reshape([-1 if i == batch_axis else 1 for i in range(len(batch_shape))]))
        else:
            start = np.asarray(0)
        if axis in kept:
            across = [1] * rank
            across[window_axes[kept.index(axis)]] = -1
            start = start + np.arange(sizes[axis]).reshape(across)
        positions.append(start)
    full = list(inside.shape)
    for axis, operand_axis in zip(window_axes, kept, strict=True):
        full[axis] = sizes[operand_axis]
    return tuple(positions), np.broadcast_to(inside, full)


def _gather(x: np.ndarray, indices: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    rank = indices.ndim - 1 + len(params["window_axes"])
    positions, inside = _positions(x.shape, indices, rank, params)
    found = np.broadcast_to(x[positions], inside.shape)
    if "fill" not in params:
        return found
    fill = params["fill"]
    return np.where(inside, found, np.asarray(float(fill) if isinstance(fill, str) else fill, x.dtype))


def _scatter(x: np.ndarray, indices: np.ndarray, updates: np.ndarray, params: Mapping[str, Any]) -> np.ndarray:
    positions, inside = _positions(x.shape, indices, updates.ndim, params)
    inside = inside if params["drop"] else np.ones_like(inside)
    chosen = tuple(np.broadcast_to(p, updates.shape)[inside] for p in positions)
    result = x.copy()
    if params["add"]:
        np.add.at(result, chosen, updates[inside])
    else:
        result[chosen] = updates[inside]
    return result


def _accumulate(function: np.ufunc) -> Callable[..., np.ndarray]:
    def run(inputs: Sequence[np.ndarray], params: Mapping[str, Any]) -> np.ndarray:
        step = slice(None, None, -1 if params["reverse"] else 1)
        index = (*(slice(None),) * params["axis"], step)
        return function.accumulate(inputs[0][index], axis=params["axis"])[index]

    return run


def _sort(inputs: Sequence[np.ndarray], params: Mapping[str, Any]) -> tuple[np.ndarray, ...]:
    order = np.argsort(inputs[0], axis=params["dimension"], kind="stable")
    return tuple(np.take_along_axis(x, order, params["dimension"]) for x in inputs)


def _iota(params: Mapping[str, Any]) -> np.ndarray:
    shape, axis = params["shape"], params["dimension"]
    across = [1] * len(shape)
    across[axis] = shape[axis]
    return np.broadcast_to(np.arange(shape[axis], dtype=params["dtype"]).reshape(across), shape)


def _ufunc(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda inputs, params: function(*inputs)


def _reduce(function: Callable[..., Any]) -> Callable[..., Any]:
    return lambda inputs, params: function(inputs[0], axis=tuple(params["axes"]))


OPERATIONS: dict[str, Callable[..., Any]] = {
    **{
        name: _ufunc(function)
        for name, function in {
            "sin": np.sin,
            "cos": np.cos,
            "tan": np.tan,
            "sinh": np.sinh,
            "cosh": np.cosh,
            "tanh": np.tanh,
            "exp": np.exp,
            "exp2": np.exp2,
            "expm1": np.expm1,
            "log": np.log,
            "log1p": np.log1p,
            "sqrt": np.sqrt,
            "cbrt": np.cbrt,
            "square": np.square,
            "floor": np.floor,
            "ceil": np.ceil,
            "sign": np.sign,
            "abs": np.abs,
            "nextafter": np.nextafter,
            "add": np.add,
            "add_any": np.add,
            "sub": np.subtract,
            "mul": np.multiply,
            "div": _divide,
            "rem": np.fmod,
            "pow": np.power,
            "max": np.maximum,
            "min": np.minimum,
            "neg": np.negative,
            "not": np.invert,
            "and": np.bitwise_and,
            "or": np.bitwise_or,
            "xor": np.bitwise_xor,
            "shift_left": np.left_shift,
            "shift_right_arithmetic": np.right_shift,
            "eq": np.equal,
            "ne": np.not_equal,
            "lt": np.less,
            "le": np.less_equal,
            "gt": np.greater,
            "ge": np.greater_equal,
            "asin": np.arcsin,
            "acos": np.arccos,
            "atan": np.arctan,
            "asinh": np.arcsinh,
            "acosh": np.arccosh,
            "atanh": np.arctanh,
            "atan2": np.arctan2,
            "is_finite": np.isfinite,
            "rsqrt": lambda x: 1 / np.sqrt(x),
            "logistic": lambda x: 1 / (1 + np.exp(-x)),
            "select_n": _select,
            "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
            "dynamic_update_slice": _update_slice,
        }.items()
    },
    "erf": _each(math.erf),
    "erfc": _each(math.erfc),
    "lgamma": _each(math.lgamma),
    "integer_pow": lambda inputs, p: inputs[0] ** p["y"],
    "round": lambda inputs, p: _round(inputs[0], p["rounding_method"]),
    "convert_element_type": lambda inputs, p: _convert(inputs[0], p["dtype"]),
    "bitcast_convert_type": lambda inputs, p: np.ascontiguousarray(inputs[0]).view(p["dtype"]).reshape(inputs[0].shape),
    "iota": lambda inputs, p: _iota(p),
    "broadcast_in_dim": lambda inputs, p: _broadcast(inputs[0], p["shape"], p["broadcast_dimensions"]),
    "reshape": lambda inputs, p: inputs[0].reshape(p["new_sizes"]),
    "transpose": lambda inputs, p: inputs[0].transpose(p["permutation"]),
    "squeeze": lambda inputs, p: np.squeeze(inputs[0], tuple(p["dimensions"])),
    "rev": lambda inputs, p: np.flip(inputs[0], tuple(p["dimensions"])),
    "concatenate": lambda inputs, p: np.concatenate(inputs, p["dimension"]),
    "stack": lambda inputs, p: np.stack(inputs, p["axis"]),
    "unstack": lambda inputs, p: list(np.moveaxis(inputs[0], p["axis"], 0)),
    "tile": lambda inputs, p: np.tile(inputs[0], p["reps"]),
    "split": lambda inputs, p: np.split(inputs[0], np.cumsum(p["sizes"])[:-1], p["axis"]),
    "slice": lambda inputs, p: _slice(inputs[0], p),
    "dynamic_slice": lambda inputs, p: inputs[0][_window(inputs[0], inputs[1:], p["slice_sizes"])],
    "gather": lambda inputs, p: _gather(inputs[0], inputs[1], p),
    "scatter": lambda inputs, p: _scatter(inputs[0], inputs[1], inputs[2], p),
    "pad": lambda inputs, p: _pad(inputs[0], inputs[1], p["padding_config"]),
    "dot_general": lambda inputs, p: _dot(inputs[0], inputs[1], p),
    "conv_general_dilated": lambda inputs, p: _convolve(inputs[0], inputs[1], p),
    "reduce_sum": _reduce(np.sum),
    "reduce_prod": _reduce(np.prod),
    "reduce_max": _reduce(np.max),
    "reduce_min": _reduce(np.min),
    "reduce_and": _reduce(np.bitwise_and.reduce),
    "reduce_or": _reduce(np.bitwise_or.reduce),
    "argmax": lambda inputs, p: np.argmax(inputs[0], p["axes"][0]),
    "argmin": lambda inputs, p: np.argmin(inputs[0], p["axes"][0]),
    "reduce_window_sum": lambda inputs, p: _reduce_window(inputs[0], p, np.sum, 0),
    "reduce_window_max": lambda inputs, p: _reduce_window(inputs[0], p, np.max, lowest(inputs[0].dtype)),
    "reduce_window_min": lambda inputs, p: _reduce_window(inputs[0], p, np.min, highest(inputs[0].dtype)),
    "cumsum": _accumulate(np.add),
    "cumprod": _accumulate(np.multiply),
    "cummax": _accumulate(np.maximum),
    "cummin": _accumulate(np.minimum),
    "cumlogsumexp": _accumulate(np.logaddexp),
    "sort": _sort,
}


# Everything else works on each entry, and its inputs are broadcast against one another.
_SUMMED = ("concatenate", "stack", "unstack", "split", "slice", "dynamic_slice", "dynamic_update_slice", "transpose")
_SUMMED += ("reshape", "squeeze", "rev", "sort", "argmax", "argmin", "scatter")


def _cost(name: str, inputs: Sequence[np.ndarray], params: Mapping[str, Any]) -> tuple[int, int]:
    """An upper bound of (entries of the result, operations on numbers), known before anything is computed."""

    def padded(shape: Sequence[int], config: Sequence[Sequence[int]]) -> int:
        return math.prod(
            size + max(size - 1, 0) * max(interior, 0) + max(low, 0) + max(high, 0)
            for size, (low, high, interior) in zip(shape, config, strict=True)
        )

    if name in ("iota", "broadcast_in_dim"):
        entries = math.prod(params["shape"])
    elif name == "tile":
        entries = inputs[0].size * math.prod(params["reps"])
    elif name == "pad":
        entries = padded(inputs[0].shape, params["padding_config"])
    elif name == "gather":
        entries = math.prod(inputs[1].shape[:-1]) * math.prod(params["slice_sizes"])
    elif name == "dot_general":
        x, y = inputs
        (x_sum, _), (x_batch, _) = params["dimension_numbers"]
        shared = math.prod(x.shape[axis] for axis in x_batch)
        summed = math.prod(x.shape[axis] for axis in x_sum)
        entries = x.size * y.size // max(shared * summed * summed, 1)
        return entries, entries * summed
    elif name == "conv_general_dilated":
        x_axes, kernel_axes, _ = params["dimension_numbers"]
        x, kernel = ([x.shape[axis] for axis in axes] for x, axes in zip(inputs, (x_axes, kernel_axes), strict=True))
        config = [(*pad, dilation - 1) for pad, dilation in zip(params["padding"], params["lhs_dilation"], strict=True)]
        entries = x[0] * max(x[1], kernel[0]) * padded(x[2:], config)
        return entries, entries * math.prod(kernel[1:])
    elif name.startswith("reduce_window"):
        dilation = [base - 1 for base in params["base_dilation"]]
        config = [(*pad, extra) for pad, extra in zip(params["padding"], dilation, strict=True)]
        entries = padded(inputs[0].shape, config)
        return entries, entries * math.prod(params["window_dimensions"])
    elif name in _SUMMED or name.startswith(("reduce_", "cum")):
        entries = sum(x.size for x in inputs)
    else:
        entries = math.prod(np.broadcast_shapes(*(x.shape for x in inputs)))
    return entries, entries


# ---------------------------------------------------------------------------------------------------------- running


class PortablePolicy:
    """A policy read by `load`. It acts on one observation at a time and keeps no state of its own.

    Attributes:
        meta: what `export` was told about it, e.g. {"agent": "dqn", "env": "CartPole-v1"}.
        observation_space: as JSON: {"kind": "discrete", "n"}, {"kind": "multi_discrete", "nvec"}, {"kind": "box",
            "low", "high", "shape", "dtype"}, {"kind": "dict", "spaces": {name: …}} or {"kind": "tuple", "spaces": […]}.
        action_space: the same.
        weights: {name in the agent's state: array}.
        memory: the memory at the start of an episode, a tuple of arrays; () for feed-forward policies.
    """

    def __init__(self, graph: Mapping[str, Any], arrays: Mapping[str, np.ndarray], limit: int = LIMIT) -> None:
        """Takes what a file holds; use `load`."""
        self._left = [limit // 4, _MOST_WORK]  # entries and operations that an action may still take
        self.meta: dict[str, Any] = dict(graph["meta"])
        self.observation_space: dict[str, Any] = graph["observation_space"]
        self.action_space: dict[str, Any] = graph["action_space"]
        self.weights = {name: arrays[name] for name, _ in graph["weights"]}
        self.memory = tuple(arrays[name] for name, _ in graph["memory"])
        self._memory_slots = [slot for _, slot in graph["memory"]]
        self._obs_slots: list[int] = graph["observation"]
        self._action_slots: list[int] = graph["action"]
        self._action_structure = graph["action_structure"]
        self._next_slots: list[int] = graph["next_memory"]

        known: dict[int, np.ndarray] = {slot: arrays[name] for name, slot in graph["weights"]}
        for slot, value, dtype in graph["literals"]:
            known[slot] = np.asarray(float(value) if isinstance(value, str) else value, _dtype(dtype))
        self._steps = []
        for operation, inputs, outputs, parameters in graph["nodes"]:
            if operation not in OPERATIONS:
                raise ValueError(f"unknown operation {operation!r}")
            kinds = [(slot, _dtype(dtype)) for slot, dtype, _ in outputs]
            step = (OPERATIONS[operation], inputs, kinds, {**parameters, "dtype": kinds[0][1]}, operation)
            if all(slot in known for slot in inputs):  # depends on no observation: computed once, here
                with np.errstate(all="ignore"):
                    self._afford(step, known)
                    _run(step, known)
            else:
                self._steps.append(step)
        self._known = known
        self._check(graph)

    def act(self, obs: Any, memory: Any = None) -> tuple[Any, tuple[np.ndarray, ...]]:
        """Chooses the action for one observation.

        Args:
            obs: an element of the observation space, without batch axis.
            memory: what the last call of this episode returned; None at its start.

        Returns:
            (action, memory): the action is an element of the action space (a NumPy scalar if it is Discrete); the
            memory is for the next call.

        Raises:
            ValueError: `obs` does not fit the observation space, or `memory` is not this policy's.
        """
        leaves = _leaves(self.observation_space, obs, "observation")
        memory = self.memory if memory is None else memory
        if len(memory) != len(self.memory) or any(
            np.shape(given) != own.shape for given, own in zip(memory, self.memory, strict=True)
        ):
            raise _error("this memory is not one that this policy returned.")
        values = self._evaluate(leaves, memory)
        actions = [values[slot][0] for slot in self._action_slots]
        return _build(self._action_structure, iter(actions)), tuple(values[slot][0] for slot in self._next_slots)

    def _afford(self, step: tuple[Any, ...], values: Mapping[int, np.ndarray]) -> None:
        """Counts what a step will take; raises ValueError where that, with all before it, is too much."""
        _, inputs, _, params, name = step
        entries, work = _cost(name, [values[i] for i in inputs], params)
        self._left = [self._left[0] - entries, self._left[1] - work]
        if min(self._left) < 0:
            raise ValueError(f"{name} and what comes before it take more memory or time than a policy may")

    def _evaluate(
        self, leaves: Sequence[np.ndarray], memory: Sequence[np.ndarray], first: bool = False
    ) -> dict[int, np.ndarray]:
        values = dict(self._known)
        values.update(zip(self._obs_slots, (leaf[None] for leaf in leaves), strict=True))
        values.update(
            (slot, np.asarray(given, own.dtype)[None])
            for slot, given, own in zip(self._memory_slots, memory, self.memory, strict=True)
        )
        with np.errstate(all="ignore"):  # infinities and NaNs are values here, as they are in XLA
            for step in self._steps:
                if first:  # shapes do not depend on what is observed: once is enough
                    self._afford(step, values)
                _run(step, values)
        return values

    def _check(self, graph: Mapping[str, Any]) -> None:
        """Runs once on zeros: every value must have the shape that the file says it has."""
        values = self._evaluate(_zeros(self.observation_space), self.memory, first=True)
        for operation, _, outputs, _ in graph["nodes"]:
            for slot, _, shape in outputs:
                if values[slot].shape != tuple(shape):
                    raise ValueError(f"{operation} gives {values[slot].shape} where {tuple(shape)} is declared")
        _build(self._action_structure, iter([values[slot][0] for slot in self._action_slots]))
        for slot in self._next_slots:
            values[slot][0]


def load(path: str | Path, limit: int = LIMIT) -> PortablePolicy:
    """Reads a policy that `export` wrote.

    Args:
        path: the file.
        limit: bytes that its weights may take in memory, and as much again for what is computed from them.

    Raises:
        ValueError: the file is missing, damaged, too large, of a later version or no policy (within the package:
            InputError).
    """
    path = Path(path)
    if not path.is_file():
        raise _error(f"there is no policy file at {path}.")
    try:
        arrays = _arrays(path, limit)
        graph = json.loads(arrays.pop(GRAPH).tobytes().decode("utf-8"))
        known = isinstance(graph, dict) and graph.get("format") == FORMAT
    except Exception as error:  # zip, NumPy header, UTF-8 or JSON: whatever is wrong, it is not what `export` wrote
        raise _error(f"{path} is damaged or no policy file ({type(error).__name__}: {error}).") from error
    if not known:
        raise _error(f"{path} is no policy file: it does not say that its format is {FORMAT!r}.")
    if graph.get("version") != VERSION:
        raise _error(f"{path} is a policy file of version {graph.get('version')}; this program reads {VERSION}.")
    try:
        return PortablePolicy(graph, arrays, limit)
    except Exception as error:  # an inconsistent graph can fail in any operation
        raise _error(f"{path} is damaged: its graph cannot be run ({type(error).__name__}: {error}).") from error


def _arrays(path: Path, limit: int) -> dict[str, np.ndarray]:
    """All arrays of a file by name; each has a CRC-32 there. Nothing is unpacked before its size is known."""
    with zipfile.ZipFile(path) as archive:
        total = sum(info.file_size for info in archive.infolist())
        if total > limit:
            raise ValueError(f"unpacked it has {total:,} bytes of at most {limit:,}; `load(path, limit=…)` allows more")
        arrays = {info.filename.removesuffix(".npy"): _array(archive.read(info)) for info in archive.infolist()}
    if arrays[GRAPH].nbytes > _MOST_TEXT:
        raise ValueError(f"its graph has {arrays[GRAPH].nbytes:,} bytes of at most {_MOST_TEXT:,}")
    return arrays


def _array(content: bytes) -> np.ndarray:
    """An array in NumPy's own format, whose header is not believed before the size is right."""
    stream = io.BytesIO(content)
    version = np.lib.format.read_magic(stream)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(stream)
    if dtype.hasobject or math.prod(shape) * dtype.itemsize != len(content) - stream.tell():
        raise ValueError(f"an array of {shape} {dtype} has {len(content) - stream.tell()} bytes")
    stream.seek(0)
    return np.lib.format.read_array(stream, allow_pickle=False)


def _run(step: tuple[Any, ...], values: dict[int, np.ndarray]) -> None:
    operation, inputs, outputs, params, _ = step
    result = operation([values[slot] for slot in inputs], params)
    results = result if isinstance(result, list | tuple) else (result,)
    for (slot, dtype), value in zip(outputs, results, strict=True):
        values[slot] = np.asarray(value, dtype)


def _dtype(name: str) -> np.dtype:
    if name not in DTYPES and name != "float16":
        raise ValueError(f"unknown dtype {name!r}")
    return np.dtype(name)


def _leaves(space: Mapping[str, Any], x: Any, name: str) -> list[np.ndarray]:
    """Flattens `x`, checked against `space`, in the order in which JAX flattens it: dicts by sorted name."""
    kind = space["kind"]
    if kind == "dict":
        parts = space["spaces"]
        if not isinstance(x, Mapping) or set(x) != set(parts):
            raise _error(f"{name} must be a dict of {', '.join(sorted(parts))}.")
        return [leaf for key in sorted(parts) for leaf in _leaves(parts[key], x[key], f"{name}[{key!r}]")]
    if kind == "tuple":
        parts = space["spaces"]
        if not isinstance(x, tuple | list) or len(x) != len(parts):
            raise _error(f"{name} must be a tuple of {len(parts)}.")
        return [leaf for i, part in enumerate(parts) for leaf in _leaves(part, x[i], f"{name}[{i}]")]
    value, (shape, dtype) = np.asarray(x), _shape_dtype(space)
    if value.shape != shape:
        raise _error(f"{name} must have shape {shape}, not {value.shape}; a single one, without batch axis.")
    if value.dtype.kind not in ("biu" if dtype.kind in "biu" else "biuf"):
        raise _error(f"{name} must be {dtype}, not {value.dtype}.")
    if kind != "box" and not np.all((value >= 0) & (value < np.asarray(space["n" if kind == "discrete" else "nvec"]))):
        raise _error(f"{name} {value.tolist()} is outside its space {dict(space)}.")
    return [value.astype(dtype)]


def _shape_dtype(space: Mapping[str, Any]) -> tuple[tuple[int, ...], np.dtype]:
    if space["kind"] == "box":
        return tuple(space["shape"]), _dtype(space["dtype"])
    return (() if space["kind"] == "discrete" else (len(space["nvec"]),)), np.dtype(np.int32)


def _zeros(space: Mapping[str, Any]) -> list[np.ndarray]:
    if space["kind"] == "dict":
        return [leaf for key in sorted(space["spaces"]) for leaf in _zeros(space["spaces"][key])]
    if space["kind"] == "tuple":
        return [leaf for part in space["spaces"] for leaf in _zeros(part)]
    shape, dtype = _shape_dtype(space)
    if math.prod(shape) * dtype.itemsize > LIMIT:
        raise ValueError(f"an observation of {shape} is too large")
    return [np.zeros(shape, dtype)]


def _build(structure: Any, leaves: Any) -> Any:
    """Puts leaves back into the dicts and tuples of `structure`, in which None stands for a leaf."""
    if structure is None:
        return next(leaves)
    if isinstance(structure, dict):
        return {key: _build(structure[key], leaves) for key in sorted(structure)}
    return tuple(_build(part, leaves) for part in structure)
