"""The benchmarks' page, and the cases that it shows."""

import dataclasses
import math

import jax
import jax.numpy as jnp
import pytest

from benchmarks import operations, page, samples, startup
from benchmarks.cases import CASES
from jaxrl import agents


def test_cases_are_settings_of_the_agents() -> None:
    for case in CASES.values():
        module = agents.get(case.agent)
        config, hp = module.Config(**case.config), module.Hyperparams(**case.hp)
        assert dataclasses.is_dataclass(config)
        assert set(case.hp) <= {field.name for field in dataclasses.fields(hp)}


def test_numbers_are_written_short() -> None:
    assert [page.count(x) for x in (7.5, 12_345, 3_456_789)] == ["7.5", "12.3 k", "3.46 M"]
    figures = {"median": 2_000.0, "min": 1_500.0, "max": 2_500_000.0}
    assert page.spread(figures) == "2 k (1.5 k – 2.5 M)"
    assert page.returns({"returns": [1.0, 3.0]}) == "2.0 (2 seeds)"
    assert page.returns({"returns": [500.0] * 8}) == "500.0 (500.0 – 500.0)"


def test_the_page_is_made_of_what_was_measured() -> None:
    assert "Random stepping" in page.text()
    assert page.PAGE.read_text() == page.text()


def test_compilation_has_a_budget_in_terms_of_ppo() -> None:
    took = {"trace_seconds": 1.0, "compile_seconds": 3.0}
    agents_took = {"ppo": took, "dqn": took, "ppo_transformer": took}
    assert startup.budgets(agents_took) == {"ppo": 5.0, "dqn": 10.0, "ppo_transformer": 16.0}
    assert startup.budgets({"dqn": took}) == {"dqn": 12.5}


@pytest.mark.parametrize("lanes", [(), (1,), (3,), (3, 2)])
def test_sizes_of_products_are_found(lanes: tuple[int, ...]) -> None:
    def two(x: jax.Array, a: jax.Array, b: jax.Array) -> jax.Array:
        return jnp.tanh(x @ a) @ b

    mapped = two
    for _ in lanes:
        mapped = jax.vmap(mapped)
    shapes = [jax.ShapeDtypeStruct((*lanes, *shape), jnp.float32) for shape in ((32, 8), (8, 16), (16, 4))]
    found = operations.products(jax.jit(mapped).lower(*shapes).compile().as_text() or "")
    sizes = [size for of_operation in found.values() for size in of_operation]
    assert operations.flop(sizes) == math.prod(lanes) * 2 * (32 * 8 * 16 + 32 * 16 * 4)
    assert sorted(size[2] for size in sizes) == [8, 16]  # the inner size is the same however a side is turned


def test_samples_are_sorted_by_purpose() -> None:
    report = """
# Overhead  Shared Object        Symbol
    40.00%  libjax_common.so     [.] ynn::dot_fp32_5x64x1_1x16x1_avx512
     2.00%  libjax_common.so     [.] ynn::transpose_x32_avx512
     3.00%  libc.so.6            [.] __memmove_avx512_unaligned_erms
     6.00%  libjax_common.so     [.] slinky::(anonymous namespace)::evaluator::eval
     5.00%  libjax_common.so     [.] xla::cpu::YnnFusionThunk::Execute
     9.00%  libjax_common.so     [.] xla::cpu::ThunkExecutor::Execute<xla::cpu::ThunkExecutor::FifoReadyQueue>
     1.50%  libc.so.6            [.] _int_malloc
     0.50%  libc.so.6            [.] cfree@GLIBC_2.2.5
    32.00%  [JIT] tid 14757      [.] 0x00007f071c08f21a
     1.00%  [kernel.kallsyms]    [k] clear_page
"""
    assert {name: round(share, 4) for name, share in samples.shares(report).items()} == {
        "products": 0.4,
        "packing, copies": 0.05,
        "calls of products": 0.11,
        "dispatch": 0.09,
        "allocation": 0.02,
        "other operations": 0.32,
        "the rest": 0.01,
    }
