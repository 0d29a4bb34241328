// Entries, exits and the levels that stood between them, in the pane of prices.

const SPACE_PX = 5;
const LEVEL_PX = 26;
const TRAIL_BARS_MAX = 50000;

// The market's trades that were open at some time in view.
function inView(chart) {
  const { rows, exits } = chart.mine[chart.market.number];
  const found = [];
  for (let place = atOrAfter(exits, chart.from); place < rows.length; place++) {
    if (chart.trades.entry[rows[place]] >= chart.to) break;
    found.push(rows[place]);
  }
  return found;
}

function drawTrades(chart, y) {
  const { pen, colour, trades, panes } = chart;
  const wide = chart.width - LEFT - RIGHT;
  const seen = inView(chart);
  chart.seen = seen;
  chart.crowded = seen.length * SPACE_PX > wide;
  if (chart.crowded) return;
  pen.save();
  pen.beginPath();
  pen.rect(LEFT, panes.price.top - 4, wide, panes.price.bottom - panes.price.top + 8);
  pen.clip();
  const half = chart.market.step / 2;
  for (const row of seen) {
    if (seen.length * LEVEL_PX <= wide || row === chart.chosen) drawLevels(chart, row, y);
    const from = [chart.x(trades.entry[row] + half), y(trades.entry_price[row])];
    const to = [chart.x(trades.exit[row] + half), y(trades.exit_price[row])];
    const won = trades.pnl[row] > 0;
    pen.strokeStyle = won ? colour.win : colour.loss;
    pen.lineWidth = row === chart.chosen ? 3 : 1.8;
    pen.setLineDash(won ? [] : [4, 3]);
    pen.beginPath();
    pen.moveTo(...from);
    pen.lineTo(...to);
    pen.stroke();
    pen.setLineDash([]);
    const size = seen.length * 14 <= wide ? 6 : 4;
    drawEntry(chart, from, trades.side[row] > 0, size);
    drawExit(chart, to, trades.cause[row], size);
  }
  pen.restore();
}

function drawEntry({ pen, colour }, [x, y], long, size) {
  const down = long ? 1 : -1;
  pen.fillStyle = long ? colour.win : colour.loss;
  pen.strokeStyle = colour.bg;
  pen.lineWidth = 1.5;
  pen.beginPath();
  pen.moveTo(x, y);
  pen.lineTo(x - size, y + down * size * 1.7);
  pen.lineTo(x + size, y + down * size * 1.7);
  pen.closePath();
  pen.stroke();
  pen.fill();
}

// By rule a cross, by stop a square, by trailing stop a diamond, by target a circle.
function drawExit({ pen, colour }, [x, y], cause, size) {
  const shape = new Path2D();
  const arm = size * 0.8;
  if (cause === 0) {
    shape.moveTo(x - arm, y - arm);
    shape.lineTo(x + arm, y + arm);
    shape.moveTo(x + arm, y - arm);
    shape.lineTo(x - arm, y + arm);
  } else if (cause === 1) shape.rect(x - arm, y - arm, 2 * arm, 2 * arm);
  else if (cause === 2) {
    shape.moveTo(x, y - size);
    shape.lineTo(x + size, y);
    shape.lineTo(x, y + size);
    shape.lineTo(x - size, y);
    shape.closePath();
  } else shape.arc(x, y, arm, 0, 2 * Math.PI);
  pen.lineWidth = 4;
  pen.strokeStyle = colour.bg;
  pen.stroke(shape);
  if (cause > 0) { pen.fillStyle = colour.bg; pen.fill(shape); }
  pen.lineWidth = 1.8;
  pen.strokeStyle = colour.text;
  pen.stroke(shape);
}

// The target, and the stop as stretches of [from, to, level], in the times of the bars on which they stood: from the
// definition's fractions, and for a trailing stop from the bars, of which the engine learns when they close.
function levelsOf({ trades, market, facts }, row) {
  const { stop_loss: loss, take_profit: profit, trailing, basis } = facts.stops;
  const sign = trades.side[row] > 0 ? 1 : -1;
  const first = Math.max(0, atOrAfter(market.time, trades.entry[row] + 1) - 1);
  const last = Math.max(first, atOrAfter(market.time, trades.exit[row] + 1) - 1);
  const base = basis === "signal_close" ? market.close[Math.max(0, first - facts.delay)] : trades.entry_price[row];
  const fixed = loss ? base * (1 - sign * Number(loss)) : null;
  const target = profit ? base * (1 + sign * Number(profit)) : null;
  const end = market.time[last] + market.step;
  const trails = trailing && market.step === facts.timeframe_ms && last - first <= TRAIL_BARS_MAX;
  if (!trails) return { target, stops: fixed === null ? [] : [[market.time[first], end, fixed]] };
  const stops = [];
  let level = fixed;
  let best = null;
  for (let at = first; at <= last; at++) {
    if (level !== null) {
      const before = stops[stops.length - 1];
      if (before && before[2] === level) before[1] = market.time[at] + market.step;
      else stops.push([market.time[at], market.time[at] + market.step, level]);
    }
    const reached = sign > 0 ? market.high[at] : market.low[at];
    best = best === null || sign * reached > sign * best ? reached : best;
    const follows = best * (1 - sign * Number(trailing.distance));
    const active = sign * (best / base - 1) >= Number(trailing.activate_at || 0);
    if (active && (level === null || sign * follows > sign * level)) level = follows;
  }
  return { target, stops };
}

function drawLevels(chart, row, y) {
  const { pen, colour, trades, market } = chart;
  const { target, stops } = levelsOf(chart, row);
  pen.lineWidth = 1.2;
  pen.setLineDash([2, 3]);
  const stroke = (stretches, ink) => {
    pen.strokeStyle = ink;
    pen.beginPath();
    stretches.forEach(([from, to, level], number) => {
      pen[number ? "lineTo" : "moveTo"](chart.x(from), y(level));
      pen.lineTo(chart.x(to), y(level));
    });
    pen.stroke();
  };
  if (target !== null) stroke([[trades.entry[row], trades.exit[row] + market.step, target]], colour.win);
  stroke(stops, colour.loss);
  pen.setLineDash([]);
}

// The trade whose line is nearest to a point, none further away than a fingertip.
function tradeAt(chart, point) {
  const { trades, market } = chart;
  let best = -1;
  let nearest = 24;
  if (!chart.seen || chart.crowded) return best;
  for (const row of chart.seen) {
    const x0 = chart.x(trades.entry[row] + market.step / 2), y0 = chart.priceAt(trades.entry_price[row]);
    const x1 = chart.x(trades.exit[row] + market.step / 2), y1 = chart.priceAt(trades.exit_price[row]);
    const long = (x1 - x0) ** 2 + (y1 - y0) ** 2;
    const part = long ? Math.min(1, Math.max(0, ((point.x - x0) * (x1 - x0) + (point.y - y0) * (y1 - y0)) / long)) : 0;
    const away = Math.hypot(point.x - x0 - part * (x1 - x0), point.y - y0 - part * (y1 - y0));
    if (away < nearest) { nearest = away; best = row; }
  }
  return best;
}
