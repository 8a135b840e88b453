"""The web player's JavaScript, run by Node.js without a browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palaestra.train.web.page import script

# episodes: from the reset on, with given actions; each step is reward, over, success and the observation before it,
# of a game for two the legal moves behind it, and the cells of the line that won at the end
_HARNESS = """
const { readFileSync, writeFileSync } = require("fs");
const given = JSON.parse(readFileSync("case.json", "utf8"));
const { world: data, network: net, episodes, steps, observations, masks } = given;
const worlds = { ...WORLDS, ...GAMES };
const world = data && new worlds[data.kind](data);
const found = [];
for (const { seed, index, episode, actions } of episodes ?? []) {
  const key = episodeKey(seed, index, episode);
  let state = world.reset(new Random(key, 0));
  actions.forEach((action, i) => {
    found.push(...world.observe(state));
    if (world.legal) found.push(...world.legal(state));
    const { state: after, reward, over, success } = world.step(state, action, new Random(key, i + 1));
    found.push(reward, over ? 1 : 0, success ? 1 : 0);
    if (world.legal) found.push(...Array.from(after.stones, (_, cell) => after.line.includes(cell)));
    state = after;
  });
}
for (const [state, action] of steps ?? []) {
  found.push(...world.observe(state));
  const { state: after, reward, over, success } = world.step(state, action);
  found.push(reward, over ? 1 : 0, success ? 1 : 0, ...world.observe(after));
}
if (net) {
  const network = new Network(net);
  for (const [i, observation] of observations.entries()) {
    const outputs = network.run(Float32Array.from(observation), masks?.[i]);
    for (const name of network.outputs) found.push(...outputs[name]);
  }
}
writeFileSync("found.bin", Float32Array.from(found));
"""


def data_of(page: Path) -> dict[str, Any]:
    """What a page's player is given."""
    found = re.search(r'<script type="application/json" id="player-data">(.*?)</script>', page.read_text(), re.S)
    assert found is not None
    data: dict[str, Any] = json.loads(found[1])
    return data


def run_player(folder: Path, **case: Any) -> np.ndarray[Any, Any]:
    """What the player's parts make of a case, float32 in the order of the harness; skips without Node.js."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("there is no Node.js")
    (folder / "case.json").write_text(json.dumps(case))
    (folder / "player.js").write_text(script() + _HARNESS)
    done = subprocess.run([node, "player.js"], cwd=folder, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    return np.fromfile(folder / "found.bin", np.float32)
