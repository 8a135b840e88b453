"use strict";
// Snake: the rules of palaestra.envs.snake, one board at a time, and its picture.

class SnakeWorld {
  constructor({ size, observation, actions }) {
    Object.assign(this, { size, observation, relative: actions === "relative" });
    this.cells = size * size;
    this.limit = 4 * this.cells;
    this.pace = 8;
    this.width = 640;
    this.height = 736;
    this.actions = this.relative ? ["left", "straight", "right"] : ["up", "right", "down", "left"];
    this.keyNames = ["ArrowUp", "ArrowLeft", "ArrowDown", "ArrowRight"];
    this.help = "arrow keys steer";
  }

  reset(random) {
    const head = random.integer(0, this.cells);
    const heading = random.integer(0, 4);
    const place = random.integer(0, this.cells - 1);
    const lifetime = new Int16Array(this.cells);
    lifetime[head] = 1;
    return { lifetime, head, heading, fruit: place + (place >= head ? 1 : 0), length: 1, hunger: 0 };
  }

  step(state, action, random) {
    const heading = this.relative ? (state.heading + action - 1) & 3 : action;
    const target = this._neighbour(state.head, heading);
    const died = target < 0 || state.lifetime[target] > 1; // a lifetime of 1 is the tail, which moves away
    const eats = target === state.fruit;
    const length = state.length + (eats ? 1 : 0);
    const head = died ? state.head : target; // a dead snake stays as it was
    const lifetime = state.lifetime.slice();
    if (!died && !eats) for (let i = 0; i < this.cells; i++) if (lifetime[i] > 0) lifetime[i]--;
    lifetime[head] = length;
    const hunger = eats ? 0 : state.hunger + 1;
    const fruit = eats ? random.choice(Array.from(lifetime, (left) => left === 0)) : state.fruit;
    const over = died || length === this.cells || hunger >= this.limit;
    const after = { lifetime, head, heading, fruit, length, hunger };
    return { state: after, reward: eats ? 1 : 0, over, success: length === this.cells };
  }

  _neighbour(cell, heading) {
    const n = this.size;
    const row = Math.floor(cell / n) + [-1, 0, 1, 0][heading];
    const column = (cell % n) + [0, 1, 0, -1][heading];
    return row < 0 || column < 0 || row >= n || column >= n ? -1 : row * n + column;
  }

  /** The cell of the board that lies at a cell of the board as the snake sees it, which faces up. */
  _turned(cell, heading) {
    const n = this.size;
    let row = Math.floor(cell / n);
    let column = cell % n;
    for (let quarter = 0; quarter < heading; quarter++) [row, column] = [column, n - 1 - row];
    return row * n + column;
  }

  observe(state) {
    const k = this.cells;
    const planes = new Float32Array(this.observation === "flat" ? 4 * k + 1 : 5 * k);
    for (let cell = 0; cell < k; cell++) {
      const seen = this.relative ? this._turned(cell, state.heading) : cell;
      planes[cell] = state.lifetime[seen] / k;
      planes[k + cell] = state.lifetime[seen] > 1 ? 1 : 0;
      planes[2 * k + cell] = seen === state.head ? 1 : 0;
      planes[3 * k + cell] = seen === state.fruit ? 1 : 0;
    }
    planes.fill(state.hunger / this.limit, 4 * k);
    return planes;
  }

  keys(state) {
    const keys = {};
    ["ArrowUp", "ArrowRight", "ArrowDown", "ArrowLeft"].forEach((key, side) => {
      const action = this.relative ? (side - state.heading + 1) & 3 : side;
      if (action < this.actions.length) keys[key] = action;
    });
    return keys;
  }

  /** The action of a player who presses nothing. */
  idle(state) {
    return this.relative ? 1 : state.heading;
  }

  score(state) {
    return `${state.length - 1} of ${this.cells - 1} fruits`;
  }

  draw(pen, state, over) {
    const won = state.length === this.cells;
    const [bright, dark] = won ? ["#ffe48a", "#ee8b3a"] : over ? ["#8fb0a0", "#2f5866"] : ["#8cf29a", "#1c7f93"];
    pen.fillStyle = "#0d141c";
    pen.fillRect(0, 0, this.width, this.height);
    this._drawHeader(pen, state, bright);
    const cell = 608 / this.size;
    rounded(pen, 10, 106, 620, 620, 18, won ? "#e9b949" : over ? "#c2504d" : "#263644");
    rounded(pen, 16, 112, 608, 608, 13, "#17222d");
    for (let row = 0; row < this.size; row++) {
      for (let column = 1 - (row % 2); column < this.size; column += 2) {
        rounded(pen, 16 + column * cell, 112 + row * cell, cell, cell, Math.min(8, cell / 5), "#1b2835");
      }
    }
    const centre = (at) => [16 + ((at % this.size) + 0.5) * cell, 112 + (Math.floor(at / this.size) + 0.5) * cell];
    if (state.fruit < this.cells) this._drawApple(pen, ...centre(state.fruit), cell);
    this._drawBody(pen, state, centre, cell, bright, dark);
    this._drawHead(pen, state, centre(state.head), cell, bright);
  }

  _drawHeader(pen, state, bright) {
    const most = this.cells - 1;
    const share = (state.length - 1) / most;
    this._drawApple(pen, 42, 42, 56);
    const eaten = written(pen, `${state.length - 1}`, 80, 44, 46, "#f4f7fa");
    written(pen, `/ ${most}`, 92 + eaten, 47, 32, "#9aa7b4");
    written(pen, `${Math.round(100 * share)} %`, 624, 44, 40, bright, "right");
    for (const [y, height, part, colour] of [[74, 12, share, bright], [90, 4, 1 - state.hunger / this.limit, "#e8a33d"]]) {
      rounded(pen, 16, y, 608, height, height / 2, "#22303d");
      if (part > 0) rounded(pen, 16, y, Math.max(height, 608 * part), height, height / 2, colour);
    }
  }

  _drawApple(pen, x, y, cell) {
    const r = 0.3 * cell;
    for (const [dx, dy] of [[-0.3, 0.1], [0.3, 0.1], [0, 0.3]]) disc(pen, x + dx * r, y + dy * r, 0.86 * r, "#e5484d");
    stroked(pen, [[x, y - 0.5 * r], [x + 0.12 * r, y - 1.15 * r]], 0.2 * r, "#7a4b2a");
    disc(pen, x + 0.5 * r, y - 0.95 * r, 0.3 * r, "#5fc96a");
    disc(pen, x - 0.5 * r, y - 0.2 * r, 0.2 * r, "#ffffffb0");
  }

  _drawBody(pen, state, centre, cell, bright, dark) {
    const body = [];
    for (let at = 0; at < this.cells; at++) if (state.lifetime[at] > 0) body.push(at);
    body.sort((a, b) => state.lifetime[a] - state.lifetime[b]); // from tail to head
    const points = body.map(centre);
    for (const [wider, colours] of [[0.07, ["#0b1a20", "#0b1a20"]], [0, [dark, bright]]]) {
      for (let i = 1; i < points.length; i++) {
        const width = cell * (0.72 - 0.36 * Math.max(0, 1 - i / 2.5) + wider);
        stroked(pen, [points[i - 1], points[i]], width, blended(colours[0], colours[1], i / points.length));
      }
    }
  }

  _drawHead(pen, state, [x, y], cell, bright) {
    const [ahead, down] = [[0, -1], [1, 0], [0, 1], [-1, 0]][state.heading];
    disc(pen, x, y, 0.41 * cell, bright);
    for (const side of [-1, 1]) {
      const eyeX = x + (0.12 * ahead - 0.19 * down * side) * cell;
      const eyeY = y + (0.12 * down + 0.19 * ahead * side) * cell;
      disc(pen, eyeX, eyeY, 0.125 * cell, "#ffffff");
      disc(pen, eyeX + 0.045 * ahead * cell, eyeY + 0.045 * down * cell, 0.07 * cell, "#10202a");
    }
  }
}
