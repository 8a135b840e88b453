"""The page of a comparison in Chromium: no error, no request, every chart with its numbers, on a phone too, for all."""

from __future__ import annotations

from pathlib import Path

import pytest
from chromium import barriers, browser, console_errors, opened, requested_hosts
from made_runs import made_run

from palaestra.train.comparison.comparison import compare_runs
from palaestra.train.comparison.comparison_page import comparison_page


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_opens_without_error_and_without_network(
    width: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        for agent, score in (("ppo", 120.0), ("dqn", 90.0)):
            made_run(f"runs/{agent}{seed}", score + seed, agent=agent, seed=seed)
    made_run("runs/<b>markup", None, agent="pqn")
    page = Path("compare.html")
    page.write_text(comparison_page(compare_runs(["runs"])), encoding="utf-8")
    with browser(width) as window:
        opened(window, page)
        assert console_errors(window) == []
        assert requested_hosts(window) == []
        charts = window.find_elements("css selector", "svg.chart")
        assert len(charts) == 5  # final scores, curves, scores while training, improvement, profile
        known = window.execute_script(
            "return Object.keys(JSON.parse(document.getElementById('data').textContent).charts)"
        )
        assert {chart.get_attribute("id") for chart in charts} == {*known}
        assert window.execute_script("return document.documentElement.scrollWidth") <= width
        assert "<b>markup" in window.find_element("css selector", "main").text
        window.execute_script("arguments[0].scrollIntoView({block: 'center'})", charts[1])
        charts[1].send_keys("\ue011")  # Home
        assert "ppo (2 seeds)" in window.find_element("id", "tip").text


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_serious_fault(dark: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every part that a page can have: several environments, long settings, remarks, one run without a score."""
    monkeypatch.chdir(tmp_path)
    for seed in range(2):
        for env, scale in (("palaestra/CartPole-v1", (0.0, 200.0)), ("palaestra/SnakeSmall-v0", (0.0, 35.0))):
            for agent, score in (("ppo", 30.0), ("dqn", 20.0)):
                long = (
                    {"learning_rate": "linear(0.001, 1e-05)", "ent_coef": "linear(0.005, 0.0)"}
                    if agent == "ppo"
                    else {}
                )
                for number, settings in enumerate([{}, *([long] if long else [])]):
                    name = f"runs/{env[10:]}{agent}{number}-{seed}"
                    made_run(name, score + seed - number, env=env, agent=agent, seed=seed, scale=scale, **settings)
    made_run("runs/none", None, agent="pqn")
    page = Path("compare.html")
    page.write_text(comparison_page(compare_runs(["runs"])), encoding="utf-8")
    with browser(dark=dark) as window:
        opened(window, page)
        window.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        headings = [h.text for h in window.find_elements("css selector", "h2")]
        assert headings == ["cartpole", "snake-small", "Over all environments", "Settings", "Runs"]
        assert barriers(window) == []
