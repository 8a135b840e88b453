"""The pages agree with each other and with the code: links, names, options, tables; and CI runs the gate."""

from __future__ import annotations

import ast
import inspect
import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from pages import PAGES, ROOT, read

from palaestra.agents import DQN, PPO, PQN, SAC, TD3, RecurrentPPO
from palaestra.agents.imitation.bc import BC
from palaestra.agents.options import CommonOptions
from palaestra.envs import entries
from palaestra.train.bench.bench_tables import section_name
from palaestra.train.config import AGENTS

MARKDOWN = sorted({*PAGES.values(), *ROOT.glob("*.md"), *(ROOT / ".github").rglob("*.md")})
FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"(?<!\\)\[[^\]]*\]\(([^)\s]+)\)")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
OF_SB3_ALONE = {  # arguments that the page leaves to Stable-Baselines3
    *("env", "kwargs", "_init_setup_model"),
    *("rollout_buffer_class", "replay_buffer_class", "replay_buffer_kwargs", "optimize_memory_usage"),
    "action_noise",
}


def relative(path: Path) -> str:
    return str(path.relative_to(ROOT))


def anchors(text: str) -> set[str]:
    """The names that GitHub gives to the headings of a page."""
    headings = re.findall(r"^#+ (.+)$", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", MARKDOWN, ids=relative)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in LINK.findall(FENCE.sub("", page.read_text(encoding="utf-8"))):
        if re.match(r"https?://", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert target.is_relative_to(ROOT), link
        assert not anchor or anchor in anchors(target.read_text(encoding="utf-8")), link


@pytest.mark.parametrize("name", PAGES)
def test_methods_are_where_a_page_says(name: str) -> None:
    """As in "`PPO._loss` in [agents/ppo.py](agents/ppo.py)"."""
    for cls, method, link in re.findall(r"`(\w+)\.(\w+)` in \[[^\]]+\]\(([^)]+)\)", read(name)):
        tree = ast.parse((PAGES[name].parent / link).read_text(encoding="utf-8"))
        body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == cls)
        assert method in [node.name for node in body if isinstance(node, ast.FunctionDef)], (cls, method)


def test_the_questions_of_a_newcomer_are_answered_in_the_first_page() -> None:
    questions = re.findall(r"^\| (.+\?) \| .*\]\(.+\) \|$", read("README.md"), re.MULTILINE)
    assert len(questions) == 10
    assert read("README.md").count("\n") <= 150


@pytest.mark.parametrize("agent", [PPO, DQN, PQN, SAC, TD3, BC, RecurrentPPO])
def test_every_option_of_an_agent_is_described(agent: type) -> None:
    options = read("agents/README.md").partition("\n## Options\n")[2].partition("\n## ")[0]
    described = {
        name for row in re.findall(r"^\| (`.+?) \|.*\|$", options, re.MULTILINE) for name in re.findall(r"`(\w+)", row)
    }
    taken = {*inspect.signature(agent).parameters, *CommonOptions.__annotations__} - OF_SB3_ALONE
    assert taken <= described


def test_the_table_of_a_run_folder_names_every_file_of_it() -> None:
    tree = ast.parse((ROOT / "train/runs/run_folder.py").read_text(encoding="utf-8"))
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    files = {name for name in names if re.fullmatch(r"[\w-]+\.(yaml|json|csv|zip|txt)", name)}
    assert {"config.yaml", "model.zip", "progress.csv"} <= files
    table = read("train/README.md").partition("\n## The run folder\n")[2].partition("\n## ")[0]
    assert {name for name in files if f"`{name}`" not in table} == set()


@pytest.mark.parametrize("name", PAGES)
def test_decimals_have_a_leading_zero(name: str) -> None:
    assert re.findall(r"(?<![\w.`/\"*\])])\.\d.*", read(name)) == []


def test_tables_of_results_stand_between_the_markers_of_the_commands_that_write_them() -> None:
    results = read("train/RESULTS.md").partition("\n## Memory\n")[0]  # test_memory_plan.py makes that table again
    names = re.findall(r"^<!-- ([\w-]+):begin -->$", results, re.MULTILINE)
    assert names == re.findall(r"^<!-- ([\w-]+):end -->$", results, re.MULTILINE)
    assert names[0] == "results"
    pairs = [(entry.short_name, agent) for entry in entries() for agent in AGENTS]
    kinds = ("", "scaling", "solve")
    written = {"results", "bench", *(section_name(env, agent, "cpu", kind) for env, agent in pairs for kind in kinds)}
    assert {name.removesuffix("-cuda") for name in names} <= written
    outside = re.sub(r"^<!-- ([\w-]+):begin -->$.*?^<!-- \1:end -->$", "", results, flags=re.DOTALL | re.MULTILINE)
    assert re.findall(r"^\|", outside, re.MULTILINE) == []


def named_pythons() -> list[str]:
    classifiers = [text.rpartition(" ")[2] for text in PROJECT["classifiers"] if "Language :: Python :: 3." in text]
    assert classifiers[0] == PROJECT["requires-python"].removeprefix(">=")
    return classifiers


@pytest.mark.parametrize("python", named_pythons())
def test_one_of_two_packages_brings_pygame(python: str) -> None:
    wanted = [Requirement(text) for text in PROJECT["dependencies"]]
    names = [one.name for one in wanted if one.marker is None or one.marker.evaluate({"python_version": python})]
    assert [name for name in names if "pygame" in name] == ["pygame-ce" if python == "3.14" else "pygame"]


def test_ci_runs_the_gate_on_every_python_that_the_package_names() -> None:
    settings = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text(encoding="utf-8"))
    gate = settings["jobs"]["gate"]
    assert [step["run"] for step in gate["steps"] if "run" in step] == ["bash .ci/run"]
    assert gate["strategy"]["matrix"]["python"] == named_pythons()


@pytest.mark.parametrize("form", sorted((ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml")), ids=relative)
def test_issue_forms_have_what_github_requires(form: Path) -> None:
    content = yaml.safe_load(form.read_text(encoding="utf-8"))
    assert {"name", "description", "body"} <= content.keys()
    for element in content["body"]:
        assert element["type"] in {"markdown", "textarea", "input", "dropdown", "checkboxes"}
        assert element["attributes"]["label"]
    ids = [element["id"] for element in content["body"]]
    assert len(ids) == len(set(ids))
