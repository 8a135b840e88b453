"use strict";
// Reach: the kinematics and the drives of palaestra.envs.arm.reach for any serial chain, and its picture.

const REACH_STEP = 0.05; // s
const TOLERANCE = Math.fround(0.02); // m
const NEAR = 0.05; // m
const CARTESIAN_MOVES = [[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]];

const minus = (a, b) => a.map((x, i) => x - b[i]);
const norm = (a) => Math.sqrt(a.reduce((sum, x) => sum + x * x, 0));
const cross = (a, b) => [a[1] * b[2] - a[2] * b[1], a[2] * b[0] - a[0] * b[2], a[0] * b[1] - a[1] * b[0]];
const turnedBy = (matrix, vector) => matrix.map((row) => row.reduce((sum, x, i) => sum + x * vector[i], 0));
const timesMatrix = (a, b) => a.map((row) => b[0].map((_, j) => row.reduce((sum, x, i) => sum + x * b[i][j], 0)));
const limited = (x, low, high) => Math.min(Math.max(x, low), high);

/** The rotation about an axis by an angle (Rodrigues). */
function rotation([x, y, z], angle) {
  const [s, c] = [Math.sin(angle), Math.cos(angle)];
  const t = 1 - c;
  return [
    [t * x * x + c, t * x * y - s * z, t * x * z + s * y],
    [t * x * y + s * z, t * y * y + c, t * y * z - s * x],
    [t * x * z - s * y, t * y * z + s * x, t * z * z + c],
  ];
}

class ReachWorld {
  constructor({ chain, start, targets, control, limit, keys, camera }) {
    Object.assign(this, { chain, start, targets, limit, camera, moveKeys: keys });
    this.cartesian = control === "cartesian";
    this.dof = start.length;
    this.pace = 20;
    this.width = 640;
    this.height = 560;
    this.actions = this.cartesian ? ["stay", "+x", "−x", "+y", "−y", "+z", "−z"] : null;
    this.keyNames = Object.keys(keys);
    this.help = "arrow keys move the tool right, left, up and down, W away and S nearer";
    this.startTool = Array.from(this._tool(start), Math.fround);
  }

  /** Every joint's frame after its motion: axis and origin in the world; and the tool centre. */
  _frames(q) {
    const { base, joints, flange, tool } = this.chain;
    let turn = base.rotation;
    let place = base.position;
    const onward = (frame) => {
      place = turnedBy(turn, frame.position).map((x, i) => x + place[i]);
      turn = timesMatrix(turn, frame.rotation);
    };
    const frames = joints.map((joint, i) => {
      onward(joint);
      const axis = turnedBy(turn, joint.axis);
      if (joint.turns) turn = timesMatrix(turn, rotation(joint.axis, q[i]));
      else place = place.map((x, k) => x + axis[k] * q[i]);
      return { axis, place, turns: joint.turns };
    });
    onward(flange);
    const wrist = place;
    onward(tool);
    return { frames, wrist, tool: place };
  }

  _tool(q) {
    return this._frames(q).tool;
  }

  reset(random) {
    const [low, high] = [0, 1].map((end) => this.targets.map((range) => Math.fround(range[end])));
    const target = Array.from(random.uniforms(low, high));
    const still = new Array(this.dof).fill(0);
    return { q: this.start, dq: still, tool: this.startTool, target, steps: 0, trail: [] };
  }

  /** One step; the action is a number of the moves, or a velocity of each joint from −1 to 1. */
  step(state, action) {
    const { velocity } = this.chain;
    const wanted = this.cartesian
      ? this._towards(state.q, CARTESIAN_MOVES[action])
      : Array.from(action, (x, i) => limited(x, -1, 1) * velocity[i]);
    const [q, dq] = this._drive(state.q, state.dq, wanted);
    const tool = this._tool(q).map(Math.fround);
    const before = norm(minus(state.target, state.tool));
    const distance = norm(minus(state.target, tool));
    const reached = Math.fround(distance) <= TOLERANCE;
    const gained = Math.max(before - 0.02, 0) - Math.max(distance - 0.02, 0);
    const steps = state.steps + 1;
    const after = { q, dq, tool, target: state.target, steps, trail: [...state.trail, state.tool].slice(-120) };
    const over = reached || (this.limit !== null && steps >= this.limit);
    return { state: after, reward: 10 * gained - 0.1 + (reached ? 1 : 0), over, success: reached };
  }

  /** Joint velocities for a velocity of the tool in m/s, by damped least squares. */
  _towards(q, motion) {
    const { velocity } = this.chain;
    const { frames, tool } = this._frames(q);
    const columns = frames.map(({ axis, place, turns }, i) =>
      (turns ? cross(axis, minus(tool, place)) : axis).map((x) => x * velocity[i]));
    const matrix = [0, 1, 2].map((r) => [0, 1, 2].map((c) =>
      columns.reduce((sum, column) => sum + column[r] * column[c], r === c ? 0.05 ** 2 : 0)));
    const [a, b, c] = matrix;
    const volume = (x, y, z) => x[0] * (y[1] * z[2] - y[2] * z[1]) - x[1] * (y[0] * z[2] - y[2] * z[0]) + x[2] * (y[0] * z[1] - y[1] * z[0]);
    const whole = volume(a, b, c); // the matrix is symmetric: its rows are its columns
    const solved = [volume(motion, b, c) / whole, volume(a, motion, c) / whole, volume(a, b, motion) / whole];
    return columns.map((column, i) => velocity[i] * column.reduce((sum, x, k) => sum + x * solved[k], 0));
  }

  /** Angles and velocities after a step of constant acceleration towards the commanded velocity, within all limits. */
  _drive(q, dq, command) {
    const { low, high, velocity, acceleration } = this.chain;
    const stoppable = (room, speed, a) => {
      const left = Math.max(room - speed * 0.5 * REACH_STEP, 0);
      return a * (Math.sqrt(REACH_STEP ** 2 + (2 * left) / a) - REACH_STEP);
    };
    const speeds = dq.map((speed, i) => {
      const a = acceleration[i];
      const upper = Math.min(velocity[i], stoppable(high[i] === null ? Infinity : high[i] - q[i], speed, a));
      const lower = Math.min(velocity[i], stoppable(low[i] === null ? Infinity : q[i] - low[i], -speed, a));
      const inside = Math.min(Math.max(command[i], -lower), upper);
      return Math.fround(Math.min(Math.max(inside, speed - a * REACH_STEP), speed + a * REACH_STEP));
    });
    const angles = q.map((angle, i) => Math.fround(
      limited(angle + (dq[i] + speeds[i]) * 0.5 * REACH_STEP, low[i] ?? -Infinity, high[i] ?? Infinity)));
    return [angles, speeds];
  }

  observe(state) {
    const { span, velocity } = this.chain;
    const error = minus(state.target, state.tool);
    const distance = norm(error);
    return Float32Array.from([
      ...state.q.map((x, i) => (x - (span[i][1] + span[i][0]) / 2) / ((span[i][1] - span[i][0]) / 2)),
      ...state.dq.map((x, i) => x / velocity[i]),
      ...state.tool,
      ...error,
      ...error.map((x) => x / (distance + NEAR)),
    ]);
  }

  keys(state) {
    const keys = {};
    for (const [key, move] of Object.entries(this.moveKeys)) {
      keys[key] = this.cartesian ? move : this._towards(state.q, CARTESIAN_MOVES[move]).map((x, i) => limited(x / this.chain.velocity[i], -1, 1));
    }
    return keys;
  }

  idle() {
    return this.cartesian ? 0 : new Array(this.dof).fill(0);
  }

  score(state) {
    const away = norm(minus(state.target, state.tool));
    return `${(state.steps * REACH_STEP).toFixed(2)} s, ${(100 * away).toFixed(1)} cm from the target`;
  }

  /** Where a point of the world is in the picture, and how many units a metre is there. */
  _seen(point) {
    const { eye, right, down, ahead, focal, middle } = this.camera;
    const from = minus(point, eye);
    const along = (axis) => axis.reduce((sum, x, i) => sum + x * from[i], 0);
    const depth = Math.max(along(ahead), 1e-3);
    const scale = focal / depth;
    return { x: middle[0] + scale * along(right), y: middle[1] + scale * along(down), scale };
  }

  draw(pen, state, over) {
    pen.fillStyle = "#0d141c";
    pen.fillRect(0, 0, this.width, this.height);
    const ground = this.chain.base.position[2];
    this._drawFloor(pen, ground);
    const { frames, wrist, tool } = this._frames(state.q);
    const points = [this.chain.base.position, ...frames.map((frame) => frame.place), wrist, tool];
    const flat = ([x, y, z]) => { const at = this._seen([x, y, z]); return [at.x, at.y]; };
    stroked(pen, points.map(([x, y]) => flat([x, y, ground])), 10, "#00000055");
    const reached = norm(minus(state.target, state.tool)) <= TOLERANCE;
    const mood = reached ? "#3ddc84" : over ? "#ff5a5f" : "#ffb02e";
    stroked(pen, [flat(state.target), flat([state.target[0], state.target[1], ground])], 2, `${mood}66`, [5, 6]);
    stroked(pen, state.trail.map(flat), 3, `${mood}99`);
    for (let i = 1; i < points.length; i++) {
      const from = this._seen(points[i - 1]);
      const width = from.scale * this.camera.size * (i === points.length - 1 ? 0.03 : 0.075 - 0.004 * i);
      stroked(pen, [flat(points[i - 1]), flat(points[i])], width + 3, "#0b1016");
      stroked(pen, [flat(points[i - 1]), flat(points[i])], width, i === points.length - 1 ? "#5a6675" : "#e6ebf0");
    }
    frames.forEach(({ place }, i) => {
      const { x, y, scale } = this._seen(place);
      disc(pen, x, y, scale * this.camera.size * (0.045 - 0.002 * i), "#3e4652");
    });
    const aim = this._seen(state.target);
    disc(pen, aim.x, aim.y, 2.2 * aim.scale * TOLERANCE, `${mood}33`);
    disc(pen, aim.x, aim.y, aim.scale * TOLERANCE, mood);
    written(pen, `${(state.steps * REACH_STEP).toFixed(2)} s`, 24, 34, 30, mood);
    written(pen, `${(100 * norm(minus(state.target, state.tool))).toFixed(1)} cm`, this.width - 24, 34, 30, mood, "right");
  }

  _drawFloor(pen, ground) {
    const { size } = this.camera;
    const centre = this.chain.base.position;
    const tile = size / 8;
    for (let i = -10; i <= 10; i++) {
      for (const ends of [[[i, -10], [i, 10]], [[-10, i], [10, i]]]) {
        const line = ends.map(([x, y]) => this._seen([centre[0] + x * tile, centre[1] + y * tile, ground]));
        stroked(pen, line.map(({ x, y }) => [x, y]), 1, "#22303d");
      }
    }
  }
}
