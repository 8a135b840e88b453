"use strict";
// CartPole: the equations of palaestra.envs.cartpole (Barto, Sutton and Anderson 1983), and its picture.

const CART_STEP = 0.02; // s
const CART_END = 2.4; // m
const POLE_END = (12 * Math.PI) / 180;

class CartPoleWorld {
  constructor({ gravity, pole_mass, half_length, force, cart_mass, limit }) {
    Object.assign(this, { gravity, poleMass: pole_mass, half: half_length, force, cartMass: cart_mass, limit });
    this.pace = 50;
    this.width = 640;
    this.height = 360;
    this.actions = ["push left", "push right"];
    this.keyNames = ["ArrowLeft", "ArrowRight"];
    this.help = "← and → push the cart";
  }

  reset(random) {
    const end = Math.fround(0.05);
    const [position, velocity, angle, spin] = random.uniforms([-end, -end, -end, -end], [end, end, end, end]);
    return { position, velocity, angle, spin, steps: 0 };
  }

  step(state, action) {
    const total = this.cartMass + this.poleMass;
    const lever = this.poleMass * this.half;
    const sin = Math.sin(state.angle);
    const cos = Math.cos(state.angle);
    const push = (this.force * (2 * action - 1) + lever * state.spin ** 2 * sin) / total;
    const turning = (this.gravity * sin - cos * push) / (this.half * (4 / 3 - (this.poleMass * cos ** 2) / total));
    const moving = push - (lever * turning * cos) / total;
    const after = {
      position: Math.fround(state.position + CART_STEP * state.velocity),
      velocity: Math.fround(state.velocity + CART_STEP * moving),
      angle: Math.fround(state.angle + CART_STEP * state.spin),
      spin: Math.fround(state.spin + CART_STEP * turning),
      steps: state.steps + 1,
    };
    const fallen = Math.abs(after.position) > CART_END || Math.abs(after.angle) > POLE_END;
    const atLimit = this.limit !== null && after.steps >= this.limit;
    return { state: after, reward: 1, over: fallen || atLimit, success: !fallen && atLimit };
  }

  observe({ position, velocity, angle, spin }) {
    return Float32Array.of(position, velocity, angle, spin);
  }

  keys() {
    return { ArrowLeft: 0, ArrowRight: 1 };
  }

  /** A player who presses nothing leaves the last push as it was. */
  idle(state, last) {
    return last ?? 0;
  }

  score(state) {
    return `${(state.steps * CART_STEP).toFixed(1)} s upright`;
  }

  draw(pen, state, over) {
    const scale = 118;
    const track = 270;
    const middle = this.width / 2;
    const top = track - 62;
    const x = middle + state.position * scale;
    const length = Math.min(1.35 * 2 * this.half * scale, top - 8);
    pen.fillStyle = "#0d141c";
    pen.fillRect(0, 0, this.width, this.height);
    pen.fillStyle = "#131d27";
    pen.fillRect(0, track + 6, this.width, this.height);
    stroked(pen, [[0, track], [this.width, track]], 6, "#34475a");
    for (const end of [-CART_END, CART_END]) rounded(pen, middle + end * scale - 4, track - 34, 8, 40, 4, "#c2504d");
    const reach = 1.12 * length;
    polygon(pen, [[x, top], ...[-1, 1].map((s) => [x + s * reach * Math.sin(POLE_END), top - reach * Math.cos(POLE_END)])], "#ffffff0c");
    const fallen = over && Math.abs(state.angle) > POLE_END;
    const pole = fallen ? "#ff6b70" : "#f2b35e";
    stroked(pen, [[x, top], [x + length * Math.sin(state.angle), top - length * Math.cos(state.angle)]], 15, pole);
    rounded(pen, x - 52, top - 2, 104, 42, 10, "#4fa3e3");
    disc(pen, x, top, 9, "#0d141c");
    disc(pen, x, top, 5, "#dfe7ee");
    for (const wheel of [x - 30, x + 30]) {
      disc(pen, wheel, track - 16, 14, "#22303d");
      disc(pen, wheel, track - 16, 6, "#7d8b99");
    }
    const sign = (value, digits) => `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(digits)}`;
    written(pen, `${sign(state.position, 2)} m`, 24, 322, 30, "#7fb8e6");
    written(pen, `${sign((state.angle * 180) / Math.PI, 1)}°`, this.width - 24, 322, 30, pole, "right");
  }
}
