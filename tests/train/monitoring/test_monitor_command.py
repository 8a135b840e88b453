"""``palaestra monitor`` as it is typed: what it finds, its status, its page and JSON, and bad input in one line."""

from __future__ import annotations

import copy
import json
import re
import shutil
import tracemalloc
from collections.abc import Callable
from datetime import date
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import barriers, browser, console_errors, opened, requested_hosts
from exported_runs import command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from policy_files import CONTRACT, model, written
from use_logs import CHOICES, NAMED, START, lines_of, normal, policy_with_reference, write_log

from palaestra.train.export.policy_file import PolicyFile, PolicyFileError
from palaestra.train.monitoring.drift_page import page_of
from palaestra.train.monitoring.drift_report import as_json, report
from palaestra.train.monitoring.log_files import MonitorError
from palaestra.train.monitoring.use_comparison import compare

Monitor = Callable[..., tuple[int, str, str]]


@pytest.fixture
def policy(tmp_path: Path) -> PolicyFile:
    return policy_with_reference(tmp_path)


@pytest.fixture
def monitor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Monitor:
    """Runs the command beside the log, and gives status, output and errors."""
    monkeypatch.chdir(tmp_path)

    def run(*words: str) -> tuple[int, str, str]:
        status = command(monkeypatch, "monitor", "policy.onnx", "use.jsonl", *words)
        return status, *capsys.readouterr()

    return run


def test_a_log_of_the_same_and_one_that_has_moved(policy: PolicyFile, monitor: Monitor) -> None:
    write_log(Path("use.jsonl"), lines_of(policy, normal(2000, 1)))
    status, text, _ = monitor()
    assert status == 0
    assert text.endswith("within all limits\n")
    assert "2,000 states" in text
    moved = normal(2000, 2)
    moved[:, 2] += 1.0
    write_log(Path("use.jsonl"), lines_of(policy, moved.clip(-5, 5)))
    status, text, _ = monitor()
    assert status == 1
    assert re.findall(r"^DRIFT: (\w+): PSI ([\d.]+) > 0.25", text, re.MULTILINE)[0][0] == "c"
    assert monitor("--psi", "9", "--ks", "0.9")[0] == 0


def test_json_has_every_number(policy: PolicyFile, monitor: Monitor) -> None:
    observations = normal(1000, 1)
    observations[:20, 0] = 7.0
    lines = lines_of(policy, observations)
    write_log(Path("use.jsonl"), [{**line, "return": 10.5 + i % 3} for i, line in enumerate(lines)])
    status, text, _ = monitor("--json")
    found = json.loads(text)
    assert status == 1
    assert found["alarms"] == ["a: 2 % out of range > 1 %", "returns: 0.75 standard deviations higher > 0.5"]
    numbers = {number["name"]: number for number in found["numbers"]}
    assert [*numbers] == ["a", "b", "c", "d", "action"]
    assert numbers["a"]["out_of_range"] == 0.02
    assert numbers["b"]["mean"] == pytest.approx(float(observations[:, 1].mean()), abs=1e-6)
    assert found["returns"]["mean"] == pytest.approx(11.499)
    assert found["days"][0]["returns"]["episodes"] == 1000
    assert found["returns"]["shift"]["drifted"] is True
    assert monitor("--out-of-range", "2.5", "--returns", "1")[0] == 0


def test_days_and_their_choice(policy: PolicyFile, monitor: Monitor) -> None:
    start = START.timestamp()
    good, bad = lines_of(policy, normal(300, 1), start), lines_of(policy, normal(300, 2, 2.0), start + 86_400)
    write_log(Path("use.jsonl"), good + bad)
    assert monitor()[0] == 1
    assert monitor("--until", "2026-11-02")[0] == 0
    status, text, _ = monitor("--since", "2026-11-03", "--json")
    assert status == 1
    assert [day["day"] for day in json.loads(text)["days"]] == ["2026-11-03"]
    text = monitor("--json", "--timezone", "Pacific/Kiritimati")[1]  # 14 hours ahead of 08:00
    assert [day["day"] for day in json.loads(text)["days"]] == ["2026-11-02", "2026-11-03"]
    text = monitor("--json", "--timezone", "Pacific/Honolulu")[1]  # 10 hours behind
    assert [day["day"] for day in json.loads(text)["days"]] == ["2026-11-01", "2026-11-02"]


def test_what_is_wrong_with_lines_is_told(policy: PolicyFile, monitor: Monitor) -> None:
    lines = lines_of(policy, normal(400, 1))
    lines[3]["request"] = {"observation": [1, 2]}
    lines[4]["sha256"] = "0" * 12
    lines[5]["dropped_before"] = 17
    text = "".join(json.dumps(line) + "\n" for line in lines) + "no json\n" + '{"half a'
    Path("use.jsonl").write_text(text)
    status, text, _ = monitor()
    assert status == 0
    assert "damaged lines, left out: 1, the first is use.jsonl, line 401" in text
    assert "do not fit the contract: 1, the first is use.jsonl, line 4: observation must have the shape [4]" in text
    assert "lines of other policies, left out: 1" in text
    assert "the last line is half written" in text
    assert "answered without a line in the log: 17" in text
    for line in lines[6:20]:
        line["request"] = {"observation": [1, 2, None, 3]}
    write_log(Path("use.jsonl"), lines)
    status, text, _ = monitor()
    assert status == 1
    assert "DRIFT: 3.76 % of the lines do not fit the contract > 1 %" in text


class Parts(HTMLParser):
    """What a page would load, and which tags are left open."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loaded: list[str] = []
        self.pictures = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.pictures += tag == "svg"
        self.loaded += [str(value) for name, value in attrs if name in ("src", "href", "xlink:href", "srcset")]
        if tag == "script":
            self.loaded.append(tag)
        if tag not in ("meta", "rect", "line", "circle", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag: str) -> None:
        if tag != "circle":
            assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing(policy: PolicyFile, monitor: Monitor) -> None:
    lines = lines_of(policy, normal(500, 1, 0.8))
    write_log(Path("use.jsonl"), [{**line, "return": 4.0 + i % 2} for i, line in enumerate(lines)])
    status, text, _ = monitor("--page", "monitor.html")
    assert status == 1
    assert text.endswith("page: monitor.html\n")
    page = Path("monitor.html").read_text(encoding="utf-8")
    parts = Parts()
    parts.feed(page)
    assert (parts.open, parts.loaded) == ([], [])
    assert parts.pictures == 2 + 5
    assert "http" not in page
    assert "url(" not in page
    assert "prefers-color-scheme: dark" in page
    assert "width=device-width" in page
    assert "Beyond limits and beyond chance" in page
    assert "NaN" not in page
    assert "nan" not in re.sub(r"<style>.*</style>", "", page, flags=re.DOTALL).replace("dominant", "")


def test_a_page_takes_the_place_of_an_older_one_and_of_nothing_else(policy: PolicyFile, monitor: Monitor) -> None:
    write_log(Path("use.jsonl"), lines_of(policy, normal(200, 1)))
    for _ in range(2):
        assert monitor("--page", "monitor.html")[0] == 0
    Path("mine.html").write_text("<p>my own page")
    status, _, error = monitor("--page", "mine.html")
    assert status == 2
    assert "mine.html is there already and is no page of palaestra: choose another name" in error
    assert Path("mine.html").read_text() == "<p>my own page"
    Path("folder.html").mkdir()
    status, _, error = monitor("--page", "folder.html")
    assert status == 2
    assert "folder.html is a folder: name a file" in error


def test_names_in_the_page_are_text(tmp_path: Path, monitor: Monitor, monkeypatch: pytest.MonkeyPatch) -> None:
    import use_logs

    choices = {**CHOICES, "choices": ["<script>alert(1)</script>", "a&b"]}
    monkeypatch.setattr(use_logs, "CHOICES", choices)
    write_log(Path("use.jsonl"), lines_of(policy_with_reference(tmp_path), normal(200, 1)))
    monitor("--page", "monitor.html")
    page = Path("monitor.html").read_text(encoding="utf-8")
    assert "<script" not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize(
    ("content", "words", "message"),
    [
        (None, (), "there is no log use.jsonl"),
        ("", (), "use.jsonl is empty"),
        ("\n\n", (), "use.jsonl is empty"),
        ('{"ti', (), "use.jsonl is empty: there is nothing to compare but half a line"),
        ("a,b\n1,2\n", (), "use.jsonl is no log: none of its 2 lines is a JSON object"),
        ('{"time": 0, "request": {"board": [1]}}\n', (), "no line of use.jsonl fits the contract of policy.onnx"),
        ('{"time": 0, "sha256": "00000000"}\n', (), "all 1 lines of use.jsonl are of other policies"),
        ('{"time": 0, "return": 3}\n', (), "use.jsonl has no observation to compare"),
        (True, ("--since", "2027-01-01"), "is of the days that --since and --until choose"),
        (True, ("--since", "2026-12-01", "--until", "2026-11-01"), "--since 2026-12-01 is after --until 2026-11-01"),
        (True, ("--since", "yesterday"), "--since yesterday: expected a day such as 2026-11-29"),
        (True, ("--timezone", "Mars/Olympus"), "--timezone Mars/Olympus: expected a time zone"),
        (True, ("--timezone", "../../etc/passwd"), "expected a time zone"),
        (True, ("--psi", "-1"), "--psi -1: must be a number of at least 0"),
        (True, ("--psi", "nan"), "--psi nan: must be a number of at least 0"),
        (True, ("--ks", "much"), "--ks much: expected a number"),
        (True, ("--page", "monitor.pdf"), "--page monitor.pdf: the name of a page ends in .html"),
        (True, ("--sales", "sales.csv"), "--sales: policy.onnx prices no stock"),
        (True, ("--sales", "sales.txt"), "sales.txt: the name of a table ends in .csv or .xlsx"),
    ],
)
def test_bad_input_is_one_line_and_nothing_is_written(
    policy: PolicyFile, monitor: Monitor, content: Any, words: tuple[str, ...], message: str
) -> None:
    if content is True:
        write_log(Path("use.jsonl"), lines_of(policy, normal(100, 1)))
    elif content is not None:
        Path("use.jsonl").write_text(content)
    before = {*Path().iterdir()}
    status, out, err = monitor(*words)
    assert (status, out) == (2, "")
    assert err.startswith("palaestra: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert {*Path().iterdir()} == before


def test_a_policy_without_a_reference_or_with_a_damaged_one(tmp_path: Path) -> None:
    log = write_log(tmp_path / "use.jsonl", [{"time": 0, "request": {"observation": [0, 0, 0, 0]}}])
    whole = policy_with_reference(tmp_path).contract
    without = {**CONTRACT, "inputs": [NAMED], "outputs": [CHOICES]}
    with pytest.raises(MonitorError, match="has no reference to compare with: palaestra export writes one"):
        compare(PolicyFile(written(tmp_path, model(), without)), log)
    reference = whole["reference"]
    first = reference["numbers"][0]
    for damage in (
        [],
        {**reference, "states": 0},
        {**reference, "numbers": reference["numbers"][1:]},
        {**reference, "returns": {"mean": 1.0}},
        {**reference, "numbers": 3},
        {**reference, "mean_length": None},
        {**reference, "cut_after": "early"},
        *(
            {**reference, "numbers": [{**first, **change}, *reference["numbers"][1:]]}
            for change in (
                {"cuts": []},
                {"cuts": first["cuts"][::-1]},
                {"below": [2.0] * len(first["below"])},
                {"below": first["below"][1:]},
                {"scale": 0.0},
                {"degrees": None},
                {"name": "z"},
                {"unknown": 1},
            )
        ),
    ):
        damaged = PolicyFile(written(tmp_path, model(), {**whole, "reference": damage}))
        with pytest.raises(MonitorError, match="the reference in its contract is damaged"):
            compare(damaged, log)


def test_memory_does_not_grow_with_the_log(tmp_path: Path, policy: PolicyFile) -> None:
    """Twice as many lines take no more memory."""
    peaks = []
    for count in (6_000, 12_000):
        lines = lines_of(policy, normal(count, 1))
        log = write_log(tmp_path / "use.jsonl", [{**line, "episode": "a", "reward": 1.0} for line in lines])
        del lines
        tracemalloc.start()
        found = compare(policy, log)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found.states == count
    assert peaks[1] < 1.05 * peaks[0] < 10e6


def test_days_are_bounded(tmp_path: Path, policy: PolicyFile) -> None:
    lines = lines_of(policy, np.zeros((3700, 4), np.float32))
    log = write_log(tmp_path / "use.jsonl", [{**line, "time": 86_400 * i} for i, line in enumerate(lines)])
    with pytest.raises(MonitorError, match="more than 3,660 days: choose some with --since and --until"):
        compare(policy, log)
    assert len(compare(policy, log, until=date(1979, 1, 1)).days) == 3288


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_part_of_a_reference_may_be_any_json(tmp_path: Path, policy: PolicyFile, data: st.DataObject) -> None:
    """What is not seen to be damaged can be compared, and told in every form."""
    log = write_log(tmp_path / "use.jsonl", lines_of(policy, normal(60, 1)))
    contract = copy.deepcopy(policy.contract)
    part: Any = contract["reference"]
    while True:
        keys = [*part] if isinstance(part, dict) else [*range(len(part))]
        key = data.draw(st.sampled_from(keys))
        if not isinstance(part[key], dict | list) or not part[key] or data.draw(st.booleans()):
            break
        part = part[key]
    part[key] = data.draw(JSON)
    try:
        found = compare(PolicyFile(written(tmp_path, model(), contract)), log)
    except (MonitorError, PolicyFileError):  # of a number that JSON in a contract cannot hold
        return
    report(found, 80)
    json.dumps(as_json(found), allow_nan=False)
    page_of(found)


@pytest.mark.parametrize("width", [1280, 390])
def test_the_page_fits_a_screen_and_a_phone(policy: PolicyFile, monitor: Monitor, width: int) -> None:
    webdriver = pytest.importorskip("selenium.webdriver")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("chromium and chromedriver are not installed")
    lines = lines_of(policy, normal(500, 1, 0.8))
    write_log(Path("use.jsonl"), [{**line, "return": 4.0 + i % 2} for i, line in enumerate(lines)])
    monitor("--page", "monitor.html")
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for flag in ("--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1280,900"):
        options.add_argument(flag)
    service = webdriver.ChromeService(executable_path=shutil.which("chromedriver"))
    with webdriver.Chrome(options=options, service=service) as browser:
        metrics = {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500}
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
        browser.get(Path("monitor.html").absolute().as_uri())
        assert browser.execute_script("return innerWidth") == width
        assert browser.execute_script("return document.documentElement.scrollWidth") <= width
        small = (
            "return Math.min(...[...document.querySelectorAll('svg text')].map(t => t.getBoundingClientRect().height))"
        )
        assert browser.execute_script(small) >= 10.0
        apart = (
            "return [...document.querySelectorAll('svg')].every(svg => {"
            "  const low = [...svg.querySelectorAll('text')].filter(t => t.getAttribute('text-anchor') === 'middle')"
            "    .map(t => t.getBoundingClientRect());"
            "  return low.every((box, i) => i === 0 || low[i - 1].right <= box.left); })"
        )
        assert browser.execute_script(apart)


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_axe_finds_no_serious_fault_in_the_page(policy: PolicyFile, monitor: Monitor, dark: bool) -> None:
    lines = lines_of(policy, normal(500, 1, 0.8))
    write_log(Path("use.jsonl"), [{**line, "return": 4.0 + i % 2} for i, line in enumerate(lines)])
    monitor("--page", "monitor.html")
    with browser(dark=dark) as window:
        opened(window, Path("monitor.html"))
        window.execute_script("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
        assert barriers(window) == []
        assert console_errors(window) == []
        assert requested_hosts(window) == []
