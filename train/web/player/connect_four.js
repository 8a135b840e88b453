"use strict";
// Connect Four: the rules of palaestra.envs.games.connect_four on a list of cells, and the picture of a board.

const STONES = [
  { name: "yellow", face: "#ffd447", rim: "#e0a21b", shine: "#ffe58a" },
  { name: "red", face: "#f2585b", rim: "#c23240", shine: "#ff8d86" },
];
const LINE = 4; // stones that win
const BOARD_TOP = 100;

class ConnectFourGame {
  constructor({ rows, columns, threats = false }) {
    Object.assign(this, { rows, columns, threats });
    this.cells = rows * columns;
    this.width = 640;
    this.cell = Math.min(608 / columns, 530 / rows);
    this.left = (this.width - this.cell * columns) / 2;
    this.height = Math.ceil(BOARD_TOP + this.cell * rows + 14);
    this.actions = Array.from({ length: columns }, (_, column) => `column ${column + 1}`);
    this.colours = STONES.map((stone) => stone.name);
  }

  /** An empty board. ``stones`` has the cells row by row from the upper left: 0, 1 for player 0 and 2 for player 1. */
  reset() {
    return { stones: new Int8Array(this.cells), moves: 0, newest: -1, line: [], over: false };
  }

  /** Whose turn it is, 0 or 1. */
  player(state) {
    return state.moves & 1;
  }

  /** Of each column whether it is not full. */
  legal({ stones }) {
    return this.actions.map((_, column) => stones[column] === 0);
  }

  /** The lowest free cell of a column; −1 where it is full. */
  landing({ stones }, column) {
    for (let row = this.rows - 1; row >= 0; row--) if (stones[row * this.columns + column] === 0) return row * this.columns + column;
    return -1;
  }

  /** A stone into a column; the reward is that of who moves, −1 in a full column. */
  step(state, column) {
    const [newest, moves] = [this.landing(state, column), state.moves + 1];
    const stones = state.stones.slice();
    if (newest >= 0) stones[newest] = 1 + this.player(state);
    const line = newest < 0 ? [] : this._line(stones, newest);
    const over = newest < 0 || line.length > 0 || moves === this.cells;
    const reward = newest < 0 ? -1 : line.length > 0 ? 1 : 0;
    return { state: { stones, moves, newest, line, over }, reward, over, success: false };
  }

  /** The cells of all lines of four or more through a cell. */
  _line(stones, cell) {
    const [row, column] = [Math.floor(cell / this.columns), cell % this.columns];
    const alike = (down, right) => {
      const found = [];
      for (let n = 1; ; n++) {
        const [r, c] = [row + n * down, column + n * right];
        if (r < 0 || c < 0 || r >= this.rows || c >= this.columns) return found;
        if (stones[r * this.columns + c] !== stones[cell]) return found;
        found.push(r * this.columns + c);
      }
    };
    const lines = [[0, 1], [1, 0], [1, 1], [1, -1]].map(([down, right]) => [cell, ...alike(down, right), ...alike(-down, -right)]);
    return [...new Set(lines.filter((line) => line.length >= LINE).flat())];
  }

  /**
   * What the player sees whose turn it is: its own stones, then the other's. With ``threats`` also the empty cells that
   * would complete a line of the one and of the other, and where the next stones come to lie.
   */
  observe(state) {
    const planes = new Float32Array((this.threats ? 5 : 2) * this.cells);
    const own = 1 + this.player(state);
    const mark = (plane, cell) => (planes[plane * this.cells + cell] = 1);
    state.stones.forEach((stone, cell) => {
      if (stone !== 0) mark(stone === own ? 0 : 1, cell);
      else if (this.threats) [own, 3 - own].forEach((mover, n) => this._completes(state.stones, cell, mover) && mark(2 + n, cell));
    });
    if (this.threats) this.actions.map((_, column) => this.landing(state, column)).forEach((cell) => cell >= 0 && mark(4, cell));
    return planes;
  }

  /** Whether a stone of that player in an empty cell would be in a line. */
  _completes(stones, cell, mover) {
    const after = stones.slice();
    after[cell] = mover;
    return this._line(after, cell).length > 0;
  }

  /** The winner, 0 or 1; undefined without one. */
  winner(state) {
    return state.line.length ? 1 - this.player(state) : undefined;
  }

  /** The columns in words, from below. */
  told(state, names) {
    const columns = this.actions.map((name, column) => {
      const stones = [];
      for (let row = this.rows - 1; row >= 0; row--) stones.push(state.stones[row * this.columns + column]);
      return [name, stones.filter((stone) => stone !== 0).map((stone) => names[stone - 1]).join(", ")];
    });
    const filled = columns.filter(([, stones]) => stones).map(([name, stones]) => `${name} from below: ${stones}`);
    return filled.length ? filled.join("; ") : "an empty board";
  }

  /** The column at a place of the picture; −1 beside the board. */
  columnAt(x) {
    const column = Math.floor((x - this.left) / this.cell);
    return column >= 0 && column < this.columns ? column : -1;
  }

  /** @param {object} view ``names`` of both players, ``aim``: a column that is pointed at, ``fall``: how far the newest stone has fallen. */
  draw(pen, state, { names, aim = -1, fall = 1 }) {
    pen.fillStyle = "#0d141c";
    pen.fillRect(0, 0, this.width, this.height);
    this._drawPlayers(pen, state, names);
    const [width, height] = [this.cell * this.columns, this.cell * this.rows];
    rounded(pen, this.left - 8, BOARD_TOP - 8, width + 16, height + 16, 26, "#12305f");
    rounded(pen, this.left - 3, BOARD_TOP - 3, width + 6, height + 6, 22, "#1d4c9c");
    if (aim >= 0) rounded(pen, this.left + aim * this.cell, BOARD_TOP, this.cell, height, 18, "#3a6cc0");
    for (let cell = 0; cell < this.cells; cell++) this._drawCell(pen, state, cell, fall < 1 && cell === state.newest);
    if (fall < 1) this._drawFalling(pen, state, fall);
    const landing = aim >= 0 ? this.landing(state, aim) : -1;
    if (landing >= 0) ring(pen, ...this._centre(landing), 0.36 * this.cell, 0.07 * this.cell, STONES[this.player(state)].face);
  }

  /** Who plays with which stones; the one whose turn it is, or who has won, stands out. */
  _drawPlayers(pen, state, names) {
    const winner = this.winner(state);
    const draw = state.over && winner === undefined;
    names.forEach((name, player) => {
      const left = 16 + player * 312;
      const standsOut = !draw && player === (winner ?? this.player(state));
      rounded(pen, left, 14, 296, 68, 16, standsOut ? STONES[player].face : "#131d27");
      if (standsOut) rounded(pen, left + 3, 17, 290, 62, 13, "#22303d");
      this._drawStone(pen, left + 38, 48, 22, STONES[player]);
      const told = winner === player ? "wins" : draw ? "draw" : standsOut ? "to move" : "";
      written(pen, name, left + 74, told ? 39 : 49, 32, standsOut ? "#f4f7fa" : "#8a99a8");
      if (told) written(pen, told, left + 74, 65, 20, standsOut ? STONES[player].shine : "#8a99a8");
    });
  }

  _centre(cell) {
    return [this.left + ((cell % this.columns) + 0.5) * this.cell, BOARD_TOP + (Math.floor(cell / this.columns) + 0.5) * this.cell];
  }

  _drawCell(pen, state, cell, isEmpty) {
    const [x, y] = this._centre(cell);
    disc(pen, x, y, 0.43 * this.cell, "#15397a");
    disc(pen, x, y, 0.39 * this.cell, "#0b1830");
    if (isEmpty || state.stones[cell] === 0) return;
    this._drawStone(pen, x, y, 0.39 * this.cell, STONES[state.stones[cell] - 1]);
    if (state.line.includes(cell)) ring(pen, x, y, 0.41 * this.cell, 0.06 * this.cell, "#ffffff");
    else if (state.line.length) disc(pen, x, y, 0.39 * this.cell, "#0d1c3a60");
    else if (cell === state.newest) disc(pen, x, y, 0.1 * this.cell, "#ffffffd0");
  }

  /** The newest stone on its way, behind the holes of its column. */
  _drawFalling(pen, state, fall) {
    const [x, y] = this._centre(state.newest);
    pen.save();
    pen.beginPath();
    for (let row = 0; row < this.rows; row++) {
      const hole = this._centre(row * this.columns)[1];
      pen.moveTo(x + 0.39 * this.cell, hole);
      pen.arc(x, hole, 0.39 * this.cell, 0, 2 * Math.PI);
    }
    pen.clip();
    const from = BOARD_TOP - 0.5 * this.cell;
    this._drawStone(pen, x, from + (y - from) * fall * fall, 0.39 * this.cell, STONES[state.stones[state.newest] - 1]);
    pen.restore();
  }

  _drawStone(pen, x, y, radius, { face, rim, shine }) {
    disc(pen, x, y, radius, rim);
    disc(pen, x, y, 0.84 * radius, face);
    ring(pen, x, y, 0.6 * radius, 0.07 * radius, rim);
    disc(pen, x - 0.42 * radius, y - 0.46 * radius, 0.13 * radius, shine);
  }
}
