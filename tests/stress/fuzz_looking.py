"""Damaged run folders for the commands that look at results: a page and a table of what is left, or one clear line.

``python tests/stress/fuzz_looking.py FIRST LAST`` makes a folder with four runs for each seed from FIRST to LAST − 1,
with names that are hostile, and with damage of every kind in their files: values of other types and sizes, cut and
doubled lines, NaN, folders and dangling links in the place of files. ``compare``, ``runs``, ``report`` and ``rm`` have
to end with status 0 and whole pages and JSON, or with status 2, one line and nothing written. It prints what they do
else; the same seed makes the same folders. tests/train/commands/looking/test_damaged_runs.py runs a short version.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import random
import re
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from unittest import mock

import yaml
from made_runs import made_run

from palaestra.train import cli

MARKUP = "<script>alert(1)</script>"
NAMES = ("a", "b", MARKUP.replace("/", ""), "c\nd", "e\x1b[31m", "f,g", "i\udcff", "j'k\"", "ä ö")
ENVS = ("palaestra/CartPole-v1", "palaestra/SnakeSmall-v0", "SomebodyElse-v0", MARKUP)
FILES = ("config.yaml", "run.json", "eval.json", "progress.csv", "episodes.csv", "figures.json", "stress.json")
FILES += ("model.zip", "checkpoints", "environment.json", "videos/final.mp4")
ODD: tuple[Any, ...] = (None, True, 0, -1, 3.5, float("nan"), float("inf"), 1e308, 1e120, 10**40, 10**300, "", "x")
ODD += (MARKUP, "\x1b[31mred", "a\nb", "\u202e", "\ud800", [], {}, [1, 2], {"a": 1}, "1e5", "nan", ENVS[0])
CELLS = ("", "nan", "inf", "-inf", "1e400", "-1", "1e308", "1e120", "9" * 20, "x", MARKUP, "0x10", "1_0", " 5 ", "٣")
CELLS += ("\0", '"', '"a', "1,2", "1e-320", "\x1b[2J")


def swapped(rng: random.Random, value: Any) -> Any:
    """The value with one of its parts, or all of it, something odd."""
    if isinstance(value, dict) and value and rng.random() < 0.85:
        key, chance = rng.choice([*value]), rng.random()
        if chance < 0.15:
            return {name: part for name, part in value.items() if name != key}
        return {
            **value,
            **({str(rng.choice(ODD)): rng.choice(ODD)} if chance < 0.25 else {key: swapped(rng, value[key])}),
        }
    if isinstance(value, list) and value and rng.random() < 0.7:
        place = rng.randrange(len(value))
        return [*value[:place], swapped(rng, value[place]), *value[place + 1 :]]
    return rng.choice(ODD)


def damage_data(rng: random.Random, file: Path, read: Callable[[str], Any], write: Callable[[Any], str]) -> None:
    """Some parts of the content, then now and then its end."""
    content: Any = {}
    with contextlib.suppress(OSError, ValueError, yaml.YAMLError):
        content = read(file.read_text(encoding="utf-8"))
    for _ in range(rng.choice([1, 1, 2, 4])):
        content = swapped(rng, content)
    text = write(content)
    text = text[: rng.randrange(len(text) + 1)] if rng.random() < 0.15 else text
    file.write_text(("\ufeff" if rng.random() < 0.05 else "") + text, encoding="utf-8", errors="surrogatepass")


def damage_table(rng: random.Random, file: Path) -> None:
    lines = file.read_text(errors="replace").split("\n") if file.is_file() else [""]
    for _ in range(rng.choice([1, 2, 3, 8])):
        chance, place = rng.random(), rng.randrange(len(lines))
        cells = lines[place].split(",")
        if chance < 0.6:
            cells[rng.randrange(len(cells))] = rng.choice(CELLS)
            lines[place] = ",".join(cells)
        elif chance < 0.7:
            lines = [*lines[:place], *lines[place + 1 :]] or [""]
        elif chance < 0.8:
            lines.insert(place, rng.choice(lines))
        elif chance < 0.85:
            rng.shuffle(lines)
        elif chance < 0.9:
            lines = [f"{line}\r" for line in lines]
        else:
            lines = [*lines[:place], lines[place][: rng.randrange(len(lines[place]) + 1)]]
    tail = rng.randbytes(30) if rng.random() < 0.05 else b""
    file.write_bytes("\n".join(lines).encode(errors="surrogatepass") + tail)


def damage(rng: random.Random, run: Path) -> None:
    """One file of the run: gone, something else in its place, or with another content."""
    path, chance = run / rng.choice(FILES), rng.random()
    path.parent.mkdir(exist_ok=True)
    if chance < 0.15:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        if chance < 0.07:
            path.mkdir()
        elif chance < 0.11:
            path.symlink_to(rng.choice(["nowhere", "/dev/null"]))
    elif path.is_symlink():
        return
    elif path.is_dir():
        (path / rng.choice(["x", "00000000512.zip", "abc.zip", "-5.zip", "٣.zip"])).touch()
    elif path.suffix == ".json":
        damage_data(rng, path, json.loads, json.dumps)
    elif path.suffix == ".yaml":
        damage_data(rng, path, yaml.safe_load, lambda content: yaml.safe_dump(content, allow_unicode=True))
    elif path.suffix == ".csv":
        damage_table(rng, path)
    else:
        path.write_bytes(rng.randbytes(rng.randrange(200)))


class StrictPage(HTMLParser):
    """Tags that are closed in another order, more scripts than a page has, and handlers in attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open_tags: list[str] = []
        self.scripts, self.faults = 0, list[str]()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        self.faults += [f"{tag} {name}" for name, _ in attrs if name.startswith("on")]
        if tag not in ("meta", "br", "img", "input", "hr", "link", "source"):
            self.open_tags.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Of an SVG."""

    def handle_endtag(self, tag: str) -> None:
        if not self.open_tags or self.open_tags.pop() != tag:
            self.faults.append(f"</{tag}>")


def strict_json(text: str) -> Any:
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    return json.loads(text, parse_constant=refuse)


def faults_of_page(text: str) -> list[str]:
    page = StrictPage()
    page.feed(text)
    found = page.faults + ([] if page.scripts == 2 else [f"{page.scripts} scripts"])
    found += [] if text.rstrip().endswith("</html>") and not page.open_tags else ["it is cut off"]
    with contextlib.suppress(ValueError):
        strict_json(text.split('id="data">')[1].split("</script>")[0])
        sizes = r' (x1?|x2|y1?|y2|d|cx|cy|r|width|height|points|viewBox)="([^"]*(?:nan|inf|None)[^"]*)"'
        drawn = "".join(re.findall(r"<svg.*?</svg>", text, re.DOTALL))
        return found + [f"{name}={value[:50]}" for name, value in re.findall(sizes, drawn)]
    return [*found, "its data are no JSON"]


def call(words: list[str]) -> tuple[int, str, str]:
    """Status, output and errors of a command; warnings are errors."""
    out, err = io.StringIO(), io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["palaestra", *words]),
        contextlib.redirect_stdout(out),
        contextlib.redirect_stderr(err),
        warnings.catch_warnings(),
    ):
        warnings.simplefilter("error")
        try:
            cli.main()
        except SystemExit as end:
            return int(end.code or 0), out.getvalue(), err.getvalue()
    return 0, out.getvalue(), err.getvalue()


def faults_of(words: list[str]) -> list[str]:
    """What is wrong with what a command did; its files are removed."""
    before = {*Path().iterdir()}
    try:
        status, out, err = call(words)
    except Exception as error:
        return [f"{type(error).__name__}: {error}"]
    made, found = sorted({*Path().iterdir()} - before), list[str]()
    if status == 0:
        for file in made:
            found += faults_of_page(file.read_text(encoding="utf-8")) if file.suffix == ".html" else []
        if "--json" in words:
            strict_json(out)
    else:
        found += [] if status == 2 and not made else [f"status {status}, files {made}"]
        found += [] if err.startswith("palaestra: error: ") and err.count("\n") == 1 else [err]
    found += ["an escape sequence"] if "\x1b" in out + err else []
    for file in made:
        file.unlink()
    return found


def faults_with(seed: int) -> list[tuple[list[str], str]]:
    """The commands that do wrong with that seed's runs, in the working directory, and what they do."""
    rng = random.Random(seed)
    runs = [Path("runs", name) for name in rng.sample(NAMES, 4)]
    for run in runs:
        own = {"learning_rate": rng.choice([0.1, "linear(1,2)", MARKUP])} if rng.random() < 0.5 else {}
        score, scale = rng.choice([100.0, None, 50.0]), rng.choice([(0.0, 200.0), None, (5.0, 5.5)])
        agent, number = rng.choice(["ppo", "dqn", "pqn"]), rng.choice([0, 1, 2])
        made_run(run, score, env=rng.choice(ENVS), agent=agent, seed=number, scale=scale, **own)
        for _ in range(rng.choice([0, 1, 1, 2, 3])):
            damage(rng, run)
    single = [["report", str(run), "--no-player", "--out", "one.html"] for run in runs]
    sort = rng.choice(["score", "percent", "seed", "env"])
    commands = [
        ["compare", "runs"],
        ["compare", "runs", "--out", "c.html", "--csv", "c.csv", "--json"],
        ["runs"],
        ["runs", "--json", "--sort", sort],
        *single,
        ["report", *map(str, runs), "--out", "all.html"],
        ["rm", str(rng.choice(runs)), "--yes"],
    ]
    return [(words, fault) for words in commands for fault in faults_of(words)]


def main(first: int, last: int) -> None:
    before, number = os.getcwd(), 0
    for seed in range(first, last):
        with tempfile.TemporaryDirectory() as folder:
            os.chdir(folder)
            try:
                found = faults_with(seed)
            finally:
                os.chdir(before)
        number += len(found)
        for words, fault in found:
            print(f"seed {seed}: palaestra {words}: {fault}", flush=True)
    print(f"{last - first} seeds, {number} faults")


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[1] / "helpers"))
    main(int(sys.argv[1]), int(sys.argv[2]))
