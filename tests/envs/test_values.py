"""Text becomes values, and values are checked, by the type of the field."""

import math
from dataclasses import dataclass, field, replace
from typing import Annotated, Any, Literal, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from envs import values
from envs.errors import InputError
from envs.values import Bounds, Checked, Count, Fraction, Positive, Size, Whole

HIDDEN = tuple[Size, ...]
PAIRS = tuple[tuple[float, float], tuple[float, float]]
NAMES = Literal["tanh", "relu"]


@pytest.mark.parametrize(
    ("text", "kind", "value"),
    [
        ("64", int, 64),
        ("64.0", int, 64),
        ("1e3", int, 1000),
        (" -3 ", Whole, -3),
        ("1e-3", float, 0.001),
        ("2", float, 2.0),
        ("inf", float, math.inf),
        *((text, bool, True) for text in ("true", "True", "TRUE")),
        *((text, bool, False) for text in ("false", "False", "FALSE")),
        ("None", int | None, None),
        ("none", Size | None, None),
        ("3.0", Size | None, 3),
        ("relu", NAMES, "relu"),
        ("'relu'", NAMES, "relu"),
        ('"a b"', str, "a b"),
        *((text, HIDDEN, (8, 4)) for text in ("8,4", "(8, 4)", "[8,4]", "(8,4,)", ["8", "4"], ["8.0", "4"])),
        ("8", HIDDEN, (8,)),
        ("()", HIDDEN, ()),
        ([], HIDDEN, ()),
        *(
            (text, PAIRS, ((1.0, 2.0), (3.0, 4.0)))
            for text in ("((1,2),(3,4))", "(1,2),(3,4)", "[[1, 2], [3, 4]]", ["1", "2", "3", "4"], ["(1,2)", "(3,4)"])
        ),
        (["SFF", "FFG"], tuple[str, ...], ("SFF", "FFG")),
        ("0.5", Fraction, 0.5),
        ("anything", Any, "anything"),
    ],
)
def test_text_is_read_by_type(text, kind, value):
    found = values.parse("x", text, kind)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("text", "kind", "message"),
    [
        ("many", int, "x=many must be a whole number."),
        ("2.5", Size, "x=2.5 must be a whole number of at least 1."),
        ("nan", Size, "x=nan must be a whole number of at least 1."),
        ("0", Size, "x=0 must be at least 1."),
        ("-1", Count, "x=-1 must be at least 0."),
        ("1e18", Size, "x=1e18 must be at most 2,147,483,647."),
        ("high", float, "x=high must be a number."),
        ("nan", float, "x=nan must be a number."),
        ("1.5", Fraction, "x=1.5 must be from 0 to 1."),
        ("0", Positive, "x=0 must be above 0."),
        ("1", bool, "x=1 must be true or false."),
        ("ture", bool, "x=ture must be true or false."),
        ("tanhh", NAMES, "x=tanhh must be one of tanh, relu. Did you mean 'tanh'?"),
        ("zzz", NAMES, "x=zzz must be one of tanh, relu."),
        ("x", Size | None, "x=x must be a whole number of at least 1 or None."),
        ("(8,0)", HIDDEN, "x=(8,0) must be a list, each entry a whole number of at least 1."),
        ("8 4", HIDDEN, "x=8 4 must be a list, each entry a whole number of at least 1."),
        (["1", "2", "3"], PAIRS, "x=1 2 3 must be 2 values, each 2 values, each a number."),
        ("(8,4", HIDDEN, "brackets or quotes that do not close"),
    ],
)
def test_what_is_no_such_value_is_refused(text, kind, message):
    with pytest.raises(InputError) as caught:
        values.parse("x", text, kind)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    ("given", "kind", "value"),
    [
        (64.0, int, 64),
        (np.int64(3), int, 3),
        (np.asarray(3), int, 3),
        (np.float32(0.5), float, 0.5),
        (1, float, 1.0),
        (np.True_, bool, True),
        ([8, 4.0], HIDDEN, (8, 4)),
        (np.array([8, 4]), HIDDEN, (8, 4)),
        (None, Size | None, None),
    ],
)
def test_python_values_are_converted(given, kind, value):
    found = values.convert("x", given, kind)
    assert found == value
    assert type(found) is type(value)
    if isinstance(value, tuple):
        assert [type(x) for x in found] == [type(x) for x in value]


@pytest.mark.parametrize(
    ("given", "kind"),
    [(True, int), (1, bool), ("1", int), (None, int), (2.5, int), ("relu", tuple[str, ...]), (3, NAMES), (8, HIDDEN)],
)
def test_python_values_of_another_type_are_refused(given, kind):
    with pytest.raises(InputError, match="must be"):
        values.convert("x", given, kind)


def test_values_of_several_runs_and_traced_ones_pass():
    several = np.array([0.9, 0.99])
    assert values.convert("gamma", several, Fraction) is several
    for bad in ([0.9, 1.1], [0.9, np.nan]):
        with pytest.raises(InputError, match="gamma"):
            values.convert("gamma", np.array(bad), Fraction)
        with pytest.raises(InputError, match="gamma"):
            values.convert("gamma", jnp.array(bad), Fraction)
    assert jax.jit(lambda x: values.convert("gamma", x, Fraction))(2.0) == 2.0


@dataclass(frozen=True)
class Settings(Checked):
    size: int = 4
    lowest: int = 0
    below: int = -2
    maybe: int | None = None
    atoms: Annotated[int, Bounds(2)] = 51
    hidden: tuple[int, ...] = (64, 64)
    kept: tuple[int, ...] = (0, 1)
    name: NAMES = "tanh"
    made: tuple[float, ...] = field(default_factory=lambda: (1.0,))
    anything: Any = None


def test_a_whole_number_is_a_size_unless_its_default_is_lower():
    assert Settings(size=1, lowest=0, below=-2, maybe=1, atoms=2, hidden=(1,), kept=(0,)) is not None
    for name, value in {
        "size": 0,
        "lowest": -1,
        "below": -3,
        "maybe": 0,
        "atoms": 1,
        "hidden": (0,),
        "kept": (-1,),
    }.items():
        with pytest.raises(InputError, match=f"{name}="):
            replace(Settings(), **{name: value})


def test_settings_are_converted_when_they_are_made():
    made = Settings(size=8.0, hidden=[32, 32], made=[1, 2])
    assert made == Settings(size=8, hidden=(32, 32), made=(1.0, 2.0))
    assert hash(made) == hash(Settings(size=8, hidden=(32, 32), made=(1.0, 2.0)))
    with pytest.raises(InputError, match="Did you mean 'tanh'"):
        Settings(name="tahn")


class Pair(NamedTuple):
    gamma: Fraction = 0.9
    period: int = 50


def test_named_tuples_and_missing_defaults():
    values.require(Pair())
    with pytest.raises(InputError, match=r"gamma=1\.5 must be from 0 to 1"):
        values.require(Pair(gamma=1.5))
    with pytest.raises(InputError, match="period=0 must be at least 1"):
        values.require(Pair(period=0))

    @dataclass(frozen=True)
    class Needs:
        kept: tuple[int, ...]

    assert values.kinds(Needs((0, 1)))["kept"] == tuple[Annotated[int, Bounds(0)], ...]
    assert values.kinds(Needs)["kept"] == tuple[Size, ...]


def test_arrays_keep_shape_and_type():
    like = np.zeros((2, 3), np.float32)
    found = values.as_array("x", np.ones((2, 3)).tolist(), like)
    assert found.dtype == np.float32
    assert values.of_array(like) == tuple[(tuple[float, float, float],) * 2]
    assert values.as_array("x", 3.0, np.int32(1)).dtype == np.int32
    for value, message in ((2.5, "int32"), (2**31, "int32"), ([1, 2], "shape"), ("a", "int32")):
        with pytest.raises(InputError, match=message):
            values.as_array("x", value, np.int32(1))


def test_lists_are_split_outside_brackets_and_quotes():
    assert values.split("(8, 8),(4,)") == ["(8, 8)", "(4,)"]
    assert values.split("tanh, relu") == ["tanh", "relu"]
    assert values.split("'a,b',c") == ["'a,b'", "c"]
    with pytest.raises(InputError, match="do not close"):
        values.split("(8,8")
