"""Writing an agent as a file (ONNX, a program of ``torch.export``, SB3's zip, a page), confirmed before it is written.

The network of :mod:`palaestra.agents.export.policy_network` is traced once with a batch of any size. An ONNX file has
opset 18, all weights inside, and the contract in its metadata; the contract is also written beside it as ``NAME.json``,
with the SHA-256 of the file. A program of ``torch.export`` (``.pt2``) carries it as the extra file ``contract.json``.
A page (:mod:`palaestra.train.web`) has the coarsest weights with which no action changes.
"""

from __future__ import annotations

import hashlib
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gymnasium import Space, spaces
from torch import Tensor

from palaestra.agents.base import OnDeviceAlgorithm
from palaestra.agents.checkpoints.model_file import read
from palaestra.agents.export.policy_network import OBSERVATION, ExportError, PolicyNetwork
from palaestra.envs.core.batched_env import BatchedEnv
from palaestra.envs.core.reference import Array
from palaestra.envs.interop.host_batch import is_channels_last
from palaestra.envs.registry import resolve
from palaestra.train.evaluation.episodes import EVALUATION_SEEDS
from palaestra.train.evaluation.policies import AgentPolicy, Player
from palaestra.train.export.confirm import Confirmation, confirm, fed
from palaestra.train.export.contract import contract_of, given_space
from palaestra.train.export.destination import check_destination, write_both
from palaestra.train.export.held_out.held_out_reference import reference_of
from palaestra.train.export.policy_file import (
    BLANK_SHA256,
    CONTRACT_KEY,
    NEEDED,
    SHA256_KEY,
    PolicyFile,
    sha256_without,
)
from palaestra.train.export.priced_moments import priced_moments
from palaestra.train.plain_json import finite
from palaestra.train.runs.run_folder import RunFolder

SUFFIXES = {"onnx": ".onnx", "torch": ".pt2", "sb3": ".zip", "web": ".html"}
_PLAYED = ("web", "player")  # in a page of its own, and within another one
OPSET = 18
_SEED, _REFERENCE_SEED = 1, 2  # of the held-out episodes: not those of the final evaluation
_TRACED = 3  # observations in the batch that is traced; with one, its size would be a constant


_Act = Callable[[dict[str, Array]], Array]
_Written = tuple[Callable[[], bytes], Callable[[bytes], _Act]]
"""A function that makes the file's bytes with the contract as it is then, and one that opens such bytes and acts."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    path: Path
    contract_file: Path
    contract: dict[str, Any]
    confirmation: Confirmation


def export(player: Player, folder: RunFolder, path: Path, form: str = "onnx", distribution: bool = False) -> Exported:
    """Write an agent to ``path`` and its contract beside it, once both were seen to act alike.

    Args:
        player: the agent with its environment, as ``find_player`` gives it: its policy has the name of the model's
            file, which is opened once more if the agent is not on the CPU, where exported files run.
        folder: the run's folder.
        path: the file; an exported policy that is there is replaced.
        form: "onnx", "torch", "sb3", or "web".
        distribution: more outputs than the action, from which actions can be sampled.

    Raises:
        ExportError: if the policy cannot be exported, or acts differently as a file, or ``path`` is not free.
    """
    check_destination(path)
    whole, opened, contract, found = _compared(player, folder, path, form, distribution)
    content = whole()  # with what came of the comparison
    opened(content)
    told = {**contract, "file": path.name, "sha256": hashlib.sha256(content).hexdigest()}
    write_both(path, content, json.dumps(told, indent=1, allow_nan=False) + "\n")
    return Exported(path, path.with_suffix(".json"), contract, found)


def player_of(player: Player, folder: RunFolder) -> dict[str, Any]:
    """The agent as a page plays it (:mod:`palaestra.train.web`), once both were seen to act alike.

    Raises:
        ExportError: if a page cannot play it.
    """
    whole, *_ = _compared(player, folder, folder.model_file, "player", distribution=True)
    data: dict[str, Any] = json.loads(whole())
    return data


def _compared(
    player: Player, folder: RunFolder, path: Path, form: str, distribution: bool
) -> tuple[Callable[[], bytes], Callable[[bytes], _Act], dict[str, Any], Confirmation]:
    """What makes and opens the bytes of a file that acts as the agent does, the contract, and the comparison."""
    assert isinstance(player.policy, AgentPolicy)
    model, name = player.policy.model, player.policy.name
    if model.remembers:
        raise ExportError(
            "this agent acts with a memory of the episode, for which an exported policy has no place: use its run "
            "(palaestra evaluate, watch), or train ppo on stacked observations (--set env.frame_stack=8)"
        )
    if model.device.type != "cpu":
        model = read(type(model), Path(name), device="cpu", to_act=True)
    policy = AgentPolicy(model, name=name)
    env = resolve(player.env).make(_batch(player), device="cpu", seed=EVALUATION_SEEDS + _SEED, **player.env_kwargs)
    try:
        obs, _ = env.reset()
        policy.model.speak_to(env)
        masked = env.action_masks() is not None
        turned = _channels_last(given_space(env))
        network = PolicyNetwork(policy.model, masked, distribution or form in _PLAYED, turned)
        contract = contract_of(player, env, folder)
        if (prices := priced_moments(policy, env)) is not None:
            contract["prices"] = prices
        feed = fed(contract["inputs"], obs, env.action_masks())
        inputs = tuple(torch.as_tensor(part[:_TRACED]) for part in feed.values())
        contract["outputs"] += _further(network, inputs)
        if form == "sb3":
            if distribution or masked:
                what = "--stochastic is for the other formats" if distribution else "it knows no action masks"
                raise ExportError(f"a file of Stable-Baselines3 has its own outputs, the action alone: {what}")
            written = [_sb3(policy.model, contract)]
        elif form in _PLAYED:
            of = resolve(player.env).short_name if form == "web" else None
            written = _pages(network, inputs, contract, path, env, of)
        else:
            written = [(_onnx if form == "onnx" else _program)(network, inputs, contract, path)]
        scores = (
            None
            if isinstance(env.single_action_space, spaces.Box)
            else PolicyNetwork(policy.model, masked, True, turned)
        )
        whole, opened, found = _confirmed(written, policy, contract["inputs"], env, scores)
        contract["confirmed"] = finite(found.as_dict())
    finally:
        env.close()
    if form not in _PLAYED:
        contract["reference"] = finite(reference_of(policy, partial(_again, player), _batch(player), contract))
    return whole, opened, contract, found


def _confirmed(
    written: list[_Written], policy: AgentPolicy, inputs: Any, env: BatchedEnv, scores: PolicyNetwork | None
) -> tuple[Callable[[], bytes], Callable[[bytes], _Act], Confirmation]:
    """The first of several that acts like the agent; all but the last must not even change a tie.

    Raises:
        ExportError: if the last one acts differently.
    """
    *coarser, (whole, opened) = written
    for rough, opening in coarser:
        with suppress(ExportError):  # it is too coarse: the next one
            found = confirm(policy, opening(rough()), inputs, env, scores)
            if not found.ties:
                return rough, opening, found
    return whole, opened, confirm(policy, opened(whole()), inputs, env, scores)


def _batch(player: Player) -> int:
    """Copies for the comparison: enough for many different episodes, few where copies step one after another."""
    return min(resolve(player.env).evaluation_episodes, 250 if resolve(player.env).in_tensors else 20)


def _again(player: Player, size: int) -> BatchedEnv:
    """Held-out episodes that are not those of the comparison."""
    return resolve(player.env).open(size, "cpu", EVALUATION_SEEDS + _REFERENCE_SEED, **player.env_kwargs)


def _channels_last(space: Space[Any]) -> set[str]:
    """Inputs whose images the environment gives with the channels last."""
    parts = space.spaces if isinstance(space, spaces.Dict) else {OBSERVATION: space}
    return {name for name, part in parts.items() if is_channels_last(part)}


def _further(network: PolicyNetwork, inputs: tuple[Tensor, ...]) -> list[dict[str, Any]]:
    """The outputs after the action."""
    with torch.no_grad():
        found = dict(zip(network.outputs, network(*inputs), strict=True))
    return [
        {"name": name, "dtype": str(value.dtype).removeprefix("torch."), "shape": [*value.shape[1:]]}
        for name, value in found.items()
        if name != "action"
    ]


def _onnx(network: PolicyNetwork, inputs: tuple[Tensor, ...], contract: dict[str, Any], path: Path) -> _Written:
    """A file of ONNX, which ONNX Runtime opens."""
    try:
        import onnx
        import onnxruntime
        import onnxscript
    except ImportError as error:
        raise ExportError(f"writing ONNX {NEEDED} ({error})") from None
    del onnxruntime, onnxscript  # which torch and the comparison need
    with _quiet():
        program = torch.onnx.export(
            network,
            inputs,
            dynamo=True,
            dynamic_shapes=_sizes(inputs),
            external_data=False,
            input_names=network.inputs,
            output_names=network.outputs,
            opset_version=OPSET,
            verbose=False,
        )
    assert program is not None
    model = program.model_proto

    def whole() -> bytes:
        return _sealed(onnx, model, contract)

    def opened(content: bytes) -> _Act:
        file = PolicyFile(path, content=content)
        return lambda feed: file(feed, ["action"])["action"]

    return whole, opened


def _sealed(onnx: Any, model: Any, contract: dict[str, Any]) -> bytes:
    """The bytes of a model with its contract and checksum."""
    onnx.helper.set_model_props(model, {CONTRACT_KEY: json.dumps(contract, allow_nan=False), SHA256_KEY: BLANK_SHA256})
    model.producer_name, model.doc_string = "palaestra", f"policy for {contract['environment']['id']}"
    content: bytes = model.SerializeToString()
    if content.count(BLANK_SHA256.encode()) != 1:
        raise ExportError("the weights hold the bytes that stand for the checksum: train some steps more")
    digest = sha256_without(content, BLANK_SHA256)
    return content.replace(BLANK_SHA256.encode(), digest.encode())


def _pages(
    network: PolicyNetwork,
    inputs: tuple[Tensor, ...],
    contract: dict[str, Any],
    path: Path,
    env: BatchedEnv,
    name: str | None,
) -> list[_Written]:
    """Pages in which the agent plays, from the coarsest weights to the exact ones; without a name only their data."""
    from palaestra.train.web.onnx_graph import PRECISIONS, page_network
    from palaestra.train.web.page import acting, page, played_in

    played = played_in(env)  # refuses before anything is traced
    sealed, _ = _onnx(network, inputs, contract, path)
    content = sealed()

    def written(precision: str) -> _Written:
        def whole() -> bytes:
            told = {**played, "network": page_network(content, precision), "contract": contract}
            return json.dumps(told, allow_nan=False).encode() if name is None else page(told, name)

        return whole, lambda _: acting(content, precision)

    return [written(precision) for precision in PRECISIONS]


def _program(network: PolicyNetwork, inputs: tuple[Tensor, ...], contract: dict[str, Any], path: Path) -> _Written:
    """A file of torch.export."""
    del path
    with _quiet():
        program = torch.export.export(network, inputs, dynamic_shapes=_sizes(inputs))

    def whole() -> bytes:
        buffer, extra = io.BytesIO(), {"contract.json": json.dumps(contract, allow_nan=False)}
        torch.export.save(program, buffer, extra_files=extra)
        return buffer.getvalue()

    def opened(content: bytes) -> _Act:
        module = torch.export.load(io.BytesIO(content)).module()

        def act(feed: dict[str, Array]) -> Array:
            found: Array = module(*map(torch.as_tensor, feed.values()))[0].numpy()
            return found

        return act

    return whole, opened


def _sb3(model: OnDeviceAlgorithm, contract: dict[str, Any]) -> _Written:
    """A file of Stable-Baselines3, which opens it; the contract is beside it only."""
    from palaestra.agents.export.sb3_file import sb3_model

    made = sb3_model(model)
    made.save(buffer := io.BytesIO())
    keys = [end["name"] for end in contract["inputs"]] if isinstance(model.observation_space, spaces.Dict) else None

    def opened(content: bytes) -> _Act:
        theirs = type(made).load(io.BytesIO(content), device="cpu")

        def act(feed: dict[str, Array]) -> Array:
            obs = next(iter(feed.values())) if keys is None else {key: feed[key] for key in keys}
            action: Array = theirs.predict(obs, deterministic=True)[0]
            return action

        return act

    return buffer.getvalue, opened


def _sizes(inputs: tuple[Tensor, ...]) -> Any:
    batch = torch.export.Dim("batch")
    return (tuple({0: batch} for _ in inputs),)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what the exporter prints of packages that it looks for and of its own future."""
    logger = logging.getLogger("torch.onnx")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(before)
