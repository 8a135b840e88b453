"""How many chains of real URDF files are held, and why the others are refused.

For each link of example-robot-data's files that carries nothing and that some joint moves: the chain from the root to
it is read, or refused. The counts by reason are printed, and any error that is not one line of ours ends the script.

    pip install example-robot-data==6.0.0    # 124 MB
    python tests/stress/robot_leaves.py [FOLDER]
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from pathlib import Path

from palaestra.envs.arm.robot_files.robot_file import read_tree
from palaestra.envs.arm.robot_files.tree import RobotFileError, RobotTree

REASONS = {
    "is floating|is planar": "a joint with more than one degree of freedom",
    "must not be negative about": "an inertia that no body has",
    "has no inertia of its own": "a motion without inertia",
    "must be below its q_max": "limits without room",
    "must not be negative, got": "a negative number",
    "follows": "a mimic joint on the way",
}


def main() -> None:
    """Print the counts, and a line for each file without one robot."""
    installed = [Path(folder, "cmeel.prefix/share/example-robot-data/robots") for folder in sys.path]
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else next(folder for folder in installed if folder.is_dir())
    counts: Counter[str] = Counter()
    for file in sorted(folder.rglob("*.urdf")):
        try:
            tree = read_tree(file)
            base = tree.chosen_base(None)
        except RobotFileError as error:
            print(error)
            continue
        for leaf, joints in tree.leaves(base).items():
            if joints:
                counts[_outcome(tree, leaf, base)] += 1
    for outcome, count in counts.most_common():
        print(f"{count:5d}  {outcome}")


def _outcome(tree: RobotTree, leaf: str, base: str) -> str:
    try:
        tree.chain(leaf, base)
    except RobotFileError as error:
        reasons = [reason for pattern, reason in REASONS.items() if re.search(pattern, str(error))]
        return f"refused: {reasons[0] if reasons else error}"
    return "held"


if __name__ == "__main__":
    main()
