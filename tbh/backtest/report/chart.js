// Candles, the PnL of trades and the equity over one stretch of time, on a canvas.

const SECOND = 1000, MINUTE = 60 * SECOND, HOUR = 60 * MINUTE, DAY = 24 * HOUR;
const LENGTHS = [1, 5, 15, 30].map((n) => n * SECOND)
  .concat([1, 3, 5, 15, 30].map((n) => n * MINUTE), [1, 2, 4, 8, 12].map((n) => n * HOUR), [1, 3, 7, 14, 28, 91, 364].map((n) => n * DAY));
const GRID = [1, 5, 15, 30].map((n) => n * SECOND)
  .concat([1, 5, 15, 30].map((n) => n * MINUTE), [1, 3, 6, 12].map((n) => n * HOUR), [1, 2, 7, 14, 30, 91, 182, 365, 730].map((n) => n * DAY));
const LEFT = 70, RIGHT = 6, FOOT = 22;
const FEWEST_BARS = 20;
const NARROWEST_PX = 5;

const two = (n) => String(n).padStart(2, "0");
const MONTHS = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
const minus = (text) => text.replace("-", "−");
const fixed = (value, digits) =>
  minus(value.toLocaleString("en-US", { minimumFractionDigits: digits, maximumFractionDigits: digits }));
const money = (value) => fixed(value, value && Math.abs(value) < 0.1 ? Math.min(10, 2 - Math.floor(Math.log10(Math.abs(value)))) : 2);
const plain = (value) => minus(value.toLocaleString("en-US", { maximumSignificantDigits: 10 }));
const share = (value) => `${value > 0 ? "+" : ""}${fixed(value * 100, 2)} %`;

function moment(ms) {
  const at = new Date(ms);
  const seconds = at.getUTCSeconds() ? `:${two(at.getUTCSeconds())}` : "";
  return `${at.getUTCFullYear()}-${two(at.getUTCMonth() + 1)}-${two(at.getUTCDate())} ${two(at.getUTCHours())}:${two(at.getUTCMinutes())}${seconds}`;
}

function lengthOf(ms) {
  for (const [size, name] of [[DAY, "d"], [HOUR, "h"], [MINUTE, "min"]]) {
    if (ms >= size && ms % size === 0) return `${ms / size} ${name}`;
  }
  return `${ms / SECOND} s`;
}

// Round numbers within low and high, about `count` of them.
function rounds(low, high, count) {
  const rough = (high - low) / count;
  if (!(rough > 0)) return [low];
  const size = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((part) => part * size).find((each) => each >= rough * 0.999);
  const found = [];
  for (let n = Math.ceil(low / step); n * step <= high; n++) found.push(n * step);
  return found;
}

class Chart {
  constructor(canvas, { markets, equity, trades, facts }) {
    Object.assign(this, { canvas, markets, equity, trades, facts });
    this.market = markets[0];
    this.pointer = null;
    this.chosen = -1;
    this.onView = () => {};
    this.mine = markets.map((market) => {
      const rows = [];
      for (let row = 0; row < trades.count; row++) if (trades.symbol[row] === market.number) rows.push(row);
      return { rows, exits: Float64Array.from(rows, (row) => trades.exit[row]) };
    });
    this.whole();
  }

  get first() { return this.market.time[0]; }
  get last() { return this.market.time[this.market.bars - 1] + this.market.step; }

  whole() { this.look(this.first, this.last); }

  // Show from one moment to another, within what there is.
  look(from, to) {
    const room = Math.max((this.last - this.first) * 0.01, this.market.step);
    const most = this.last - this.first + 2 * room;
    const span = Math.min(Math.max(to - from, FEWEST_BARS * this.market.step), most);
    const middle = (from + to) / 2;
    this.from = Math.min(Math.max(middle - span / 2, this.first - room), this.last + room - span);
    this.to = this.from + span;
    this.ask();
  }

  move(part) { const by = (this.to - this.from) * part; this.look(this.from + by, this.to + by); }

  zoom(factor, at = (this.from + this.to) / 2) {
    this.look(at - (at - this.from) * factor, at + (this.to - at) * factor);
  }

  // Draw with the next frame, however often it is asked for.
  ask() {
    if (this.asked) return;
    this.asked = true;
    requestAnimationFrame(() => { this.asked = false; this.draw(); });
  }

  x(ms) { return LEFT + (ms - this.from) / (this.to - this.from) * (this.width - LEFT - RIGHT); }
  at(x) { return this.from + (x - LEFT) / (this.width - LEFT - RIGHT) * (this.to - this.from); }

  draw() {
    const scale = window.devicePixelRatio || 1;
    this.width = this.canvas.clientWidth;
    this.height = this.canvas.clientHeight;
    this.canvas.width = Math.round(this.width * scale);
    this.canvas.height = Math.round(this.height * scale);
    const style = getComputedStyle(document.documentElement);
    this.colour = {};
    for (const name of ["bg", "text", "muted", "grid", "edge", "win", "loss", "accent", "hold"]) {
      this.colour[name] = style.getPropertyValue(`--${name}`).trim();
    }
    const pen = this.pen = this.canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, this.width, this.height);
    pen.font = "12px system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif";
    const inner = this.height - FOOT;
    this.panes = {
      price: { top: 18, bottom: inner * 0.66 },
      pnl: { top: inner * 0.66 + 26, bottom: inner * 0.81 },
      equity: { top: inner * 0.81 + 26, bottom: inner - 4 },
    };
    this.candles = this.grouped();
    this.times();
    this.price();
    this.gains();
    this.worth();
    this.cross();
    this.onView();
  }

  // The bars in view as candles of a length that leaves each some width.
  grouped() {
    const { market } = this;
    const wanted = (this.to - this.from) / (this.width - LEFT - RIGHT) * NARROWEST_PX;
    const fits = (length) => length >= wanted && length >= market.step && length % market.step === 0;
    const length = market.step >= wanted ? market.step : LENGTHS.find(fits) || Math.ceil(wanted / market.step) * market.step;
    const shift = length % (7 * DAY) === 0 ? 4 * DAY : length === market.step ? market.time[0] % length : 0; // weeks begin on Monday
    const of = (ms) => Math.floor((ms - shift) / length) * length + shift;
    const candles = [];
    let candle = null;
    const end = Math.min(atOrAfter(market.time, this.to), market.bars);
    for (let row = atOrAfter(market.time, of(this.from)); row < end; row++) {
      const begin = of(market.time[row]);
      if (candle === null || candle.time !== begin) {
        candle = { time: begin, open: market.open[row], high: market.high[row], low: market.low[row], close: 0, pnl: 0, ended: 0 };
        candles.push(candle);
      }
      if (market.high[row] > candle.high) candle.high = market.high[row];
      if (market.low[row] < candle.low) candle.low = market.low[row];
      candle.close = market.close[row];
    }
    this.length = length;
    this.sum(candles);
    return candles;
  }

  // The PnL of the trades that ended in each candle.
  sum(candles) {
    const { rows, exits } = this.mine[this.market.number];
    let number = 0;
    for (let place = atOrAfter(exits, candles.length ? candles[0].time : this.to); place < rows.length; place++) {
      if (exits[place] >= this.to) break;
      while (number < candles.length && candles[number].time + this.length <= exits[place]) number++;
      if (number === candles.length) break;
      if (exits[place] < candles[number].time) continue;
      candles[number].pnl += this.trades.pnl[rows[place]];
      candles[number].ended++;
    }
  }

  times() {
    const { pen, colour } = this;
    const step = GRID.find((each) => (this.to - this.from) / each <= this.width / 130) || GRID[GRID.length - 1];
    pen.textAlign = "center";
    for (const [ms, text] of moments(this.from, this.to, step)) {
      const x = Math.round(this.x(ms)) + 0.5;
      if (x < LEFT || x > this.width - RIGHT) continue;
      pen.strokeStyle = colour.grid;
      line(pen, x, 4, x, this.height - FOOT);
      pen.fillStyle = colour.muted;
      const half = pen.measureText(text).width / 2;
      pen.fillText(text, Math.min(Math.max(x, LEFT + half - 20), this.width - half - 1), this.height - 6);
    }
  }

  // A pane's scale from low to high, its grid and its title; returns the height at which a value stands.
  pane({ top, bottom }, low, high, title, digits) {
    const { pen, colour } = this;
    const y = (value) => top + (high - value) / (high - low) * (bottom - top);
    for (const value of rounds(low, high, Math.max(3, (bottom - top) / 48))) {
      const at = Math.round(y(value)) + 0.5;
      pen.strokeStyle = colour.grid;
      line(pen, LEFT, at, this.width - RIGHT, at);
      pen.fillStyle = colour.muted;
      pen.textAlign = "right";
      pen.fillText(digits(value), LEFT - 8, at + 4);
    }
    pen.textAlign = "left";
    pen.fillStyle = colour.muted;
    pen.fillText(title, LEFT, top - 7);
    return y;
  }

  // Keep the axis free of what follows, until the pen is restored.
  clip() {
    const { pen } = this;
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, 0, this.width - LEFT - RIGHT, this.height);
    pen.clip();
  }

  price() {
    const { pen, colour, candles, market } = this;
    let low = Infinity, high = -Infinity;
    for (const candle of candles) { low = Math.min(low, candle.low); high = Math.max(high, candle.high); }
    if (!(high > low)) { const one = Number.isFinite(low) ? low : 1; low = one * 0.99; high = one * 1.01; }
    const room = (high - low) * 0.06;
    const title = `${this.facts.symbols[market.number]}, candles of ${lengthOf(this.length)}`;
    const y = this.pane(this.panes.price, low - room, high + room, title, compact);
    const { x, wide } = this.slots();
    this.clip();
    for (const candle of candles) {
      const middle = x(candle);
      const rising = candle.close >= candle.open;
      pen.strokeStyle = pen.fillStyle = rising ? colour.win : colour.loss;
      line(pen, middle, y(candle.high), middle, y(candle.low));
      const upper = y(Math.max(candle.open, candle.close));
      const tall = Math.max(y(Math.min(candle.open, candle.close)) - upper, 1);
      if (rising && wide >= 4 && tall > 2) { // hollow, so that colour is not all that tells
        pen.fillStyle = colour.bg;
        pen.fillRect(middle - wide / 2, upper, wide, tall);
        pen.strokeRect(middle - wide / 2 + 0.5, upper + 0.5, wide - 1, tall - 1);
      } else pen.fillRect(middle - wide / 2, upper, wide, tall);
    }
    pen.restore();
    this.priceAt = y;
    drawTrades(this, y);
  }

  // Where the middle of a candle is, and how wide its body.
  slots() {
    const px = this.length / (this.to - this.from) * (this.width - LEFT - RIGHT);
    return { x: (candle) => this.x(candle.time + this.length / 2), wide: Math.max(1, Math.min(px * 0.7, 18)) };
  }

  gains() {
    const { pen, colour, candles } = this;
    let low = 0, high = 0;
    for (const { pnl } of candles) { low = Math.min(low, pnl); high = Math.max(high, pnl); }
    if (low === high) high = 1;
    const y = this.pane(this.panes.pnl, low, high, "PnL of the trades that ended", compact);
    const { x, wide } = this.slots();
    this.clip();
    for (const candle of candles) {
      if (!candle.pnl) continue;
      pen.fillStyle = candle.pnl > 0 ? colour.win : colour.loss;
      const upper = y(Math.max(candle.pnl, 0));
      pen.fillRect(x(candle) - wide / 2, upper, wide, Math.max(y(Math.min(candle.pnl, 0)) - upper, 1));
    }
    pen.restore();
    pen.strokeStyle = colour.edge;
    line(pen, LEFT, Math.round(y(0)) + 0.5, this.width - RIGHT, Math.round(y(0)) + 0.5);
  }

  worth() {
    const { pen, colour, equity } = this;
    const begin = Math.max(0, atOrAfter(equity.time, this.from) - 1);
    const end = Math.min(equity.time.length, atOrAfter(equity.time, this.to) + 1);
    let low = Infinity, high = -Infinity;
    for (let row = begin; row < end; row++) { low = Math.min(low, equity.value[row]); high = Math.max(high, equity.value[row]); }
    if (!(high > low)) { const one = Number.isFinite(low) ? low : 1; low = one - Math.abs(one) * 0.001 - 1e-9; high = one + Math.abs(one) * 0.001 + 1e-9; }
    const y = this.pane(this.panes.equity, low, high, "Equity", compact);
    this.clip();
    pen.strokeStyle = colour.accent;
    pen.lineWidth = 1.5;
    pen.beginPath();
    // Of the points on one pixel the first, lowest, highest and last make the same picture as all.
    let column = null, least = 0, most = 0, value = 0;
    for (let row = begin; row < end; row++) {
      const x = Math.round(this.x(equity.time[row] + this.facts.timeframe_ms));
      value = equity.value[row];
      if (x !== column) {
        if (column !== null && most > least) { pen.lineTo(column, y(least)); pen.lineTo(column, y(most)); }
        pen.lineTo(x, y(value));
        column = x;
        least = most = value;
      } else { least = Math.min(least, value); most = Math.max(most, value); }
    }
    if (column !== null) pen.lineTo(column, y(value));
    pen.stroke();
    pen.restore();
  }

  cross() {
    if (this.pointer === null || this.pointer.x < LEFT) return;
    const { pen, colour } = this;
    pen.strokeStyle = colour.muted;
    pen.setLineDash([3, 3]);
    const candle = this.under();
    const x = candle ? this.slots().x(candle) : this.pointer.x;
    line(pen, Math.round(x) + 0.5, 4, Math.round(x) + 0.5, this.height - FOOT);
    pen.setLineDash([]);
  }

  // The candle under the pointer.
  under() {
    const ms = this.at(this.pointer.x);
    return this.candles.find((candle) => candle.time <= ms && ms < candle.time + this.length) || null;
  }
}

// Moments between two on the calendar, with what to write there.
function moments(from, to, step) {
  const found = [];
  if (step >= 30 * DAY) {
    const months = Math.round(step / (30.4 * DAY));
    const at = new Date(from);
    for (let n = Math.floor((at.getUTCFullYear() * 12 + at.getUTCMonth()) / months) * months; ; n += months) {
      const ms = Date.UTC(Math.floor(n / 12), n % 12, 1);
      if (ms > to) return found;
      found.push([ms, n % 12 === 0 ? String(n / 12) : `${MONTHS[n % 12]} ${Math.floor(n / 12)}`]);
    }
  }
  for (let ms = Math.ceil(from / step) * step; ms <= to; ms += step) {
    const at = new Date(ms);
    const day = `${at.getUTCDate()} ${MONTHS[at.getUTCMonth()]}`;
    const clock = `${two(at.getUTCHours())}:${two(at.getUTCMinutes())}${step < MINUTE ? `:${two(at.getUTCSeconds())}` : ""}`;
    found.push([ms, ms % DAY === 0 ? day : clock]);
  }
  return found;
}

function compact(value) {
  const size = Math.abs(value);
  if (size >= 1e9) return `${plain(value / 1e9)}G`;
  return size >= 1e7 ? `${plain(value / 1e6)}M` : plain(Number(value.toPrecision(10)));
}

function line(pen, x0, y0, x1, y1) {
  pen.lineWidth = 1;
  pen.beginPath();
  pen.moveTo(x0, y0);
  pen.lineTo(x1, y1);
  pen.stroke();
}
