"""``palaestra card``: where it writes, what it never replaces, and what goes to a hub, which stands on this machine."""

from __future__ import annotations

import os
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path

import pytest
from exported_runs import command
from forked_command import ForkedCommand
from hub_stand_in import TOKEN, HubStandIn, hub_stand_in

OLD = Path(__file__).parents[2] / "data/runs-885ce09/ppo-cartpole"
FILES = ("README.md", "model.zip", "config.yaml", "run.json", "eval.json")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return shutil.copytree(OLD, tmp_path / "run")


@dataclass(frozen=True)
class Done:
    returncode: int
    stdout: str
    stderr: str


def card(hub: HubStandIn, *words: str, token: str | None = TOKEN) -> Done:
    """The command in a process of its own, as the hub's address is read when ``huggingface_hub`` is imported."""
    environ = {**os.environ, "HF_ENDPOINT": hub.address, "HF_HOME": str(Path("cache").absolute())}
    environ |= {"HF_HUB_DISABLE_XET": "1"}  # large files go by HTTP
    environ.pop("HF_TOKEN", None)
    if token is not None:
        environ["HF_TOKEN"] = token
    folder = Path(tempfile.mkdtemp(dir=Path.cwd()))
    process = ForkedCommand(["card", *words], folder / "out", errors=folder / "errors", environ=environ)
    return Done(process.wait(), process.said(), process.complained())


def test_the_card_is_written_into_the_run_folder_and_nothing_is_replaced(
    run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command(monkeypatch, "card", "run") == 0
    text = (run / "README.md").read_text(encoding="utf-8")
    assert "# PPO on cartpole" in text
    (run / "README.md").write_text(text + "our own words\n", encoding="utf-8")
    assert command(monkeypatch, "card", "run") == 2
    assert "README.md exists already: give --out run/README.md to replace it" in capsys.readouterr().err
    assert (run / "README.md").read_text(encoding="utf-8").endswith("our own words\n")
    assert command(monkeypatch, "card", "run", "--out", "run/README.md", "--watts-per-core", "7") == 0
    assert "with 7 W a core, as given" in (run / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("run", "--out", "run/config.yaml"), "a card is called NAME.md"),
        (("run", "--out", "notes.md"), "notes.md exists already: give another --out FILE.md"),
        (("run", "--out", "folder.md"), "folder.md exists already"),
        (("run:best",), "a card is of a run's final weights"),
        (("random",), "random is no trained agent"),
        (("nowhere",), "no run 'nowhere'"),
        (("run/model.zip",), "no run folder 'run/model.zip'"),
        (("run", "--grams-per-kwh", "-1"), "grams per kwh: -1.0 is no number of at least 0"),
        (("run", "--gpu-watts", "nan"), "gpu watts: nan is no number"),
    ],
)
def test_bad_words_are_told_in_a_line_and_nothing_is_written(
    words: tuple[str, ...], said: str, run: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("notes.md").write_text("# mine\n")
    Path("folder.md").mkdir()
    before = {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()}
    assert command(monkeypatch, "card", *words) == 2
    error = capsys.readouterr().err
    assert said in error
    assert error.count("\n") == 1
    assert {path: path.read_bytes() for path in Path().rglob("*.*") if path.is_file()} == before


def test_stress_is_measured_and_kept(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(monkeypatch, "card", "run", "--stress", "--out", "card.md") == 0
    assert "| delay 4 steps |" in Path("card.md").read_text(encoding="utf-8")
    assert command(monkeypatch, "card", "run") == 0  # the run has them now
    assert "| delay 4 steps |" in (run / "README.md").read_text(encoding="utf-8")


def test_nothing_is_sent_without_the_flag_and_all_of_it_in_one_commit_with_it(run: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with hub_stand_in() as hub:
        assert card(hub, "run").returncode == 0
        assert hub.requests == []
        done = card(hub, "run", "--push", "me/agent")
        assert (done.returncode, done.stderr) == (0, "")
        assert f"{hub.address}/me/agent/commit/0a1b2c: {', '.join(FILES)}\n" in done.stdout
        assert "README.md is there already, and is sent as it is" in done.stdout
    assert hub.repositories == {"me/agent": True}  # private
    assert hub.commits == [{name: (run / name).read_bytes() for name in FILES}]
    assert {token for _, path, token in hub.requests if path.startswith("/api/models")} == {f"Bearer {TOKEN}"}
    assert TOKEN not in done.stdout


def test_without_a_token_nothing_is_written_or_sent(run: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with hub_stand_in() as hub:
        done = card(hub, "run", "--push", "me/agent", token=None)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "palaestra: error: --push needs a token of the hub: set HF_TOKEN, or log in with hf auth login\n"
    )
    assert not (run / "README.md").exists()
    assert hub.requests == []


def test_what_the_hub_refuses_is_told_in_its_words(run: Path) -> None:
    pytest.importorskip("huggingface_hub")
    with hub_stand_in() as hub:
        done = card(hub, "run", "--push", "me/agent", token="hf_wrong")
        assert done.returncode == 1
        assert "the hub answered 401: Invalid username or password" in done.stderr
        hub.yaml_errors = ["license is wrong"]
        done = card(hub, "run", "--push", "me/agent")
        assert done.returncode == 1
        assert "license is wrong" in done.stderr
    assert hub.commits == []
    done = card(hub, "run", "--push", "me/agent")  # it has gone away
    assert done.returncode == 1
    assert done.stderr.startswith(f"palaestra: error: --push me/agent to {hub.address}: ")
    assert done.stderr.count("\n") == 1
