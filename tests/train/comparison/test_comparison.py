"""Runs beside runs: groups, curves, what is left out, the verdict, and what is printed and written."""

from __future__ import annotations

import csv
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_runs import made_run

from palaestra.train import cli
from palaestra.train.comparison.comparison import Comparison, compare_runs
from palaestra.train.comparison.comparison_page import comparison_page
from palaestra.train.comparison.comparison_table import as_csv, as_dict, comparison_table, task_rows
from palaestra.train.comparison.verdict import verdict
from palaestra.train.config.schema import ConfigError
from palaestra.train.runs.run_folder import RunFolder

MARKUP = "<script>alert(1)</script>"


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def group_of(found: Comparison, name: str) -> Any:
    (figures,) = (figures for figures in found.groups if figures.group.name == name)
    return figures


def test_runs_are_grouped_by_what_differs_but_the_seed() -> None:
    for seed in range(2):
        made_run(f"runs/a{seed}", seed=seed)
        made_run(f"runs/b{seed}", seed=seed, n_steps=32)
        made_run(f"runs/c{seed}", seed=seed, n_steps=32, env_kwargs={"force": 5.0})
        made_run(f"runs/d{seed}", seed=seed, agent="dqn")
    names = {figures.group.name: [run.path for run in figures.group.runs] for figures in compare_runs(["runs"]).groups}
    assert names == {
        "cartpole, dqn": ["runs/d0", "runs/d1"],
        "cartpole, ppo n_steps=32": ["runs/b0", "runs/b1"],
        "cartpole, ppo n_steps=64": ["runs/a0", "runs/a1"],
        "cartpole force=5.0, ppo": ["runs/c0", "runs/c1"],
    }


def test_what_says_nothing_of_learning_makes_no_group() -> None:
    for seed in range(2):
        folder = made_run(f"runs/a{seed}", seed=seed)
        text = folder.config_file.read_text().replace("checkpoint_every: 1m", f"checkpoint_every: {seed + 1}m")
        folder.config_file.write_text(f"{text}threads: {seed + 1}\n")
    assert [len(figures.group.runs) for figures in compare_runs(["runs"]).groups] == [2]


def test_a_seed_that_is_there_twice_counts_once() -> None:
    made_run("runs/20260101-000000-s0", 50.0)
    made_run("runs/20260102-000000-s0", 70.0)
    made_run("runs/20260103-000000-s0", None)
    found = compare_runs(["runs"])
    assert group_of(found, "cartpole, ppo").scores.tolist() == [70.0]
    assert "the newest counts; left out are runs/20260101-000000-s0, runs/20260103-000000-s0" in found.remarks[0]


def test_long_settings_have_a_number_and_are_listed() -> None:
    nets = [{"net_arch": [16] * 20}, {"net_arch": [17] * 20}]
    for number, net in enumerate(nets):
        made_run(f"runs/{number}", policy_kwargs=net)
    found = compare_runs(["runs"])
    assert [figures.group.method for figures in found.groups] == ["ppo #1", "ppo #2"]
    assert f"ppo #2: policy_kwargs.net_arch={[17] * 20}" in comparison_table(found, None)


def test_curves_by_hand() -> None:
    """Two seeds, evaluated alike; the score while training is the area from the first common step to the last."""
    made_run("runs/a0", evaluations=[(1000, 20.0), (2000, 60.0), (4000, 100.0)])
    made_run("runs/a1", seed=1, evaluations=[(1000, 40.0), (2000, 40.0), (4000, 40.0)])
    made_run("runs/b0", agent="dqn", evaluations=[(2000, 60.0), (8000, 180.0)])
    found = compare_runs(["runs"])
    ppo, dqn = group_of(found, "cartpole, ppo"), group_of(found, "cartpole, dqn")
    assert ppo.curve.steps.tolist() == [1000, 2000, 4000]
    assert ppo.curve.middle.tolist() == [15, 25, 35]  # % of 200
    assert (ppo.curve.low.tolist(), ppo.curve.high.tolist()) == ([10, 20, 20], [20, 30, 50])
    # common: 2,000 to 4,000, in which the seeds of ppo have 40 and 20 %, and dqn goes from 30 to 50 %
    assert (ppo.training, ppo.training_interval) == (pytest.approx(30), pytest.approx((20, 40)))
    assert (dqn.training, dqn.training_interval) == (pytest.approx(40), (None, None))
    # solved at 60: after 2,000 steps and never, so that half of the runs did
    assert (ppo.solved.solved, ppo.solved.runs, ppo.solved.steps) == (1, 2, math.inf)
    assert (dqn.solved.solved, dqn.solved.steps, dqn.solved.seconds) == (1, 2000, 1)


def test_curves_of_other_steps_are_laid_over_each_other() -> None:
    made_run("runs/a0", evaluations=[(1000, 0.0), (3000, 100.0)])
    made_run("runs/a1", seed=1, evaluations=[(2000, 100.0), (4000, 200.0)])
    curve = group_of(compare_runs(["runs"]), "cartpole, ppo").curve
    assert (curve.steps[0], curve.steps[-1]) == (2000, 3000)
    assert curve.runs[0] == pytest.approx((curve.steps - 1000) / 2000 * 50)
    assert curve.runs[1] == pytest.approx(curve.steps / 2000 * 50)


def test_the_verdict_tells_when_seeds_are_too_few() -> None:
    for seed in range(3):
        made_run(f"runs/a{seed}", 100.0 + seed, seed=seed)
        made_run(f"runs/b{seed}", 50.0 + seed, seed=seed, agent="dqn")
    text = " ".join(verdict(compare_runs(["runs"])))
    assert text.startswith("ppo is ahead with a normalised score of 50.50 % (IQM")
    assert "3 seeds of each are too few to tell it from dqn" in text
    assert "p would be 0.1 at best. With 4 seeds of each it can be as small as 0.05." in text
    assert "palaestra train --config runs/a0/config.yaml --seed 3" in text
    made_run("runs/a3", 103.0, seed=3)
    made_run("runs/b3", 53.0, seed=3, agent="dqn")
    found = compare_runs(["runs"])
    text = " ".join(verdict(found))
    assert "It beats dqn (probability of improvement 1.00, 95 % interval 1.00 to 1.00, p = 0.029)" in text
    assert [one.p for one in found.improvements] == [pytest.approx(2 / 70)]
    assert "too few" not in text
    RunFolder(Path("runs/b3")).evaluation_file.write_text(json.dumps({"mean": 999.0}))
    assert "It is not told apart from dqn (probability of improvement 0.75" in " ".join(verdict(compare_runs(["runs"])))


def test_several_environments_are_normalised() -> None:
    for seed in range(3):
        for agent, share in (("ppo", 0.8), ("dqn", 0.4)):
            name = f"{agent}{seed}"
            made_run(f"runs/c{name}", 200 * share, seed=seed, agent=agent)
            snake = {"env": "palaestra/Snake-v0", "scale": (0.0, 50.0)}
            made_run(f"runs/s{name}", 50 * share + seed, seed=seed, agent=agent, **snake)  # type: ignore[arg-type]
    made_run("runs/x", 1.0, env="palaestra/Pricing-v0")
    found = compare_runs(["runs"])
    assert (found.tasks, found.normalised) == (["cartpole", "snake"], True)
    best, other = found.methods
    assert best.figures["IQM"][0] == pytest.approx(np.mean([80, 80, 80, 82]))  # of 80 80 80 80 82 84 the middle
    assert best.figures["mean"][0] == pytest.approx((80 + 82) / 2)
    assert best.figures["optimality gap"][0] == pytest.approx(19)
    assert [one.p for one in found.improvements] == [pytest.approx(2 / 20**2)]
    assert found.remarks == ["pricing is left out of the verdict: not all methods have final scores there"]
    assert other.method == "dqn"


def test_where_the_scale_is_not_known_returns_are_compared() -> None:
    for number, agent in enumerate(("ppo", "dqn")):
        made_run(f"runs/{agent}", 100.0 + number, agent=agent, scale=None)
    found = compare_runs(["runs"])
    assert (found.normalised, found.methods[0].figures["IQM"][0]) == (False, 101)
    assert "dqn is ahead with a score of 101" in verdict(found)[0]
    assert "normalised" not in comparison_table(found, None)
    assert "mean return" in comparison_page(found)


def test_one_run_and_one_method() -> None:
    made_run("runs/a")
    found = compare_runs(["runs/a"])
    told, more = verdict(found)
    assert told.startswith("There is one run only, with a normalised score of 50.0")
    assert told.endswith("nothing to compare it with, and no interval.")
    assert more == "Another one: palaestra train --config runs/a/config.yaml --seed 1"
    assert "1 run, compared" in comparison_page(found)
    made_run("runs/b", 120.0, seed=1)
    assert verdict(compare_runs(["runs"]))[0].startswith("There is one method only, ppo, with a normalised score of 55")


@pytest.mark.parametrize(
    ("damage", "remark"),
    [
        (lambda run: run.progress_file.unlink(), "runs/a has no curves"),
        (lambda run: run.progress_file.write_text("no,table\n1,2\n"), "is damaged: its first line names no column"),
        (lambda run: run.progress_file.write_bytes(b""), "is damaged: its first line"),
        (
            lambda run: run.progress_file.write_text(run.progress_file.read_text() + "x,y\n1,2,3,four\n\x00\n"),
            "rows that cannot be read are left out (3)",
        ),
        (
            lambda run: run.progress_file.write_text(run.progress_file.read_text().replace("100.0", "inf")),
            "evaluations that are no finite numbers, which are left out (1)",
        ),
        (lambda run: run.evaluation_file.unlink(), "interrupted, so without a final score: runs/a"),
        (lambda run: run.config_file.write_text("env: ["), "runs/a is left out: its configuration is damaged"),
        (lambda run: run.facts_file.write_text("{"), "runs/a is left out: runs/a/run.json is damaged"),
        (lambda run: run.model_file.unlink(), "broken, so without a final score: runs/a"),
    ],
)
def test_what_is_damaged_is_told_and_left_out(damage: Callable[[RunFolder], Any], remark: str) -> None:
    damage(made_run("runs/a"))
    made_run("runs/b", seed=1, agent="dqn")
    found = compare_runs(["runs"])
    assert any(remark in text for text in found.remarks), found.remarks
    for width in (40, 80, None):
        assert remark.split(":")[0].split()[0] in comparison_table(found, width)
    assert remark in comparison_page(found).replace("&#39;", "'")
    json.dumps(as_dict(found), allow_nan=False)


def test_nan_in_curves_is_no_number() -> None:
    folder = made_run("runs/a", evaluations=[(1000, 10.0), (2000, math.nan), (3000, 30.0)])
    text = folder.progress_file.read_text().replace("mean_reward\n", "mean_reward,eval/mean_ep_length\n")
    heads, *rows = text.splitlines()
    folder.progress_file.write_text("\n".join([heads, *(f"{row},5" for row in rows)]) + "\n")
    found = compare_runs(["runs"])
    assert group_of(found, "cartpole, ppo").curve.steps.tolist() == [1000, 3000]
    assert "no finite numbers, which are left out (1)" in found.remarks[0]


def test_a_table_of_three_agents_fits_eighty_columns() -> None:
    """One line for each, with numbers as long as those of whole runs."""
    curve = [(1_000_000, 50.0), (2_000_000, 100.0), (10_000_000, 100.0)]
    for seed, scores in enumerate([(34.983, 34.765, 34.484), (34.969, 34.767, 34.624), (34.937, 34.571, 34.418)]):
        for agent, score in zip(("pqn", "ppo", "dqn"), scores, strict=True):
            made_run(f"runs/{agent}{seed}", score, agent=agent, seed=seed, scale=(0.1465, 35.0), evaluations=curve)
    lines = comparison_table(compare_runs(["runs"]), 80).splitlines()
    start = lines.index("cartpole")
    heads, *rows = lines[start + 1 :]
    assert heads.endswith("  solved after  method")
    assert [row.split("  ")[-1] for row in rows] == ["pqn", "ppo", "dqn"]
    assert [row.split("  ")[-2].strip() for row in rows] == ["2.0M, 0:02"] * 3
    assert [row.split()[1:6] for row in rows] == [
        ["34.963", "99.894", "%", "99.819", "to"],
        ["34.701", "99.14", "%", "98.77", "to"],
        ["34.51", "98.59", "%", "98.33", "to"],
    ]
    assert max(len(line) for line in lines if "config.yaml" not in line) <= 80


def test_the_table_tells_how_many_have_solved_it_unless_all_have() -> None:
    for seed, (reached, never) in enumerate([(True, True), (True, False), (False, False)]):
        for agent, solves in {"ppo": reached, "dqn": never, "pqn": False}.items():
            high = 60.0 if solves else 59.9
            evaluations = [(1000, 10.0), (2000, high), (3000, high)]
            made_run(f"runs/{agent}{seed}", seed=seed, agent=agent, evaluations=evaluations)
    heads, rows = task_rows(compare_runs(["runs"]).groups)
    told = {row[-1]: row[heads.index("solved after")] for row in rows}
    assert told == {"ppo": "2 of 3: 2.0k, 0:02", "dqn": "1 of 3", "pqn": "0 of 3"}


def test_no_final_scores_at_all() -> None:
    made_run("runs/a", None)
    found = compare_runs(["runs"])
    assert verdict(found) == ["No run has a final score, so nothing can be said of which is better."]
    assert "0 of 1  " in comparison_table(found, 80)
    assert "Learning" in comparison_page(found)
    made_run("runs/b", 3.0, agent="dqn", env="palaestra/Snake-v0")
    made_run("runs/c", 3.0, agent="pqn")
    found = compare_runs(["runs"])
    assert verdict(found)[0].startswith("No environment has final scores of all methods")
    assert "Snake" in comparison_page(found) or "snake" in comparison_page(found)


def test_markup_in_names_is_text() -> None:
    folder = made_run(f"runs/{MARKUP.replace('/', '')}", device=MARKUP, notes=MARKUP)
    made_run("runs/b", seed=1, notes="plain")
    assert folder.path.is_dir()
    page = comparison_page(compare_runs(["runs"]))
    assert "<script>alert" not in page
    assert "&lt;script&gt;alert(1)" in page


def command(monkeypatch: pytest.MonkeyPatch, text: str) -> int:
    monkeypatch.setattr(sys, "argv", ["palaestra", *text.split()])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


def test_the_command(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    for seed in range(2):
        made_run(f"runs/cartpole/ppo/20260101-00000{seed}-s{seed}", 100.0 + seed, seed=seed)
        made_run(f"runs/cartpole/dqn/20260102-00000{seed}-s{seed}", 50.0, seed=seed, agent="dqn")
    assert command(monkeypatch, "compare runs --out c.html --csv c.csv --json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["verdict"] == verdict(compare_runs(["runs"]))
    assert told["methods"][0]["IQM"]["value"] == 50.25
    with open("c.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["seed"], row["score"]) for row in rows][2:] == [
        ("ppo", "0", "100.0"),
        ("ppo", "1", "101.0"),
    ]
    data = Path("c.html").read_text().split('id="data">')[1].split("</script>")[0]
    assert json.loads(data)["comparison"] == told
    assert command(monkeypatch, "compare 20260101-000000 20260102-000001") == 0
    out = capsys.readouterr().out
    assert "1 seed of each is too few" in out
    for width in (40, 80):
        lines = comparison_table(compare_runs(["runs"]), width).splitlines()
        assert max(len(line) for line in lines if "config.yaml" not in line) <= width


def test_bad_input_writes_nothing(
    here: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made_run("runs/a")
    Path("empty").mkdir()
    Path("folder.csv").mkdir()
    Path("mine.html").write_text("<p>mine")
    made_run("broken").config_file.write_text("env: [")
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    for arguments, message in {
        "": "Missing argument",
        "empty": "there is no run in empty or below it",
        "nowhere": "no run 'nowhere'",
        "latest:snake": "there is no run of snake",
        "runs nowhere --out c.html --csv c.csv": "no run 'nowhere'",
        "broken --out c.html": "none of the runs can be compared: broken is left out",
        "runs --out mine.html": "is no page of palaestra",
        "runs --out page.pdf": "expected a name that ends in .html",
        "runs --csv table.xlsx": "expected a name that ends in .csv",
        "runs --out c.html --csv runs/a/progress.csv": "is no table of palaestra compare: choose another name",
        "runs --out c.html --csv folder.csv": "folder.csv is a folder: name a file",
    }.items():
        assert command(monkeypatch, f"compare {arguments}".strip()) == 2
        told = capsys.readouterr()
        assert message in told.err
        assert told.out == ""
    assert {path: path.read_bytes() for path in here.rglob("*") if path.is_file()} == before
    with pytest.raises(ConfigError):
        compare_runs(["nowhere"])
    Path("own.csv").touch()
    for _ in range(2):  # an empty file and a table of its own are replaced
        assert command(monkeypatch, "compare runs --csv own.csv") == 0
    assert Path("own.csv").read_text().startswith("environment,method,path,")


def test_csv_has_the_settings_that_differ() -> None:
    made_run("runs/a", n_steps=32)
    made_run("runs/b", n_steps=64)
    rows = list(csv.DictReader(as_csv(compare_runs(["runs"])).splitlines()))
    assert [row["n_steps"] for row in rows] == ["32", "64"]
