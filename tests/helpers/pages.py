"""The pages that tests read: every README, the results and the rules for contributors."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = {
    str(path.relative_to(ROOT)): path
    for path in (
        ROOT / "README.md",
        *(ROOT / folder / "README.md" for folder in ("envs", "agents", "train")),
        ROOT / "train/RESULTS.md",
        ROOT / ".github/CONTRIBUTING.md",
    )
}


def read(name: str) -> str:
    """The text of a page."""
    return PAGES[name].read_text(encoding="utf-8")


def blocks(text: str) -> list[tuple[str, str]]:
    """Its code blocks in order, each with its language, "" where none is named."""
    return re.findall(r"^```(\w*)\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)


def command_lines(text: str) -> list[str]:
    """The lines of its bash blocks without comments, cut at ``&&``."""
    lines = (line for kind, block in blocks(text) if kind == "bash" for line in block.splitlines())
    parts = (part.strip() for line in lines for part in re.sub(r"(^|\s)#.*", "", line).split("&&"))
    return [part for part in parts if part]
