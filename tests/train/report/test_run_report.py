"""The report of runs in whatever state: what it says, leaves out and refuses; and training that writes it."""

from __future__ import annotations

import json
import re
import resource
import shlex
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from palaestra.train import cli
from palaestra.train.commands.train import start_run
from palaestra.train.commands.watch import watch_player
from palaestra.train.config.run_config import resolve_config
from palaestra.train.config.schema import ConfigError
from palaestra.train.report import run_report
from palaestra.train.report.html_page import PageError, write_page
from palaestra.train.report.run_record import read_record
from palaestra.train.report.run_words import worst_episodes
from palaestra.train.report.told_settings import differences, repeat_command
from palaestra.train.runs.run_folder import RunFolder

OLD = Path(__file__).parents[2] / "data/runs-885ce09"
TINY = {"num_envs": 8, "total_timesteps": 512, "seed": 0, "threads": 1}
TINY_SETTINGS = ["n_steps=32", "batch_size=64"]


class Text(HTMLParser):
    """What a page shows, and its tags; style, script and data apart."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.tags: list[str] = []
        self.attributes: list[str] = []
        self._hidden = 0
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.append(tag)
        self.attributes += [name for name, _ in attrs]
        self._hidden += tag in ("style", "script")

    def handle_endtag(self, tag: str) -> None:
        self._hidden -= tag in ("style", "script")

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.words.append(data)


def said(*folders: RunFolder) -> str:
    """The words of a report."""
    return " ".join(" ".join(Text(run_report.report_page(list(folders))).words).split())


def command(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(sys, "argv", ["palaestra", *arguments])
    with pytest.raises(SystemExit) as end:
        cli.main()
    return int(end.value.code or 0)


# ---------------------------------------------------------------------------------------------- what it says


def test_a_finished_run(run: RunFolder) -> None:
    text, found = said(run), run.evaluation()
    assert "snake-small · ppo · seed 3" in text
    assert "Not solved." in text
    assert "It counts as solved at 33.95" in text
    assert f"{found['percent_of_optimal']:.1f} % of the way from random play to the best known" in text
    assert "total_timesteps 16,384 3,000,000" in text
    assert "learning_rate 0.001 linear(1e-3, 1e-5)" in text
    assert "Length at the end" in text
    assert "g CO₂ equivalents a kWh" in text
    assert "finished" in text
    assert "NaN" not in text


def test_the_worst_episodes_are_those_that_the_commands_show(run: RunFolder, tmp_path: Path) -> None:
    record = read_record(run)
    returns, worst = record.episodes["return"], worst_episodes(record)
    assert len(worst) == 3
    for rank, episode in enumerate(worst):
        assert episode.command is not None
        number = int(re.fullmatch(rf"palaestra watch {run.path} --env-index (\d+)", episode.command)[1])
        assert returns[number] == sorted(returns)[rank]
        seen = watch_player(run.path, tmp_path / "episode.png", env_index=number, size=(None, 64))
        assert seen.returns == [returns[number]]
        steps = f"{(length := record.episodes['length'][number]):g} step{'' if length == 1 else 's'}"
        assert f"return {returns[number]:g} after {steps}" in episode.text


def test_a_run_of_a_gymnasium_environment_names_no_command(tmp_path: Path) -> None:
    start_run("CartPole-v1", "ppo", tmp_path / "run", "disabled", settings=TINY_SETTINGS, **TINY)
    run = RunFolder(tmp_path / "run")
    assert len(read_record(run).episodes["return"]) == run.evaluation()["episodes"]
    assert "Single episodes of CartPole-v1 cannot be played again here." in said(run)


@pytest.mark.parametrize("name", ["ppo-cartpole", "pqn-cartpole", "dqn-pricing"])
def test_runs_of_an_earlier_version_have_a_page(name: str) -> None:
    text = said(RunFolder(OLD / name))
    assert "Loss" in text
    assert ("The run has kept no single episodes" in text) == (name == "ppo-cartpole")


def test_several_runs_of_different_environments(run: RunFolder) -> None:
    text = said(run, RunFolder(OLD / "ppo-cartpole"), RunFolder(OLD / "pqn-cartpole"), run)
    assert "3 runs" in text  # one was named twice
    assert "different environments (snake-small, cartpole): their returns do not compare" in text
    assert "Runs of cartpole" in text
    assert "Runs of snake-small" not in text


def test_a_stress_test_is_shown_where_it_was_measured(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["evaluate", str(run.path), "--stress", "--episodes", "8"]
    assert command([*arguments, "--set", "env.sticky_actions=0.5"], monkeypatch) == 0
    assert not run.stress_file.exists()
    assert command([*arguments, "--json"], monkeypatch) == 0
    printed = capsys.readouterr().out
    kept = json.loads(run.stress_file.read_text())
    assert kept.pop("model_sha256")
    assert kept == json.loads(printed[printed.index("\n{\n") :])
    assert "Under stress" in said(run)
    assert "sticky actions 25 %" in said(run)


def test_everything_that_was_written_in_markup_is_text(run: RunFolder, tmp_path: Path) -> None:
    evil = tmp_path / "<script>alert(1)<" / "&amp;'\"><img src=x onerror=alert(1)>"
    evil.parent.mkdir()
    copied = RunFolder(shutil.copytree(run.path, evil))
    facts = json.loads(copied.facts_file.read_text())
    copied.facts_file.write_text(json.dumps({**facts, "machine": "</script><script>alert(2)</script>"}))
    progress = copied.progress_file.read_text().replace("train/explained_variance", "train/</script><b>x", 1)
    copied.progress_file.write_text(progress)
    page = run_report.report_page([copied])
    shown = Text(page)
    assert shown.tags.count("script") == 2  # data and ours
    assert shown.tags.count("img") == 1  # the film's last picture
    assert "b" not in shown.tags
    assert not any(name.startswith("on") for name in shown.attributes)
    assert str(evil) in " ".join(shown.words)
    data = page.partition('id="data">')[2].partition("</script>")[0]
    assert json.loads(data)["runs"][0]["facts"]["machine"] == "</script><script>alert(2)</script>"


def test_a_film_gives_way_where_a_page_would_be_too_large(run: RunFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    page = run_report.report_page([run])
    assert 'src="data:video/mp4' in page
    monkeypatch.setattr(run_report, "MOST_BYTES", len(page.encode()) - 20_000)
    monkeypatch.setattr(run_report, "_FILMS", run.video_file.stat().st_size * 4 // 3 + 100_000)
    assert len(run_report.report_page([run]).encode()) <= run_report.MOST_BYTES


# ---------------------------------------------------------------------------------------------- whatever state


def test_an_interrupted_run_says_how_to_go_on(run: RunFolder) -> None:
    for file in (run.facts_file, *run.evaluation_files()):
        file.unlink(missing_ok=True)
    text = said(run)
    assert "Not evaluated. The run was interrupted after 16,384 of 16,384 steps." in text
    assert f"palaestra train --resume {run.path} goes on." in text
    assert "Learning" in text


def test_a_run_that_is_still_training(run: RunFolder) -> None:
    for file in (run.facts_file, *run.evaluation_files()):
        file.unlink(missing_ok=True)
    with run.lock():
        assert "The run is still training" in said(run)
    assert "interrupted" in said(run)


def test_a_run_that_its_rule_has_ended(run: RunFolder) -> None:
    assert "ended early" not in said(run)
    run.facts_file.write_text(json.dumps({**run.facts(), "stopped": "the agent scores at least 33.95"}))
    assert "Training ended early: the agent scores at least 33.95." in said(run)
    run.facts_file.write_text(json.dumps({**run.facts(), "stopped": ["x"]}))
    assert "ended early" not in said(run)


def test_a_skipped_evaluation(run: RunFolder) -> None:
    for file in run.evaluation_files():
        file.unlink(missing_ok=True)
    run.facts_file.write_text(json.dumps({**run.facts(), "evaluation_skipped": True}))
    assert f"palaestra evaluate {run.path} makes up for it" in said(run)


def damage_cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def damage_noise(file: Path) -> None:
    file.write_bytes(bytes(range(256)) * 4)


def damage_empty(file: Path) -> None:
    file.write_bytes(b"")


def damage_list(file: Path) -> None:
    file.write_text("[[1], 2]\n")


@pytest.mark.parametrize("damage", [damage_cut, damage_noise, damage_empty, damage_list])
@pytest.mark.parametrize(
    "name",
    [
        *("config_file", "facts_file", "progress_file", "evaluation_file", "episodes_file", "figures_file"),
        *("stress_file", "video_file"),
    ],
)
def test_a_damaged_file_is_told_and_the_rest_is_shown(run: RunFolder, name: str, damage: Any) -> None:
    file: Path = getattr(run, name)
    if not file.exists():
        file.write_text('{"unchanged": {"mean": 1.0}, "stresses": [{"name": "delay", "score": 0.5}]}')
    damage(file)
    text = said(run)
    assert "Settings that differ from the preset" in text
    if name != "video_file" and not (damage is damage_cut and file.suffix in (".csv", ".yaml")):
        assert file.name in text


OTHERS = ("text", None, [1], {"a": 1}, True, 1e999, -1e308, 10**400, "<b>")


@pytest.mark.parametrize("name", ["facts_file", "evaluation_file", "stress_file"])
@pytest.mark.parametrize("first", [0, 3, 6])
def test_values_of_other_types_are_no_numbers(run: RunFolder, name: str, first: int) -> None:
    """Each key has another one of the values in turn."""
    run.video_file.unlink()
    file: Path = getattr(run, name)
    content = json.loads(file.read_text()) if file.exists() else {"unchanged": {"mean": 1.0}, "stresses": [{}]}
    for number, key in enumerate(content):
        file.write_text(json.dumps({**content, key: OTHERS[(first + number) % len(OTHERS)]}))
        page = run_report.report_page([run])
        assert "b" not in Text(page).tags
        json.loads(page.partition('id="data">')[2].partition("</script>")[0], parse_constant=lambda word: 1 / 0)


def test_nan_in_the_curves_is_told(run: RunFolder) -> None:
    lines = run.progress_file.read_text().splitlines()
    place = lines[0].split(",").index("train/value_loss")
    cells = lines[5].split(",")
    lines[5] = ",".join([*cells[:place], "nan", *cells[place + 1 :]])
    run.progress_file.write_text("\n".join(lines) + "\n")
    assert f"train/value_loss was NaN or infinite in 1 row of the curves, first at step {int(cells[0]):,}" in said(run)


# ---------------------------------------------------------------------------------------------- the command


def test_the_command_writes_into_the_runs_folder(
    run: RunFolder, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(run.path.parent)
    assert command(["report", "run"], monkeypatch) == 0
    assert capsys.readouterr().out.startswith("run/report.html: ")
    assert command(["report", "run", str(OLD / "ppo-cartpole")], monkeypatch) == 0
    assert Path("report.html").stat().st_size < run_report.MOST_BYTES
    assert command(["report", "run", "--no-player", "--out", "page.html"], monkeypatch) == 0
    assert Path("page.html").is_file()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["nowhere"], "no run 'nowhere': give a run folder, or latest"),
        (["."], ". is no run folder: it holds neither config.yaml nor curves"),
        (["run:best"], "run:best: a report is of a whole run; leave :best out"),
        (["run/model.zip"], "no run 'run/model.zip': give a run folder, or latest"),
        (["run", "nowhere"], "no run 'nowhere'"),
        (["run", "--out", "mine.html"], "mine.html is there already and is no page of palaestra"),
        (["run", "--out", "run"], "run is a folder: name a file"),
        (["run", "--out", "mine.html/page.html"], "mine.html"),
        ([], "Missing argument 'RUN...'"),
        (["latest"], "there is no run with a model below runs/ yet"),
    ],
)
def test_bad_input_is_one_line(
    run: RunFolder,
    arguments: list[str],
    words: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(run.path.parent)
    Path("mine.html").write_text("<p>of somebody else</p>")
    before = {path: path.stat().st_mtime_ns for path in run.path.parent.rglob("*")}
    assert command(["report", *arguments], monkeypatch) in (1, 2)
    error = capsys.readouterr().err
    assert error.startswith("palaestra: error: ")
    assert words in error
    assert error.count("\n") == 1
    assert {path: path.stat().st_mtime_ns for path in run.path.parent.rglob("*")} == before


def test_a_page_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, run: RunFolder) -> None:
    run_report.write_report([run], tmp_path / "page.html")
    before = (tmp_path / "page.html").read_bytes()
    monkeypatch.setattr("os.fsync", lambda handle: (_ for _ in ()).throw(OSError(28, "No space left on device")))
    with pytest.raises(OSError, match="No space left"):
        run_report.write_report([run], tmp_path / "page.html")
    assert (tmp_path / "page.html").read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["page.html", "run"]


def test_only_pages_of_ours_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text("mine")
    with pytest.raises(PageError, match="is no page of palaestra"):
        write_page(tmp_path / "page.html", "new")
    (tmp_path / "page.html").write_text("")
    write_page(tmp_path / "page.html", "new")


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="Linux tells the most memory of a program there")
def test_it_needs_no_pytorch_and_little_time_and_memory(run: RunFolder) -> None:
    """Of a run with 10,000 rows of curves: 300 MB, and 1.5 s of a processor, ffmpeg's included."""
    head, *rows = run.progress_file.read_text().splitlines()
    steps = head.split(",").index("time/total_timesteps")
    lines = [head]
    for number in range(10_000):
        cells = rows[1 + number % (len(rows) - 2)].split(",")
        cells[0] = cells[steps] = str(512 * (number + 1))
        lines.append(",".join(cells))
    run.progress_file.write_text("\n".join(lines) + "\n")
    statement = (
        "import sys\nfrom palaestra.train import cli\n"
        f"sys.argv = ['palaestra', 'report', {str(run.path)!r}, '--no-player']\n"
        "try: cli.main()\nexcept SystemExit as end: assert not end.code\n"
        "assert not {'torch', 'stable_baselines3', 'pygame', 'wandb'} & {*sys.modules}\n"
        "from pathlib import Path\n"
        "print(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])"  # KiB at most, of this program
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert int(done.stdout.split()[-1]) / 1024 < 300
    assert after.ru_utime - before.ru_utime < 1.5 * 2  # twice, where other tests share the core
    assert run.report_file.stat().st_size < run_report.MOST_BYTES


# ---------------------------------------------------------------------------------------------- training


def train(folder: Path, *more: str) -> list[str]:
    settings = [word for setting in TINY_SETTINGS for word in ("--set", setting)]
    sizes = ["--num-envs", "8", "--total-timesteps", "512", "--threads", "1", "--track", "disabled"]
    return ["train", "cartpole", "--run-dir", str(folder), *sizes, *settings, *more]


def test_training_ends_with_a_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = RunFolder(tmp_path / "run")
    assert command(train(run.path), monkeypatch) == 0
    assert f"report: {run.report_file}" in capsys.readouterr().out
    assert "Returns of single episodes" in run.report_file.read_text()
    assert run.facts()["solved_at"] == 475.0
    assert command(train(tmp_path / "none", "--no-report"), monkeypatch) == 0
    assert not (tmp_path / "none/report.html").exists()
    run.report_file.unlink()
    assert command(["train", "--resume", str(run.path), "--total-timesteps", "1024", "--no-report"], monkeypatch) == 0
    assert not run.report_file.exists()


def test_a_report_that_fails_does_not_fail_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def broken(*arguments: Any) -> None:
        raise ZeroDivisionError("two\nlines")

    monkeypatch.setattr(run_report, "write_report", broken)
    assert command(train(tmp_path / "run", "-q"), monkeypatch) == 0
    error = capsys.readouterr().err
    assert "the report could not be written (ZeroDivisionError: two lines); palaestra report RUN makes it" in error
    assert RunFolder(tmp_path / "run").is_evaluated()


@pytest.mark.parametrize(
    "settings", [[], ["env.size=8", "gamma=0.9"], ["learning_rate=linear(1e-3, 0)", "policy_kwargs.net_arch=[64, 64]"]]
)
def test_the_command_that_repeats_a_run_resolves_to_it(
    tmp_path: Path, settings: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config = resolve_config("snake", "ppo", settings=settings, seed=7, stop_at="solved", threads=1)
    plain = config.as_dict()
    text = repeat_command(plain, differences(plain), tmp_path / "config.yaml")
    assert "--config" not in text
    assert command([*shlex.split(text)[1:], "--dry-run"], monkeypatch) == 0
    assert capsys.readouterr().out == config.as_yaml()


def test_a_folder_that_is_none(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no run"):
        read_record(RunFolder(tmp_path / "nowhere"))
