"use strict";
// A game for two: a person against the agent, on a board that is clicked or played with keys.

const GAMES = { "connect-four": ConnectFourGame };
const FALL = 260; // ms that a stone falls
const THOUGHT = 500; // ms before the agent moves, in which the person's stone is seen to fall
const SIDES = { 0: "you begin", 1: "the agent begins" };
const MANNERS = { best: "its best move", drawn: "by its probabilities" };

class GamePlayer {
  /** @param {HTMLElement} root an empty element. @param {object} data what palaestra.train.web wrote. */
  constructor(root, data) {
    const calm = window.matchMedia("(prefers-reduced-motion: reduce)").matches;
    Object.assign(this, { root, data, side: 0, manner: "best", aim: -1, fallsFrom: 0, calm, thoughtTime: THOUGHT, frames: 0 });
    this.game = new GAMES[data.world.kind](data.world);
    this.network = new Network(data.network);
    this._build();
    this.begin();
    document.addEventListener("keydown", (event) => this._pressed(event));
    const frame = () => {
      this.frames += 1;
      if (this.fallsFrom) this._draw();
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  _build() {
    const { width, height, cell, actions } = this.game;
    this.canvas = made("canvas", { width, height, role: "img" });
    this.canvas.onpointermove = (event) => event.pointerType === "mouse" && this._point(this._columnOf(event));
    this.canvas.onpointerleave = () => this._point(-1);
    this.canvas.onclick = (event) => this.drop(this._columnOf(event));
    this.columns = actions.map((name, column) => this._column(name, column));
    const share = `${(100 * cell * actions.length) / width}%`;
    const under = made("div", { className: "columns-of-board" }, this.columns.map((each) => each.element));
    under.style.width = share;
    const board = made("figure", { className: "board" }, [this.canvas, under]);
    board.style.maxWidth = `min(640px, calc(60vh * ${width / height}))`;
    const button = (text, key, act) => made("button", { type: "button", textContent: text, title: `key ${key}`, onclick: act });
    const choice = (choices, now, act) => made("select", { onchange: (event) => act(event.target.value) },
      Object.entries(choices).map(([value, text]) => made("option", { value, textContent: text, selected: value === String(now) })));
    this.sideChoice = choice(SIDES, this.side, (side) => { this.side = Number(side); this.begin(); });
    this.mannerChoice = choice(MANNERS, this.manner, (manner) => (this.manner = manner));
    this.backButton = button("Take back", "U", () => this.takeBack());
    this.hintButton = button("Hint", "H", () => this.hint());
    this.status = made("p", { className: "status told", role: "status" });
    this.record = made("p", { className: "record" });
    this.thoughts = made("p", { className: "thoughts" });
    const labels = [made("label", {}, ["who ", this.sideChoice])];
    if (this.network.outputs.includes("log_probabilities")) labels.push(made("label", {}, ["the agent plays ", this.mannerChoice]));
    const bar = made("div", { className: "bar" }, [button("New game", "N", () => this.begin()), this.backButton, this.hintButton, ...labels]);
    this.root.append(this.status, made("div", { className: "stage" }, [board]), this.thoughts, bar, this.record);
  }

  /** What stands under a column: the button that drops a stone, and what the agent thinks of it. */
  _column(name, column) {
    const drop = made("button", { type: "button", textContent: column + 1, ariaLabel: name, onclick: () => this.drop(column) });
    drop.onfocus = () => drop.matches(":focus-visible") && this._point(column);
    drop.onblur = () => this._point(-1);
    const [fill, number] = [made("span", { className: "fill" }), made("span", { className: "number" })];
    return { drop, fill, number, element: made("div", {}, [drop, made("div", { className: "well" }, [fill]), number]) };
  }

  /** A new game. */
  begin() {
    clearTimeout(this.waiting);
    Object.assign(this, { states: [this.game.reset()], moves: [], thought: null, fallsFrom: 0, waiting: null });
    this._show("A new game. ");
    this._answerSoon();
  }

  get state() {
    return this.states.at(-1);
  }

  get isMyTurn() {
    return !this.state.over && this.game.player(this.state) === this.side;
  }

  /** A person's move; nothing where it is not theirs, or the column is full. */
  drop(column) {
    if (!this.isMyTurn || column < 0 || column >= this.game.actions.length) return;
    if (!this.game.legal(this.state)[column]) {
      this._say(`${capital(this.game.actions[column])} is full. `);
      return;
    }
    if (this.thought?.who === "hint") this.thought = null;
    this._move(column);
    this._show(`You: ${this.game.actions[column]}. `);
    this._answerSoon();
  }

  _move(column) {
    this.states.push(this.game.step(this.state, column).state);
    this.moves.push(column);
    this.fallsFrom = this.calm ? 0 : performance.now();
  }

  _answerSoon() {
    if (this.state.over || this.isMyTurn) return;
    this.waiting = setTimeout(() => this._answer(), this.thoughtTime);
  }

  /** The agent's move. */
  _answer() {
    this.waiting = null;
    const found = this.think();
    const column = this.manner === "drawn" ? drawnFrom(found.log_probabilities.map(Math.exp)) : found.action[0];
    this.thought = { found, column, who: "agent", legal: this.game.legal(this.state) };
    this._move(column);
    this._show(`The agent: ${this.game.actions[column]}. `);
  }

  /** What the agent's network says of the position, for the player whose turn it is. */
  think(state = this.state) {
    return this.network.run(this.game.observe(state), this.game.legal(state));
  }

  /** Show what the agent would play in the person's place. */
  hint() {
    if (!this.isMyTurn) return;
    const found = this.think();
    this.thought = { found, column: found.action[0], who: "hint", legal: this.game.legal(this.state) };
    this._show(`Hint: the agent would play ${this.game.actions[found.action[0]]}. `);
  }

  /** How many moves go when one is taken back: to the person's last turn; 0 where there was none. */
  _toTakeBack() {
    for (let count = 1; count <= this.moves.length; count++) {
      if (this.game.player(this.states.at(-1 - count)) === this.side) return count;
    }
    return 0;
  }

  takeBack() {
    const count = this._toTakeBack();
    if (count === 0) return;
    clearTimeout(this.waiting);
    this.states.splice(-count);
    this.moves.splice(-count);
    Object.assign(this, { waiting: null, thought: null, fallsFrom: 0 });
    this._show("Your move is taken back. ");
  }

  _columnOf(event) {
    const box = this.canvas.getBoundingClientRect();
    return this.game.columnAt(((event.clientX - box.left) * this.game.width) / box.width);
  }

  _point(column) {
    if (column === this.aim) return;
    this.aim = column;
    this._draw();
  }

  _pressed(event) {
    const inForm = /^(input|select|textarea)$/i.test(event.target.tagName);
    if (event.ctrlKey || event.metaKey || event.altKey || inForm) return;
    const key = event.key.toLowerCase();
    const acts = { n: () => this.begin(), u: () => this.takeBack(), h: () => this.hint() };
    if (/^[1-9]$/.test(key)) this.drop(Number(key) - 1);
    else if (key in acts) acts[key]();
    else return;
    event.preventDefault();
  }

  get names() {
    return this.side === 0 ? ["you", "agent"] : ["agent", "you"];
  }

  _draw() {
    const fall = this.fallsFrom ? Math.min(1, (performance.now() - this.fallsFrom) / FALL) : 1;
    if (fall >= 1) this.fallsFrom = 0;
    const canAim = this.isMyTurn && this.aim >= 0 && this.game.legal(this.state)[this.aim];
    this.canvas.style.cursor = canAim ? "pointer" : "";
    this.game.draw(this.canvas.getContext("2d"), this.state, { names: this.names, aim: canAim ? this.aim : -1, fall });
  }

  _show(said) {
    this._draw();
    this.canvas.ariaLabel = `The board: ${this.game.told(this.state, this.names)}`;
    this.root.classList.toggle("waits", this.isMyTurn);
    const legal = this.game.legal(this.state);
    this.columns.forEach(({ drop }, i) => (drop.ariaDisabled = String(!this.isMyTurn || !legal[i])));
    this.backButton.ariaDisabled = String(this._toTakeBack() === 0);
    this.hintButton.ariaDisabled = String(!this.isMyTurn);
    this.record.textContent = this.moves.length ? `Moves: ${this.moves.map((column) => column + 1).join(" ")}` : "";
    this._showThoughts();
    this._say(said);
  }

  _say(said) {
    const winner = this.game.winner(this.state);
    const mine = this.game.colours[this.side];
    if (winner === this.side) said += "You win!";
    else if (winner !== undefined) said += "The agent wins.";
    else if (this.state.over) said += "A draw: the board is full.";
    else if (this.isMyTurn) said += `Your turn, with ${mine}.`;
    else said += "The agent moves …";
    this.status.textContent = said;
  }

  /** Under each column the agent's probability, or its value of the move. */
  _showThoughts() {
    const { thought, columns } = this;
    const { shares, texts } = thought ? barsOf(thought.found, thought.legal) : { shares: [], texts: [] };
    columns.forEach(({ element, fill, number }, i) => {
      fill.style.height = `${100 * (shares[i] ?? 0)}%`;
      number.textContent = texts[i] ?? "";
      element.classList.toggle("chosen", thought?.column === i);
    });
    this.thoughts.textContent = this._thoughtTold();
  }

  _thoughtTold() {
    if (!this.thought) return "What the agent thinks of each column stands here after its move, and after a hint.";
    const { found, who } = this.thought;
    const kind = found.log_probabilities ? "probabilities" : "values";
    const whose = who === "hint" ? `Its ${kind} in your place` : `The agent's ${kind} before its last move`;
    if (!found.value) return `${whose}.`;
    const [value, size] = [found.value[0], Math.abs(found.value[0])];
    const kinds = size < 0.5 ? ["a small advantage", "a small disadvantage"] : ["a win", "a loss"];
    const expected = size < 0.05 ? "an even game" : kinds[value > 0 ? 0 : 1];
    return `${whose}; value ${signed(value)}: it expects ${expected}${who === "hint" ? " for you" : ""}.`;
  }
}

const capital = (text) => text[0].toUpperCase() + text.slice(1);

/** With two digits and a sign, but for zero. */
function signed(value) {
  const size = Math.abs(value).toFixed(2);
  return size === "0.00" ? size : `${value < 0 ? "−" : "+"}${size}`;
}

/** Bars from 0 to 1 and their texts, of probabilities or of Q-values. */
function barsOf(found, legal) {
  if (found.log_probabilities) {
    const shares = found.log_probabilities.map(Math.exp);
    return { shares, texts: shares.map((p, i) => (legal[i] ? `${(100 * p).toFixed(p > 0 && p < 0.0995 ? 1 : 0)} %` : "full")) };
  }
  const known = found.q_values.filter((_, i) => legal[i]);
  const [low, high] = [Math.min(...known), Math.max(...known)];
  const share = (x, i) => (!legal[i] ? 0 : high > low ? (x - low) / (high - low) : 1);
  return { shares: found.q_values.map(share), texts: found.q_values.map((x, i) => (legal[i] ? signed(x) : "full")) };
}

/** A place, each as probable as it says. */
function drawnFrom(probabilities) {
  let left = Math.random() * probabilities.reduce((sum, p) => sum + p, 0);
  const place = probabilities.findIndex((p) => (left -= p) < 0);
  return place >= 0 ? place : probabilities.indexOf(Math.max(...probabilities));
}

/** The player of a page: of a game for two its board, else the agent's episodes. */
const playerOf = (root, data) => (data.world.kind in GAMES ? new GamePlayer(root, data) : new Player(root, data));
