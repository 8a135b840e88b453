"""The web player's JavaScript, run by Node.js without a browser."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from palaestra.train.web.page import script

# episodes: from the reset on, with given actions; each step is reward, over, success and the observation before it
_HARNESS = """
const { readFileSync, writeFileSync } = require("fs");
const { world: data, network: net, episodes, steps, observations } = JSON.parse(readFileSync("case.json", "utf8"));
const worlds = { snake: SnakeWorld, cartpole: CartPoleWorld, season: SeasonWorld, reach: ReachWorld };
const world = data && new worlds[data.kind](data);
const found = [];
for (const { seed, index, episode, actions } of episodes ?? []) {
  const key = episodeKey(seed, index, episode);
  let state = world.reset(new Random(key, 0));
  actions.forEach((action, i) => {
    found.push(...world.observe(state));
    const { state: after, reward, over, success } = world.step(state, action, new Random(key, i + 1));
    found.push(reward, over ? 1 : 0, success ? 1 : 0);
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
  for (const observation of observations) {
    const outputs = network.run(Float32Array.from(observation));
    for (const name of network.outputs) found.push(...outputs[name]);
  }
}
writeFileSync("found.bin", Float32Array.from(found));
"""


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
