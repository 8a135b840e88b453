"use strict";
// The player: an agent at its own pace, what it sees, and a person who takes over or plays beside it.

const WORLDS = { snake: SnakeWorld, cartpole: CartPoleWorld, season: SeasonWorld, reach: ReachWorld };
const ARROWS = { ArrowUp: "↑", ArrowLeft: "←", ArrowDown: "↓", ArrowRight: "→", w: "W", s: "S" };
const MODES = { agent: "the agent plays", person: "you play", both: "you beside the agent" };

/** A running episode: its state, what was earned, and whether it is over. */
class Episode {
  constructor(world, { seed, index, episode }) {
    this.world = world;
    this.key = episodeKey(seed, index, episode);
    this.state = world.reset(new Random(this.key, 0));
    Object.assign(this, { steps: 0, total: 0, over: false, success: false, last: undefined });
  }

  step(action) {
    this.steps += 1;
    const { state, reward, over, success } = this.world.step(this.state, action, new Random(this.key, this.steps));
    Object.assign(this, { state, over, success, last: action, total: this.total + reward });
  }
}

const made = (tag, properties = {}, children = []) => {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
};

class Player {
  /** @param {HTMLElement} root an empty element. @param {object} data what palaestra.train.web wrote. */
  constructor(root, data) {
    Object.assign(this, { root, data, mode: "agent", running: false, speed: 1, number: 0, held: [], tapped: null });
    this.world = new WORLDS[data.world.kind](data.world);
    this.network = new Network(data.network);
    root.classList.toggle("wide", this.world.width > 1.7 * this.world.height);
    this._build();
    this._restart();
    document.addEventListener("keydown", (event) => this._pressed(event));
    document.addEventListener("keyup", (event) => this._released(event.key));
    window.addEventListener("blur", () => (this.held = []));
    let before = performance.now();
    let due = 0;
    this.frames = 0;
    const frame = (now) => {
      due = Math.min(due + ((now - before) / 1000) * this.world.pace * this.speed, 20);
      before = now;
      this.frames += 1;
      if (!this.running) due = 0;
      let moved = false;
      for (; due >= 1; due--) moved = this._step() || moved;
      if (moved) this._show();
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  _build() {
    this.canvases = ["agent", "person"].map((who) => made("canvas", { width: this.world.width, height: this.world.height, className: who, role: "img" }));
    this.captions = ["the agent", "you"].map((text) => made("figcaption", { textContent: text }));
    this.figures = this.canvases.map((canvas, i) => made("figure", {}, [this.captions[i], canvas]));
    const button = (text, key, act) => made("button", { type: "button", textContent: text, title: `key ${key}`, onclick: act });
    this.playButton = button("Play", "Space", () => this._run(!this.running));
    this.speedChoice = made("select", { onchange: () => (this.speed = Number(this.speedChoice.value)) },
      [0.25, 0.5, 1, 2, 4, 10].map((x) => made("option", { value: x, textContent: `${x} ×`, selected: x === 1 })));
    this.modeChoice = made("select", { onchange: () => this._setMode(this.modeChoice.value) },
      Object.entries(MODES).map(([value, text]) => made("option", { value, textContent: text })));
    const bar = made("div", { className: "bar" }, [
      this.playButton,
      button("Step", ".", () => { this._run(false); this._step(true); this._show(); }),
      button("New episode", "N", () => this._next()),
      button("Again", "R", () => this._restart()),
      made("label", {}, ["speed ", this.speedChoice]),
      made("label", {}, ["who ", this.modeChoice]),
    ]);
    this.controls = made("div", { className: "controls", hidden: true });
    this.status = made("p", { className: "status", role: "status" });
    this.sees = made("div", { className: "sees" });
    const panel = made("div", { className: "panel" }, [made("h3", { textContent: "What the agent thinks" }), this.sees]);
    this.root.append(made("div", { className: "stage" }, this.figures), bar, this.controls, this.status, panel);
    this._buildControls();
  }

  /** For a person: a menu where turns are taken, otherwise keys to touch. */
  _buildControls() {
    if (this.world.turns) {
      const { actions } = this.world;
      this.menu = made("input", { type: "range", min: 0, max: actions.length - 1, value: 0, ariaLabel: "price" });
      const shown = made("output", { textContent: actions[0] });
      this.menu.oninput = () => (shown.textContent = actions[this.menu.value]);
      const post = made("button", { type: "button", textContent: "Ask this price", onclick: () => this._choose() });
      this.controls.append(this.menu, shown, post);
    } else {
      for (const key of Object.keys(ARROWS).filter((key) => this.world.keyNames.includes(key))) {
        const pad = made("button", { type: "button", textContent: ARROWS[key], ariaLabel: key });
        pad.onpointerdown = () => this._hold(key);
        pad.onpointerup = pad.onpointerleave = () => this._released(key);
        this.controls.append(pad);
      }
    }
    this.controls.append(made("p", { textContent: this.world.help }));
  }

  _setMode(mode) {
    this.mode = this.modeChoice.value = mode;
    this.controls.hidden = mode === "agent";
    if (mode !== "agent" && this.world.turns) this._run(false);
    if (mode === "both") this._restart();
    this._show();
    if (mode !== "agent") this.root.focus({ preventScroll: true });
  }

  get place() {
    return { seed: this.data.seed, index: this.number, episode: 0 };
  }

  _restart() {
    this.agent = new Episode(this.world, this.place);
    this.person = new Episode(this.world, this.place);
    this._show();
  }

  _next() {
    this.number = (this.number + 1) % this.data.episodes;
    this._restart();
  }

  _run(running) {
    this.running = running && !(this.world.turns && this.mode !== "agent");
    this.playButton.textContent = this.running ? "Pause" : "Play";
    if (this.running && this._over()) this._next();
  }

  /** The episodes that take part: the one shown, or both. */
  _taking() {
    return this.mode === "both" ? [this.agent, this.person] : [this.agent];
  }

  _over() {
    return this._taking().every((episode) => episode.over);
  }

  /** One step of all that goes on; false if nothing moved. */
  _step(asked = false) {
    if (this._over()) {
      if (!asked && this.mode === "agent" && ++this.rest > this.world.pace * 1.2) this._next();
      return false;
    }
    this.rest = 0;
    if (!this.agent.over) this.agent.step(this.mode === "person" ? this._fromPerson(this.agent) : this._fromAgent(this.agent));
    if (this.mode === "both" && !this.person.over) this.person.step(this._fromPerson(this.person));
    if (this._over() && this.mode !== "agent") this._run(false);
    return true;
  }

  _think(episode) {
    return this.network.run(this.world.observe(episode.state));
  }

  _fromAgent(episode) {
    const { action } = this._think(episode);
    return this.world.actions === null ? action : action[0];
  }

  _fromPerson(episode) {
    if (this.world.turns) return Number(this.menu.value);
    const keys = this.world.keys(episode.state);
    const pressed = [this.tapped, ...[...this.held].reverse()].find((key) => key !== null && key in keys);
    this.tapped = null;
    return pressed === undefined ? this.world.idle(episode.state, episode.last) : keys[pressed];
  }

  /** A person's turn where turns are taken. */
  _choose() {
    if (this.mode === "agent") return;
    this._step(true);
    this._show();
  }

  _hold(key) {
    this.tapped = key;
    if (!this.held.includes(key)) this.held.push(key);
    if (this.mode !== "agent" && !this.running && !this._over()) this._run(true);
  }

  _released(key) {
    this.held = this.held.filter((other) => other !== key && other !== key.toLowerCase());
  }

  _pressed(event) {
    const inForm = /^(input|select|textarea|button)$/i.test(event.target.tagName);
    if (event.ctrlKey || event.metaKey || event.altKey || (inForm && !this.root.contains(event.target))) return;
    const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
    const acts = { " ": () => this._run(!this.running), ".": () => { this._run(false); this._step(true); this._show(); },
      n: () => this._next(), r: () => this._restart(), t: () => this._setMode(this.mode === "agent" ? "person" : "agent") };
    if (this.mode !== "agent" && this.world.turns && ["ArrowLeft", "ArrowRight", "Enter"].includes(key)) {
      if (event.target === this.menu && key !== "Enter") return;
      if (key === "Enter") { if (/^button$/i.test(event.target.tagName)) return; this._choose(); }
      else { this.menu.value = Number(this.menu.value) + (key === "ArrowLeft" ? -1 : 1); this.menu.oninput(); }
    } else if (this.mode !== "agent" && !this.world.turns && key in ARROWS && !/^select$/i.test(event.target.tagName)) {
      if (!event.repeat) this._hold(key);
    } else if (key in acts && !(inForm && key === " ")) acts[key]();
    else return;
    event.preventDefault();
  }

  _show() {
    const shown = [[this.agent, this.mode === "person" ? "you" : "the agent"], [this.person, "you"]];
    this.figures[1].hidden = this.mode !== "both";
    shown.forEach(([episode, who], i) => {
      this.captions[i].textContent = this.mode === "both" ? who : "";
      this.world.draw(this.canvases[i].getContext("2d"), episode.state, episode.over);
      this.canvases[i].ariaLabel = `${who}: ${this.world.score(episode.state)}`;
    });
    this._showStatus();
    if (!this.agent.over) this._showThoughts();
  }

  _showStatus() {
    const told = (episode) => `${this.world.score(episode.state)}, return ${Number(episode.total.toPrecision(5))}`;
    const ended = this._over() ? (this.agent.success ? " — done" : " — over") : "";
    const told_of = this.mode === "both" ? `agent: ${told(this.agent)}; you: ${told(this.person)}` : told(this.agent);
    this.status.textContent = `Episode ${this.number}: ${told_of}${ended}`;
  }

  /** Probabilities, values or means of the actions, as bars. */
  _showThoughts() {
    const found = this._think(this.agent);
    const names = this.world.actions ?? found.mean?.map((_, i) => `joint ${i + 1}`) ?? [];
    let numbers, text, shares;
    if (found.log_probabilities) {
      numbers = found.log_probabilities.map(Math.exp);
      [shares, text] = [numbers, (x) => `${(100 * x).toFixed(1)} %`];
    } else if (found.q_values) {
      numbers = found.q_values;
      const known = numbers.filter((x) => x > -1e30);
      const [low, high] = [Math.min(...known), Math.max(...known)];
      [shares, text] = [numbers.map((x) => (high > low ? (x - low) / (high - low) : 1)), (x) => x.toPrecision(4)];
    } else {
      numbers = found.mean ?? found.action;
      [shares, text] = [numbers.map((x) => Math.min(Math.abs(x), 1)), (x) => x.toFixed(3)];
    }
    const chosen = this.world.actions === null ? -1 : found.action[0];
    const order = numbers.map((_, i) => i);
    const kept = order.length <= 9 ? order : order.sort((a, b) => shares[b] - shares[a]).slice(0, 7).sort((a, b) => a - b);
    const rows = kept.map((i) => made("div", { className: i === chosen ? "row chosen" : "row" }, [
      made("span", { textContent: names[i] ?? i }),
      made("span", { className: "track" }, [Object.assign(made("span", { className: "fill" }), { style: `width: ${100 * shares[i]}%` })]),
      made("span", { textContent: text(numbers[i]) }),
    ]));
    if (found.value) rows.push(made("p", { textContent: `value: ${found.value[0].toPrecision(4)}, in the rewards that it was trained with` }));
    this.sees.replaceChildren(...rows);
  }
}
