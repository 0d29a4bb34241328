"use strict";
// What pack.py packed, as typed arrays.

async function unpack(text, plan) {
  const binary = atob(text);
  const packed = new Uint8Array(binary.length);
  for (let at = 0; at < packed.length; at++) packed[at] = binary.charCodeAt(at);
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const arrays = {};
  let offset = 0;
  for (const { name, kind, count } of plan) {
    const width = kind === "real" ? 8 : 4;
    const planes = bytes.subarray(offset, offset + width * count);
    arrays[name] = kind === "real" ? reals(planes, count) : wholes(planes, count);
    offset += width * count;
  }
  return arrays;
}

function wholes(planes, count) {
  const values = new Int32Array(count);
  for (let at = 0; at < count; at++) {
    const folded = planes[at] | (planes[count + at] << 8) | (planes[2 * count + at] << 16) | (planes[3 * count + at] << 24);
    values[at] = (folded >>> 1) ^ -(folded & 1);
  }
  return values;
}

function reals(planes, count) {
  const bytes = new Uint8Array(8 * count);
  for (let plane = 0; plane < 8; plane++) {
    for (let at = 0; at < count; at++) bytes[8 * at + plane] = planes[plane * count + at];
  }
  const view = new DataView(bytes.buffer);
  return Float64Array.from({ length: count }, (_, at) => view.getFloat64(8 * at, true));
}

// Bars of one market: times (ms UTC of the open), open, high, low, close.
function marketOf(told, number, arrays) {
  const { first, step, decimals, bars } = told;
  const unit = 10 ** -decimals;
  const [time, open, high, low, close] = Array.from({ length: 5 }, () => new Float64Array(bars));
  let now = first - step;
  let before = 0;
  for (let row = 0; row < bars; row++) {
    now += (arrays[`time${number}`][row] + 1) * step;
    const opened = before + arrays[`open${number}`][row];
    const closed = opened + arrays[`close${number}`][row];
    time[row] = now;
    open[row] = opened * unit;
    close[row] = closed * unit;
    high[row] = (Math.max(opened, closed) + arrays[`high${number}`][row]) * unit;
    low[row] = (Math.min(opened, closed) - arrays[`low${number}`][row]) * unit;
    before = closed;
  }
  return { number, step, decimals: Math.max(decimals, 0), bars, time, open, high, low, close };
}

// Equity at the close of each instant, whose bar opened at the time beside it.
function equityOf(told, arrays) {
  const time = new Float64Array(told.points);
  const value = new Float64Array(told.points);
  let now = told.first;
  let sum = 0;
  for (let row = 0; row < told.points; row++) {
    now += arrays.equity_time[row] * told.step;
    sum += arrays.equity[row];
    time[row] = now;
    value[row] = sum * told.unit;
  }
  return { time, value };
}

// Trades in the order in which they ended; `number` counts all, also those that are not here.
function tradesOf(told, arrays) {
  const entry = new Float64Array(told.shown);
  const exit = new Float64Array(told.shown);
  let begun = 0;
  for (let row = 0; row < told.shown; row++) {
    begun += arrays.entry[row];
    entry[row] = told.first + begun * told.step;
    exit[row] = entry[row] + arrays.exit[row] * told.step;
  }
  const kept = {};
  const names = ["side", "symbol", "cause", "layers", "bars", "entry_price", "exit_price", "qty", "fees", "pnl", "gained"];
  for (const name of names) kept[name] = arrays[name];
  return { ...kept, entry, exit, count: told.shown, offset: told.count - told.shown };
}

// The first row whose value is not below `wanted`, in rows that rise.
function atOrAfter(values, wanted) {
  let low = 0;
  let high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] < wanted) low = middle + 1;
    else high = middle;
  }
  return low;
}
