"""``palaestra export``: the file is the agent, says what it is, and plays like it from the command line."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from exported_runs import MARKET, RUNS, command

from palaestra.agents.checkpoints import model_file
from palaestra.agents.export.policy_network import ExportError
from palaestra.envs.registry import resolve
from palaestra.train.commands.evaluate import evaluate_player, find_player
from palaestra.train.evaluation.episodes import run_episodes
from palaestra.train.export import confirm as comparison
from palaestra.train.export import write as writing
from palaestra.train.export.policy_file import PolicyFile
from palaestra.train.export.write import export
from palaestra.train.runs.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("runs")


@pytest.mark.parametrize("run", RUNS)
def test_the_file_plays_the_same_episodes(run: str) -> None:
    agent, file = find_player(run, None, False, ()), find_player(f"{run}.onnx", None, False, ())
    assert (file.env, file.env_kwargs, file.label) == (agent.env, agent.env_kwargs, "ppo")
    played = [
        run_episodes(resolve(file.env).make(50, device="cpu", seed=2**32 + 7, **file.env_kwargs), player.policy)
        for player in (agent, file)
    ]
    np.testing.assert_array_equal(played[0].lengths, played[1].lengths)
    np.testing.assert_allclose(played[0].returns, played[1].returns, rtol=0, atol=1e-3 if run == "reach" else 0)


def test_the_score_is_that_of_the_run() -> None:
    ours, theirs = (evaluate_player(name, 60).as_dict() for name in ("snake-small", "snake-small.onnx"))
    assert {**ours, "run": ""} == {**theirs, "run": ""}


def test_the_contract_says_what_the_file_is(runs: Path) -> None:
    contract = json.loads((runs / "reach.json").read_text())
    assert contract["sha256"] == hashlib.sha256((runs / "reach.onnx").read_bytes()).hexdigest()
    inside = PolicyFile(runs / "reach.onnx").contract
    assert inside == {key: value for key, value in contract.items() if key not in ("file", "sha256")}
    assert contract["environment"] == {
        "id": "palaestra/PandaReach-v0",
        "settings": {},
        "source": resolve("reach").source(),
        "steps_per_second": 20,
        "max_episode_steps": 100,
    }
    assert contract["agent"] == {"algorithm": "ppo", "steps": 4096, "seed": 0}
    assert [(end["name"], end["dtype"], end["shape"]) for end in contract["inputs"]] == [
        ("observation", "float32", [23])
    ]
    action = contract["outputs"][0]
    assert (action["dtype"], action["shape"], action["low"], action["high"]) == ("float32", [7], -1.0, 1.0)
    joint = contract["inputs"][0]["elements"][0]
    assert (joint["name"], joint["unit"], joint["scale"]) == ("position_joint1", "rad", 2.8973)
    assert contract["outputs"][0]["elements"][0]["unit"] == "rad/s"
    assert contract["scores"]["mean"] == RunFolder(runs / "reach").evaluation()["mean"]
    assert contract["confirmed"]["states"] >= 10_000
    assert contract["confirmed"]["largest_difference"] <= 1e-5


def test_choices_have_their_names(runs: Path) -> None:
    action = PolicyFile(runs / "snake-small.onnx").contract["outputs"][0]
    assert (action["kind"], action["count"], action["first"]) == ("discrete", 3, 0)
    market = PolicyFile(runs / "market.onnx").contract
    prices = market["outputs"][0]["choices"]
    assert len(prices) == market["outputs"][0]["count"] > 1
    assert len({*prices}) == len(prices)
    assert [(end["name"], end["kind"]) for end in market["inputs"]] == [("observation", "box"), ("action_mask", "mask")]
    assert market["environment"]["settings"] == MARKET
    confirmed = PolicyFile(runs / "snake-small.onnx").contract["confirmed"]
    assert confirmed["equal"] + confirmed["ties"] == confirmed["states"] >= 10_000


def test_one_file_for_any_batch_of_opset_18(runs: Path) -> None:
    model = onnx.load(runs / "snake-small.onnx")
    assert [(opset.domain, opset.version) for opset in model.opset_import if opset.domain == ""] == [("", 18)]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    session = onnxruntime.InferenceSession((runs / "snake-small.onnx").read_bytes())
    for n in (1, 2, 1000):
        assert session.run(["action"], {"observation": np.zeros((n, 145), np.float32)})[0].shape == (n,)


def test_a_program_of_torch_export(runs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert command(monkeypatch, "export", "snake-small", "--format", "torch", "--stochastic", "--out", "s.pt2") == 0
    extra = {"contract.json": ""}
    module = torch.export.load(runs / "s.pt2", extra_files=extra).module()
    contract = json.loads(extra["contract.json"])
    assert [end["name"] for end in contract["outputs"]] == ["action", "log_probabilities", "value"]
    found = module(torch.zeros(5, 145))
    assert [tuple(part.shape) for part in found] == [(5,), (5, 3), (5,)]
    torch.testing.assert_close(found[1].exp().sum(1), torch.ones(5))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("export", "random"), "random is no trained agent: name a run"),
        (("export", "nowhere"), "no run 'nowhere'"),
        (("export", "reach.onnx"), "reach.onnx is exported already: name the run that it comes from"),
        (("export", "reach", "--out", "reach.zip"), "a file of --format onnx is called NAME.onnx"),
        (("export", "reach", "--format", "torch", "--out", "reach.onnx"), "is called NAME.pt2"),
        (("export", "reach", "--format", "tflite"), "tflite"),
        (("export", "nowhere", "--best", "--out", "b.onnx"), "nowhere"),
        (("export", "reach", "--out", "reach/run.onnx"), "reach/run.onnx is inside the run folder"),
        (("export", "reach", "--format", "sb3", "--out", "reach/model.zip"), "reach/model.zip is inside the run"),
        (("evaluate", "reach.onnx", "--stochastic"), "acts without chance"),
        (("evaluate", "reach.onnx", "--env", "snake-small"), "has the inputs"),
        (("evaluate", "missing.onnx"), "no run 'missing.onnx'"),
        (("evaluate", "reach.onnx", "--set", "env.control=cartesian"), "has the outputs"),
    ],
)
def test_bad_usage(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], message: str
) -> None:
    assert command(monkeypatch, *words) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert "Traceback" not in error


def test_the_model_is_opened_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By the command as a whole; an agent on a GPU is opened once more, on the CPU."""
    opened: list[str] = []

    original = model_file.read

    def counted(agent: Any, file: Path, **how: Any) -> Any:
        opened.append(str(file))
        return original(agent, file, **how)

    monkeypatch.setattr("palaestra.agents.checkpoints.model_file.read", counted)
    monkeypatch.setattr(writing, "read", counted)
    assert command(monkeypatch, "export", "snake-small", "--format", "torch", "--out", str(tmp_path / "once.pt2")) == 0
    assert opened == ["snake-small/model.zip"] * (1 + torch.cuda.is_available())


def test_a_default_name_replaces_no_file(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    Path("snake-small-ppo.onnx").write_text("mine")
    assert command(monkeypatch, "export", "snake-small") == 2
    assert "snake-small-ppo.onnx exists already: give --out FILE" in " ".join(capsys.readouterr().err.split())
    assert Path("snake-small-ppo.onnx").read_text() == "mine"
    Path("snake-small-ppo.onnx").rename("snake-small-ppo.json")
    assert command(monkeypatch, "export", "snake-small") == 2
    assert "snake-small-ppo.json exists already" in " ".join(capsys.readouterr().err.split())
    assert Path("snake-small-ppo.json").read_text() == "mine"
    Path("snake-small-ppo.json").unlink()


def test_another_policy_is_not_written(runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file would hold another network than was traced: its last layer is changed as it is saved."""
    player, changed = find_player("snake-small", None, False, ()), []
    original = torch.export.save

    def other(program: Any, *args: Any, **kwargs: Any) -> None:
        for name in ("weight", "bias"):  # the least likely action becomes the likeliest
            place = f"policy.action_net.{name}"
            program.state_dict[place] = torch.nn.Parameter(-program.state_dict[place].detach())
            changed.append(place)
        original(program, *args, **kwargs)

    monkeypatch.setattr(torch.export, "save", other)
    with pytest.raises(ExportError, match=r"acts differently in .* states, and the agent's scores"):
        export(player, RunFolder(runs / "snake-small"), tmp_path / "wrong.pt2", "torch")
    assert len(changed) == 2
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("form", ["onnx", "torch", "sb3"])
def test_the_bytes_that_are_written_were_opened(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    """The contract in them is not that of the bytes that were compared: they are opened once more."""
    place = {"onnx": "_onnx", "torch": "_program", "sb3": "_sb3"}[form]
    original, made, seen = getattr(writing, place), [], []

    def watched(*args: Any) -> Any:
        whole, opened = original(*args)

        def whole_watched() -> bytes:
            made.append(whole())
            return made[-1]

        return whole_watched, lambda content: seen.append(content) or opened(content)

    monkeypatch.setattr(writing, place, watched)
    path = tmp_path / f"p{writing.SUFFIXES[form]}"
    export(find_player("snake-small", None, False, ()), RunFolder(Path("snake-small")), path, form)
    assert made == seen
    assert path.read_bytes() == seen[-1]


def test_ties_are_told_from_other_actions() -> None:
    from gymnasium.spaces import Discrete, MultiBinary, MultiDiscrete

    found = {"log_probabilities": torch.tensor([[-1.0, -2.0, -3.0, -4.0, -5.0]])}
    scores = comparison.scores_of
    assert scores(Discrete(5, start=2), found, torch.tensor([4])).item() == -3.0
    assert scores(MultiDiscrete([2, 3], start=[1, -1]), found, torch.tensor([[2, -1]])).item() == -5.0
    assert scores(Discrete(2), {"q_values": torch.tensor([[7.0, 8.0]])}, torch.tensor([1])).item() == 8.0
    bits = {"probabilities": torch.tensor([[0.5, 0.25]])}
    assert scores(MultiBinary(2), bits, torch.tensor([[1, 0]])).item() == pytest.approx(np.log(0.5 * 0.75))


@pytest.mark.parametrize(
    ("low", "high", "action", "alike", "other"),
    [
        (-1e-3, 1e-3, 5e-4, 5e-9, 2e-8),  # 1e-5 of its half is 1e-8
        (1e4, 1e4 + 0.1, 1e4, 0.003, 0.01),  # neighbours in float32 are 0.001 apart
        (2.0, 2.0, 2.0, 5e-7, 1e-5),
        (-np.inf, np.inf, 3.0, 5e-6, 2e-5),
        (0.0, np.inf, 3.0, 5e-6, 2e-5),
        (-3e38, 3e38, 0.0, 1e33, 1e34),  # its range is more than float32 holds
    ],
)
def test_ranges_of_every_size_tell_other_actions(
    low: float, high: float, action: float, alike: float, other: float
) -> None:
    from gymnasium.spaces import Box

    space, ours = Box(low, high, (1,), np.float32), torch.tensor([[action]], dtype=torch.float64)
    comparison._distance(space, ours, ours + alike, 1)
    with pytest.raises(ExportError, match="differ from the agent's"):
        comparison._distance(space, ours, ours + other, 1)


def test_continuous_actions_are_compared_in_shares_of_their_range() -> None:
    from gymnasium.spaces import Box

    space = Box(np.float32([0.0, -1.0]), np.float32([1000.0, 1.0]))
    action = torch.tensor([[500.0, 0.5]])
    assert comparison._distance(space, action, action + torch.tensor([[0.004, 0.0]]), 1) == pytest.approx(
        0.004, rel=0.02
    )
    with pytest.raises(ExportError, match="differ from the agent's by up to"):
        comparison._distance(space, action, action + torch.tensor([[0.0, 2e-5]]), 1)
    with pytest.raises(ExportError, match="differ"):
        comparison._distance(space, action, action * torch.nan, 1)


SCRIPT = """
const ort = require("onnxruntime-node");
const fs = require("fs");
(async () => {
  const session = await ort.InferenceSession.create(process.argv[2]);
  const raw = fs.readFileSync(process.argv[3]);
  const n = 1000, width = raw.length / 4 / n;
  const seen = new ort.Tensor("float32", new Float32Array(raw.buffer, raw.byteOffset, n * width), [n, width]);
  const { action } = await session.run({ observation: seen });
  console.log(JSON.stringify(Array.from(action.data, Number)));
})();
"""


@pytest.fixture(scope="module")
def javascript(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with ONNX Runtime for Node.js."""
    folder = tmp_path_factory.mktemp("javascript")
    if shutil.which("npm") is None or shutil.which("node") is None:
        pytest.skip("no Node.js")
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", "--ignore-scripts", "onnxruntime-node@1.27.0"]
    done = subprocess.run(install, cwd=folder, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"npm cannot install onnxruntime-node: {done.stderr[-200:]}")
    return folder


@pytest.mark.parametrize("env", ["snake-small", "reach"])
def test_javascript_gives_the_same_actions(runs: Path, javascript: Path, env: str) -> None:
    batch, seen = resolve(env).make(50, device="cpu", seed=2**32 + 1), []
    player = find_player(f"{env}.onnx", None, False, ())
    obs, _ = batch.reset()
    for _ in range(20):
        seen.append(obs.numpy().copy())
        obs, *_ = batch.step(player.policy(batch, obs))
    states = np.concatenate(seen)
    (javascript / "states.bin").write_bytes(states.tobytes())
    (javascript / "run.js").write_text(SCRIPT)
    words = ["node", "run.js", str(runs / f"{env}.onnx"), "states.bin"]
    done = subprocess.run(words, cwd=javascript, capture_output=True, text=True, timeout=120, check=True)
    found = np.array(json.loads(done.stdout))
    ours = PolicyFile(runs / f"{env}.onnx")({"observation": states})["action"].flatten()
    np.testing.assert_allclose(found, ours, rtol=0, atol=0 if env == "snake-small" else 1e-5)
