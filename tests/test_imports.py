"""The import rules of the design: data flows envs → agents → train, and heavy modules are imported late."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
FOLDERS = ("envs", "agents", "train")
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
FRAMEWORK = {
    "__init__", "core", "rng", "registry", "views", "adapter", "check", "conformance", "conformance_gymnasium",
    "conformance_members", "conformance_play", "findings", "canvas", "allocator",
    "faults", "sampling", "shapes", "tensors", "user_code", "wrappers",
}  # fmt: skip
"""Modules of envs/ that are not environments; every other one is (probes too)."""


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


@cache
def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def modules_of(nodes: Iterator[ast.AST]) -> set[str]:
    """Every module that the nodes import; ``from a import b`` counts as a and a.b."""
    found: set[str] = set()
    for node in nodes:
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used"
            found |= {node.module or "", *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def imports(path: Path) -> set[str]:
    return modules_of(ast.walk(tree_of(path)))


def at_import(body: list[ast.stmt]) -> Iterator[ast.AST]:
    """Statements that run when the module is imported: no functions, nothing under ``if TYPE_CHECKING``."""
    for node in body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            continue
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.dump(node.test):
            yield from at_import(node.orelse)
            continue
        yield node
        for field in ("body", "orelse", "finalbody"):
            yield from at_import(getattr(node, field, []))


def uses(names: set[str], *prefixes: str) -> set[str]:
    return {name for name in names if any(name == p or name.startswith(p + ".") for p in prefixes)}


ENVIRONMENTS = [
    path
    for path in SOURCES
    if path.is_relative_to(ROOT / "envs")
    and path.relative_to(ROOT / "envs").parts[0].removesuffix(".py") not in FRAMEWORK
]


def test_the_walk_sees_the_package() -> None:
    names = {name_of(path) for path in SOURCES}
    assert {"envs.core", "envs.snake", "envs.rng"} <= names
    assert {name_of(path) for path in ENVIRONMENTS} >= {"envs.snake", "envs.cartpole", "envs.probes"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_imports_to_the_left_or_by_a_bare_name(path: Path) -> None:
    names = imports(path)
    assert not uses(names, *FOLDERS), "a bare import loads the same file twice as two modules"
    folder = path.relative_to(ROOT).parts[0]
    later = FOLDERS[FOLDERS.index(folder) + 1 :]
    assert not uses(names, *(f"palaestra.{name}" for name in later))


@pytest.mark.parametrize("path", sorted((ROOT / "tests").glob("*.py")), ids=name_of)
def test_tests_import_by_the_full_name(path: Path) -> None:
    assert not uses(imports(path), *FOLDERS)


@pytest.mark.parametrize("path", [*ENVIRONMENTS, ROOT / "envs/core.py", ROOT / "envs/rng.py"], ids=name_of)
def test_environments_import_only_what_they_may(path: Path) -> None:
    names = imports(path)
    outside = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert outside <= {"torch", "numpy", "gymnasium", "palaestra", ""}
    allowed = ["palaestra.envs.core", "palaestra.envs.rng", "palaestra.envs.canvas"]
    if path.parent != ROOT / "envs":  # the parts of a family may import each other
        allowed.append("palaestra." + name_of(path.parent))
    if path.stem == "core":
        allowed += ["palaestra.envs." + name for name in ("allocator", "faults", "shapes", "tensors")]
    assert uses(names, "palaestra") == uses(names, *allowed)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_agents_know_no_environment_no_wandb_and_no_pygame(path: Path) -> None:
    names = imports(path)
    if path.is_relative_to(ROOT / "agents"):
        environments = {"palaestra." + name_of(env) for env in ENVIRONMENTS}
        assert not uses(names, "wandb", "pygame", *environments)


def test_wandb_is_imported_in_one_file_and_pygame_only_for_pictures() -> None:
    assert {name_of(path) for path in SOURCES if uses(imports(path), "wandb")} <= {"train.tracking"}
    at_once = {name_of(path) for path in SOURCES if uses(modules_of(at_import(tree_of(path).body)), "pygame")}
    assert at_once <= {"envs.canvas", "train.hands", "train.play"}
    canvas = "palaestra.envs.canvas"
    early = {name_of(path) for path in SOURCES if uses(modules_of(at_import(tree_of(path).body)), canvas)}
    assert {name for name in early if not name.startswith("train.")} == set()


def test_palaestra_is_a_namespace_package() -> None:
    assert not (ROOT / "palaestra").exists()
    assert not (ROOT / "__init__.py").exists()


def loaded_by(statement: str, *modules: str) -> set[str]:
    """Which of ``modules`` a fresh interpreter has loaded after ``statement``."""
    code = f"{statement}\nimport sys\nprint(*[m for m in {modules!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return set(run.stdout.split())


def test_training_modules_import_neither_pygame_nor_wandb() -> None:
    agents = [path for path in SOURCES if path.is_relative_to(ROOT / "agents")]
    statement = "import palaestra.envs" + (", palaestra.agents" if agents else "")
    loaded = loaded_by(statement, "pygame", "wandb", "palaestra.envs.canvas", "torch", "envs", "agents")
    assert loaded == {"torch"}


def test_pygame_does_not_greet_on_standard_output() -> None:
    assert loaded_by("import palaestra.train.play", "pygame") == {"pygame"}
