"use strict";
// A season of palaestra.envs.pricing.season: a stock, a deadline and a menu of prices; and the seller's picture.

class SeasonWorld {
  constructor({ prices, stages, stock, lot, row, cdf, margin, outlook, best, optimum, currency, unit }) {
    Object.assign(this, { prices, stages, stock, lot, row, optimum, currency, unit });
    this.cdf = floats(cdf);
    this.margin = floats(margin);
    this.outlook = outlook === null ? null : floats(outlook);
    this.best = best === null ? null : shorts(best);
    this.pace = 6;
    this.turns = true;
    this.width = 960;
    this.height = 540;
    this.actions = prices.map((price) => this._money(price));
    this.help = "choose a price, or ← and →, and Enter";
  }

  _money(amount) {
    return `${this.currency}${Number(amount.toPrecision(4)).toLocaleString("en")}`;
  }

  reset() {
    return { period: 0, stock: this.stock, price: -1, sold: 0, revenue: 0, past: [] };
  }

  step(state, action, random) {
    const place = state.period * this.prices.length + action;
    const sold = Math.min(this._wanted(place, random.uniform()) * this.lot, state.stock);
    const reward = Math.fround(this.margin[place] * sold);
    const after = {
      period: state.period + 1,
      stock: state.stock - sold,
      price: action,
      sold,
      revenue: Math.fround(state.revenue + reward),
    };
    after.past = [...state.past, { ...after, past: undefined, optimal: this.optimal(state) }];
    const over = after.period === this.stages || after.stock === 0;
    return { state: after, reward, over, success: after.stock === 0 };
  }

  /** How many entries of a row of the distribution are at most ``uniform``, by halving. */
  _wanted(place, uniform) {
    const start = place * this.row;
    let at = start;
    for (let half = (this.row + 1) / 2; half >= 1; half = Math.floor(half / 2)) {
      if (uniform >= this.cdf[at + half - 1]) at += half;
    }
    return at - start;
  }

  observe(state) {
    const shares = [(this.stages - state.period) / this.stages, state.stock / this.stock];
    if (this.outlook === null) return Float32Array.from(shares);
    const columns = this.outlook.length / (this.stages + 1);
    return Float32Array.from([...shares, ...this.outlook.subarray(columns * state.period, columns * (state.period + 1))]);
  }

  /** The optimal price's place in the menu; undefined where it is not known. */
  optimal(state) {
    const states = this.stock / this.lot + 1;
    return this.best === null ? undefined : this.best[state.period * states + state.stock / this.lot];
  }

  keys() {
    return {};
  }

  idle(state) {
    return Math.max(state.price, 0);
  }

  score(state) {
    return `${this._money(state.revenue)} earned, ${state.stock} of ${this.stock} units left`;
  }

  draw(pen, state, over) {
    pen.fillStyle = "#0d141c";
    pen.fillRect(0, 0, this.width, this.height);
    written(pen, this._money(state.revenue), 30, 44, 42, "#f4f7fa");
    written(pen, `${Math.round((100 * state.revenue) / this.optimum)} % of V*`, 260, 46, 26, over ? "#8df5a8" : "#9aa7b4");
    written(pen, `${state.stock} / ${this.stock} left`, 930, 44, 28, "#f4f7fa", "right");
    written(pen, `${this.unit} ${Math.min(state.period + 1, this.stages)} of ${this.stages}`, 700, 44, 22, "#9aa7b4", "right");
    const highest = Math.max(...this.prices);
    const most = Math.max(this.optimum * 1.3, state.revenue * 1.05);
    this._chart(pen, 90, 190, "price", state, highest * 1.05, (row) => this.prices[row.price], true);
    this._chart(pen, 310, 80, "units left", state, this.stock * 1.05, (row) => row.stock, false);
    this._chart(pen, 420, 90, "earned", state, most, (row) => row.revenue, false);
  }

  _chart(pen, top, height, title, state, most, value, isPrice) {
    const [left, width] = [120, 810];
    const at = (period, number) => [left + (width * period) / this.stages, top + height - (height * number) / most];
    rounded(pen, left, top, width, height, 8, "#17222d");
    written(pen, title, left - 12, top + height / 2, 19, "#9aa7b4", "right");
    written(pen, Math.round(most).toLocaleString("en"), left + 8, top + 12, 14, "#8a97a4");
    if (isPrice && this.best !== null) {
      const best = state.past.filter((row) => row.optimal !== undefined);
      stroked(pen, best.map((row) => at(row.period - 0.5, this.prices[row.optimal])), 9, "#c9872b66");
      written(pen, "optimal", left + width - 8, top + 12, 15, "#e8b35e", "right");
    }
    stroked(pen, state.past.map((row) => at(row.period - 0.5, value(row))), 3, "#6ea8fe");
    if (isPrice) for (const row of state.past) if (row.sold) disc(pen, ...at(row.period - 0.5, value(row)), 4 + row.sold, "#8df5a8");
  }
}
