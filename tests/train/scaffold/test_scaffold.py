"""``palaestra new``: names it refuses, what it leaves behind, and that what it writes works once it is installed."""

from __future__ import annotations

import errno
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palaestra.envs import TensorVectorEnv, entries
from palaestra.envs.checker.conformance import check_env
from palaestra.train.evaluation.episodes import run_episodes
from palaestra.train.evaluation.policies import ExpertPolicy, RandomPolicy
from palaestra.train.scaffold import scaffold
from palaestra.train.scaffold.scaffold import TEMPLATES, ScaffoldError, new_package


def template_env(name: str) -> Any:
    return import_module(f"palaestra.train.scaffold.templates.{name}").MyEnv()


@pytest.mark.parametrize("name", TEMPLATES)
def test_templates_keep_the_contract(name: str) -> None:
    assert [finding for finding in check_env(template_env(name), num_envs=64) if not finding.passed] == []


@pytest.mark.parametrize("name", TEMPLATES)
def test_the_references_of_the_templates_are_what_their_policies_score(name: str) -> None:
    reference = template_env(name).reference
    for policy, value in ((ExpertPolicy(), reference.optimum), (RandomPolicy(), reference.random)):
        returns = run_episodes(TensorVectorEnv(template_env(name), 4096, device="cpu", seed=3), policy).returns
        assert abs(returns.mean() - value) <= 4.0 * returns.std() / np.sqrt(len(returns)) + 1e-6


def test_the_grid_template_s_distances_are_breadth_first() -> None:
    """An independent search, cell by cell."""
    grid = import_module("palaestra.train.scaffold.templates.grid")
    env = grid.MyEnv()
    free = {i for i, mark in enumerate("".join(grid.MAP)) if mark == "."}
    assert env.free.tolist() == sorted(free)
    for goal in free:
        steps, frontier = {goal: 0}, [goal]
        for cell in frontier:
            for other in (cell - grid.SIZE, cell + 1, cell + grid.SIZE, cell - 1):
                if other in free and other not in steps:
                    steps[other] = steps[cell] + 1
                    frontier.append(other)
        assert {cell: int(env.distance[cell, goal]) for cell in free} == steps


# ---------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("2048", "'2048' is no name for a package"),
        ("a b", "no name for a package"),
        ("../up", "no name for a package"),
        ("", "no name for a package"),
        ("_hidden", "no name for a package"),
        ("café", "no name for a package"),
        ("class", "'class' is a word of the Python language"),
        ("none", "'none' is a word of the Python language"),
        ("json", "'json' is a module of Python's standard library"),
        ("torch", "there is a module 'torch' already (/"),
        ("palaestra", "there is a module 'palaestra' already"),
        ("tests", "name of another folder"),
        ("snake", "there is an environment 'snake' already"),
        ("snake-small", "there is an environment 'snake-small' already"),
        ("snake_small", "there is an environment 'snake-small' already"),
        ("box", "class would be called Box"),
        ("tensor-env", "class would be called TensorEnv"),
    ],
)
def test_unusable_names_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ScaffoldError, match=re.escape(message)):
        new_package(name)
    assert list(tmp_path.iterdir()) == []


def test_all_environments_are_known_by_name_without_importing_them() -> None:
    suite = {entry.short_name for entry in entries() if entry.id.startswith("palaestra/")}
    assert suite <= scaffold._short_names()


def test_nothing_is_overwritten_and_nothing_is_left_half_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new_package("my-env", "grid", tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    with pytest.raises(ScaffoldError, match="my_env exists already"):
        new_package("my_env", "minimal", tmp_path)
    with pytest.raises(ScaffoldError, match="there is no folder"):
        new_package("other", "minimal", tmp_path / "nowhere")
    with pytest.raises(ScaffoldError, match=r"unknown template 'gird'; did you mean 'grid'\?"):
        new_package("other", "gird", tmp_path)
    write = Path.write_text

    def full_disk(path: Path, text: str, **kwargs: Any) -> int:
        if path.name == "env.py":
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(path, text, **kwargs)

    monkeypatch.setattr(Path, "write_text", full_disk)
    with pytest.raises(ScaffoldError, match=r"cannot write .*: No space left"):
        new_package("other", "minimal", tmp_path)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["my_env"]


@pytest.mark.parametrize("template", TEMPLATES)
def test_every_name_is_replaced(tmp_path: Path, template: str) -> None:
    folder = new_package("ad-bidding", template, tmp_path)
    assert folder == tmp_path / "ad_bidding"
    files = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    package = ("ad_bidding/__init__.py", "ad_bidding/env.py", "tests/test_ad_bidding.py")
    assert set(files) == {*package, "pyproject.toml", "README.md"}
    leftover = re.compile(r"my[_-]env|MyEnv|templates|SUMMARY|COMMANDS")
    assert [name for name, text in files.items() if leftover.search(text)] == []
    assert "class AdBidding(TensorEnv[AdBiddingState]):" in files["ad_bidding/env.py"]
    assert '"ad_bidding/AdBidding-v0", "ad_bidding.env:AdBidding", "ad_bidding"' in files["ad_bidding/__init__.py"]


# ---------------------------------------------------------------------------------------------------- installed


def python(*arguments: str, path: Path, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python with an installation folder on its path."""
    kept = [entry for entry in (os.environ.get("PYTHONPATH"),) if entry]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(path), *kept]), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, check=False, env=env, cwd=cwd or path
    )


def install(folder: Path, target: Path, *arguments: str) -> None:
    """What ``pip install`` does, without network or other people's environment."""
    pip = ("-m", "pip", "install", "-q", "--no-deps", "--no-build-isolation", "--disable-pip-version-check")
    done = python(*pip, *arguments, "--target", str(target), str(folder), path=folder)
    assert done.returncode == 0, done.stderr


MAKE = """
import sys, warnings
import gymnasium
from gymnasium.utils.env_checker import check_env
for name in sys.argv[1:]:
    env = gymnasium.make(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        check_env(env.unwrapped, skip_render_check=True)
    print(name, env.action_space)
"""
BROKEN = {
    "no_import": "import no_such_module",
    "no_build": """
from palaestra.envs import register
from palaestra.envs.cartpole import CartPole

class Raises(CartPole):
    def __init__(self):
        raise RuntimeError("no licence")

register("no_build/Raises-v0", "no_build:Raises", "no_build", "cannot be made")
""",
}


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The three templates and two broken plug-ins, all installed in one folder."""
    work = tmp_path_factory.mktemp("work")
    target = work / "site"
    for template in TEMPLATES:
        install(new_package(f"new-{template}", template, work), target)
    for name, source in BROKEN.items():
        (target / f"{name}.py").write_text(source)
        (target / f"{name}-1.dist-info").mkdir()
        (target / f"{name}-1.dist-info/METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
        (target / f"{name}-1.dist-info/entry_points.txt").write_text(f"[palaestra.envs]\n{name} = {name}\n")
    return target


def test_installed_packages_are_listed_and_broken_ones_named(installed: Path) -> None:
    done = python("-m", "palaestra.train.cli", "envs", "--json", path=installed)
    assert done.returncode == 0, done.stderr
    rows = {row["name"]: row for row in json.loads(done.stdout)}
    assert {entry.short_name for entry in entries() if entry.id.startswith("palaestra/")} <= set(rows)
    for template, kind in TEMPLATES.items():
        row = rows[f"new_{template}"]
        assert row["id"] == f"new_{template}/New{template.capitalize()}-v0"
        assert row["summary"] == kind.summary
        assert row["agents"] == ["ppo", *(["dqn", "pqn"] if kind.discrete else ["sac", "td3"]), "bc", "recurrent-ppo"]
        assert row["expert"]
    assert "No module named 'no_such_module'" in rows["no_import"]["error"]
    assert rows["no_build"] == {"name": "no_build", "error": "RuntimeError: no licence"}


def test_gymnasium_makes_them_and_its_own_check_passes(installed: Path) -> None:
    names = [f"new_{template}:new_{template}/New{template.capitalize()}-v0" for template in TEMPLATES]
    done = python("-c", MAKE, *names, path=installed)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:3] == [
        f"{names[0]} Discrete(3)",
        f"{names[1]} Discrete(4)",
        f"{names[2]} Box(-1.0, 1.0, (2,), float32)",
    ]


def own_tests(path: Path, templates: Iterable[str], chosen: str) -> subprocess.CompletedProcess[str]:
    """Run the tests that came with the packages, against what is installed."""
    folders = [str(path.parent / f"new_{template}" / "tests") for template in templates]
    return python("-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *folders, path=path)


def test_their_own_tests_pass(installed: Path) -> None:
    """All of the minimal one; of the others what takes long is left out: the learning check, and the figures above."""
    done = own_tests(installed, TEMPLATES, "minimal or not (learns or reference)")
    assert done.returncode == 0, done.stdout
    assert "11 passed" in done.stdout


def test_the_learning_check_fails_for_a_reward_of_the_wrong_sign(installed: Path) -> None:
    source = installed / "new_minimal/env.py"
    text = source.read_text()
    assert text.count("return after, reward, landed") == 1
    source.write_text(text.replace("return after, reward, landed", "return after, -reward, landed"))
    done = own_tests(installed, ["minimal"], "learns")
    source.write_text(text)
    assert done.returncode == 1
    assert re.search(r"assert 0\.\d+ > 0\.9\n", done.stdout), done.stdout


def test_an_editable_install_is_found_from_the_folder_that_holds_the_package(tmp_path: Path) -> None:
    """There, ``my_env`` is a folder too; Python takes it for an empty package unless the path leads to a real one."""
    folder, target = new_package("my_env", "minimal", tmp_path), tmp_path / "site"
    build = f"from setuptools.build_meta import build_editable; print(build_editable({str(tmp_path)!r}))"
    done = python("-c", build, path=folder)
    assert done.returncode == 0, done.stderr
    (wheel,) = tmp_path.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(target)
    find = "import site, sys; site.addsitedir(sys.argv[1]); import my_env; print(my_env.__file__)"
    done = python("-c", find, str(target), path=tmp_path / "nothing", cwd=tmp_path)
    assert done.stdout.strip() == str(folder / "my_env/__init__.py"), done.stderr
