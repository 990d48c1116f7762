"""The benchmarks' page, and the cases that it shows."""

import dataclasses

from benchmarks import page
from benchmarks.cases import CASES
from jaxrl import agents


def test_cases_are_settings_of_the_agents() -> None:
    for case in CASES.values():
        module = agents.get(case.agent)
        config, hp = module.Config(**case.config), module.Hyperparams(**case.hp)
        assert dataclasses.is_dataclass(config)
        assert set(case.hp) <= set(hp._fields)


def test_numbers_are_written_short() -> None:
    assert [page.count(x) for x in (7.5, 12_345, 3_456_789)] == ["7.5", "12.3 k", "3.46 M"]
    figures = {"median": 2_000.0, "min": 1_500.0, "max": 2_500_000.0}
    assert page.spread(figures) == "2 k (1.5 k – 2.5 M)"
    assert page.returns({"returns": [1.0, 3.0]}) == "2.0 (2 seeds)"
    assert page.returns({"returns": [500.0] * 8}) == "500.0 (500.0 – 500.0)"


def test_the_page_is_made_of_what_was_measured() -> None:
    text = "\n".join([page.HEAD, *page.training(), *page.stepping(), *page.replay(), *page.startup()])
    assert "Random stepping" in text
    assert page.PAGE.read_text() == text.rstrip() + "\n"
