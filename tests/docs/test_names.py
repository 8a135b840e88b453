"""One meaning per name: no class, type alias or module of the product has the name of another."""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]


def names_in(path: Path) -> Iterator[str]:
    """The module itself, its classes at any depth, and its type aliases: constants in CamelCase."""
    if path.stem not in ("__init__", "__main__"):
        yield f"module {path.stem}"
    tree = ast.parse(path.read_text(encoding="utf-8"))
    yield from (node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef))
    for node in tree.body:
        targets = (
            node.targets if isinstance(node, ast.Assign) else [node.target] if isinstance(node, ast.AnnAssign) else []
        )
        for target in targets:
            if isinstance(target, ast.Name) and target.id[0].isupper() and not target.id.isupper():
                yield target.id


def test_no_class_type_alias_or_module_name_twice() -> None:
    homes: dict[str, list[str]] = defaultdict(list)
    for top in ("envs", "agents", "train"):
        for path in sorted((ROOT / top).rglob("*.py")):
            if "templates" not in path.parts:  # files of a user's new package, each of them a MyEnv
                for name in names_in(path):
                    homes[name].append(str(path.relative_to(ROOT)))
    assert len(homes) > 300
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}
