"""The import rules of the design: data flows envs → agents → train, and heavy modules are imported late."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from importlib import import_module
from importlib.metadata import version
from pathlib import Path

import pytest

import palaestra

ROOT = Path(__file__).parents[2]
FOLDERS = ("envs", "agents", "train")
DATA = [
    path
    for folder in FOLDERS
    for path in (ROOT / folder).rglob("*.*")
    if path.suffix not in (".py", ".pyc") and not (path.suffix == ".md" and path.parent.parent == ROOT)
]
SOURCES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
ENVIRONMENT_FOLDERS = ("arm", "games", "pricing")
ENVIRONMENT_FILES = ("snake", "cartpole")
TOP = ROOT / "train/package"  # whose name is palaestra


def name_of(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def package_of(path: Path) -> str:
    return "palaestra" if path.parent == TOP else ".".join(("palaestra", *path.parent.relative_to(ROOT).parts))


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


@cache
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
    and path.relative_to(ROOT / "envs").parts[0].removesuffix(".py") in (*ENVIRONMENT_FOLDERS, *ENVIRONMENT_FILES)
]


def test_the_wheel_holds_every_package_and_every_file_beside_the_modules() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    assert sorted(settings["packages"]) == sorted({package_of(path) for path in SOURCES})
    for path in DATA:
        assert path.name in settings["package-data"].get(package_of(path), []), path
    assert [ROOT / folder for folder in settings["package-dir"].values()] == [TOP, *(ROOT / name for name in FOLDERS)]


def test_the_walk_sees_the_package() -> None:
    names = {name_of(path) for path in SOURCES}
    assert {"envs.core.env", "envs.snake", "envs.core.rng"} <= names
    assert {name_of(path) for path in ENVIRONMENTS} >= {"envs.snake", "envs.cartpole"}


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_nothing_imports_to_the_left_or_by_a_bare_name(path: Path) -> None:
    names = imports(path)
    assert not uses(names, *FOLDERS), "a bare import loads the same file twice as two modules"
    folder = path.relative_to(ROOT).parts[0]
    later = FOLDERS[FOLDERS.index(folder) + 1 :]
    assert not uses(names, *(f"palaestra.{name}" for name in later))


@pytest.mark.parametrize("path", sorted((ROOT / "tests").rglob("*.py")), ids=name_of)
def test_tests_import_by_the_full_name(path: Path) -> None:
    assert not uses(imports(path), *FOLDERS)


CORE = sorted((ROOT / "envs/core").glob("*.py"))
OFFLINE = (
    "refit_yogurt",
    "fit",
    "spreadsheets",
    "mjcf_model",
    "solver",
)  # modules that read or make files, not environments


@pytest.mark.parametrize("path", [*ENVIRONMENTS, *CORE], ids=name_of)
def test_environments_and_the_core_import_only_what_they_may(path: Path) -> None:
    names = imports(path)
    outside = {name.split(".")[0] for name in names} - sys.stdlib_module_names
    assert outside <= {"torch", "numpy", "gymnasium", "palaestra", ""} or path.stem in OFFLINE
    allowed = ["palaestra.envs.core", "palaestra.envs.rendering", "palaestra.envs.trained_players"]  # rivals
    family = path.relative_to(ROOT / "envs").parts[0]
    if family in ENVIRONMENT_FOLDERS:  # the parts of a family may import each other
        allowed.append(f"palaestra.envs.{family}")
    assert uses(names, "palaestra") == uses(names, *allowed)


@pytest.mark.parametrize("path", SOURCES, ids=name_of)
def test_agents_know_no_environment_no_wandb_and_no_pygame(path: Path) -> None:
    names = imports(path)
    if path.is_relative_to(ROOT / "agents"):
        environments = {"palaestra." + name_of(env) for env in ENVIRONMENTS}
        assert not uses(names, "wandb", "pygame", *environments)


def test_wandb_is_imported_in_one_file_and_pygame_only_for_pictures() -> None:
    assert {name_of(path) for path in SOURCES if uses(imports(path), "wandb")} <= {"train.loggers.wandb_logger"}
    at_once = {name_of(path) for path in SOURCES if uses(modules_of(at_import(tree_of(path).body)), "pygame")}
    assert at_once <= {
        *("envs.rendering.canvas", "envs.rendering.window", "train.recording.viewer"),
        *("train.play.keyboard", "train.play.gymnasium_keys", "train.play.game"),
    }
    rendering = "palaestra.envs.rendering"
    early = {name_of(path) for path in SOURCES if uses(modules_of(at_import(tree_of(path).body)), rendering)}
    assert {name for name in early if not name.startswith(("train.", "envs.rendering."))} == set()


def test_palaestra_has_no_folder_of_its_own_at_the_top() -> None:
    """Beside it the three folders would be modules of a second name wherever Python runs in the repository."""
    assert not (ROOT / "palaestra").exists()
    assert not (ROOT / "__init__.py").exists()


def test_the_package_itself_imports_nothing_and_knows_its_version() -> None:
    statement = f"import palaestra\nassert palaestra.__version__ == {version('palaestra')!r}"
    assert loaded_by("import palaestra", "importlib.metadata", "palaestra.envs", "torch", "gymnasium") == set()
    assert loaded_by(statement, "palaestra.envs", "palaestra.train.package", "torch", "gymnasium") == set()
    with pytest.raises(AttributeError, match="has no attribute 'version'"):
        palaestra.version  # noqa: B018


def test_python_m_palaestra_is_the_command() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "palaestra", "--version"], capture_output=True, text=True, cwd=ROOT / "train"
    )
    assert (run.stdout, run.stderr, run.returncode) == (f"palaestra {version('palaestra')}\n", "", 0)


def loaded_by(statement: str, *modules: str) -> set[str]:
    """Which of ``modules`` a fresh interpreter has loaded after ``statement``."""
    code = f"{statement}\nimport sys\nprint(*[m for m in {modules!r} if m in sys.modules])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT.parent)
    return set(run.stdout.split())


def test_training_modules_import_neither_pygame_nor_wandb() -> None:
    agents = [path for path in SOURCES if path.is_relative_to(ROOT / "agents")]
    statement = "import palaestra.envs.snake" + (", palaestra.agents" if agents else "")
    loaded = loaded_by(statement, "pygame", "wandb", "palaestra.envs.rendering.canvas", "torch", "envs", "agents")
    assert loaded == {"torch"}


def test_names_of_environments_and_demand_from_sales_need_no_pytorch() -> None:
    """PyTorch takes seconds and 200 MB; names that packages hold for their modules are there all the same."""
    statement = (
        "import palaestra.envs\n"
        "assert palaestra.envs.resolve('snake').in_tensors\n"
        "assert {*palaestra.envs.__all__, 'registry'} <= {*dir(palaestra.envs)}\n"
        "import palaestra.envs.pricing.demand.fit_report, palaestra.envs.pricing.sales.spreadsheets"
    )
    assert loaded_by(statement, "torch", "stable_baselines3", "polars", "pydantic", "json") == {"json"}


@pytest.mark.parametrize("package", ["palaestra.envs", "palaestra.envs.core", "palaestra.envs.pricing"])
def test_names_that_are_imported_late_are_those_that_a_type_checker_sees(package: str) -> None:
    late = import_module(package)
    for node in ast.walk(tree_of(Path(late.__file__ or ""))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith(package):
            for alias in node.names:
                assert getattr(late, alias.name) is getattr(import_module(node.module or ""), alias.name)
                assert alias.name in dir(late)
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'Snek'"):
        late.Snek  # noqa: B018


def test_pygame_does_not_greet_on_standard_output() -> None:
    assert loaded_by("import palaestra.train.play.game", "pygame") == {"pygame"}


# ----------------------------------------------------------------------------------------------------- no circles

MODULES = {f"palaestra.{name_of(path)}".removesuffix(".__init__"): path for path in SOURCES}
ORDER = (  # of the folders in train/, the lowest first; a module imports from lower floors and from its own folder
    ("interruptions",),
    ("formatting", "plain_json"),
    ("env_output",),
    ("config", "evaluation", "scaffold"),
    ("markdown", "table_file", "web", "datasets"),
    ("teaching",),
    ("recording",),
    ("loggers",),
    ("runs",),
    ("play", "bench", "sweep", "results", "export"),
    ("players", "completion"),
    ("serve", "report"),
    ("comparison", "monitoring"),
    ("commands",),
    ("cli",),
    ("__main__", "package"),
)
FLOORS = {folder: floor for floor, folders in enumerate(ORDER) for folder in folders}


@cache
def import_graph() -> dict[str, set[str]]:
    """The modules of ours that each module imports anywhere, under TYPE_CHECKING and in functions included.

    A name imported from a package is an edge to the package, whose ``__init__`` has edges to the modules it takes names
    from: whoever imports the package depends on all of them.
    """
    graph = {}
    for name, path in MODULES.items():
        found: set[str] = set()
        for node in ast.walk(tree_of(path)):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                inner = {f"{node.module}.{alias.name}" for alias in node.names}
                found |= inner if inner <= set(MODULES) else {node.module or "", *inner}
        graph[name] = found & set(MODULES)
    return graph


def circles(graph: dict[str, set[str]]) -> list[set[str]]:
    """Strongly connected modules: modules that reach each other, and modules that import themselves."""

    def reached(start: str) -> set[str]:
        seen, stack = set(), list(graph[start])
        while stack:
            name = stack.pop()
            if name not in seen and name in graph:
                seen.add(name)
                stack += graph[name]
        return seen

    reach = {name: reached(name) for name in graph}
    found: list[set[str]] = []
    for name in sorted(graph):
        if name in reach[name] and not any(name in circle for circle in found):
            found.append({name} | {other for other in reach[name] if name in reach[other]})
    return found


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b", "d"}, "d": set(), "e": {"e"}}) == [{"b", "c"}, {"e"}]


@pytest.mark.parametrize("folder", FOLDERS)
def test_no_circles(folder: str) -> None:
    inside = {name: edges for name, edges in import_graph().items() if name.startswith(f"palaestra.{folder}")}
    assert circles(inside) == []


def test_the_folders_of_train_import_downwards() -> None:
    upwards = set()
    for name, edges in import_graph().items():
        parts = name.split(".")
        if parts[1] != "train" or len(parts) == 2 or parts[3:4] == ["templates"]:  # templates are users' files
            continue
        for edge in edges:
            other = edge.split(".")
            if other[1] == "train" and len(other) > 2 and other[2] != parts[2]:
                upwards |= {(name, edge)} if FLOORS[other[2]] >= FLOORS[parts[2]] else set()
    assert upwards == set()


RUN_FILES = re.compile(
    r"[\"'/](config\.yaml|run\.json|progress\.csv|model\.zip|best\.zip|eval\.json|\.lock|wandb-id\.txt|final\.mp4)[\"']"
    r"|[\"'](checkpoints|videos)[\"']"
)


def test_the_files_of_a_run_are_named_in_one_place() -> None:
    naming = {name_of(path) for path in SOURCES if RUN_FILES.search(path.read_text(encoding="utf-8"))}
    assert naming == {"train.runs.run_folder"}


def test_evaluating_a_run_imports_no_training(tmp_path: Path) -> None:
    """At most twelve modules of train/, packages apart, and no compiler."""
    run = shutil.copytree(ROOT / "tests/data/runs-885ce09/ppo-cartpole", tmp_path / "run")
    statement = (
        "import sys\nfrom palaestra.train import cli\n"
        f"sys.argv = ['palaestra', 'evaluate', {str(run)!r}, '--episodes', '4', '--json']\n"
        "try: cli.main()\nexcept SystemExit as end: assert not end.code\n"
        "print(*[n for n in sys.modules if n.startswith(('palaestra.train.', 'torch._dynamo'))], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, check=True)
    packages = {".".join(("palaestra", *path.parent.relative_to(ROOT).parts)) for path in SOURCES}
    modules = {*done.stderr.split()} - packages
    assert "palaestra.train.evaluation.episodes" in modules
    assert not uses(modules, "torch._dynamo"), "PyTorch's compiler takes seconds to import"
    assert not uses(
        modules, "palaestra.train.loggers", *(f"palaestra.train.runs.{n}" for n in ("callbacks", "parallel.torchrun"))
    )
    assert len(modules) <= 12, sorted(modules)
