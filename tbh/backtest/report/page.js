// What the page does when it is pointed at, typed at and clicked.

const element = (id) => document.getElementById(id);
const CAUSES = { exit: "exit rule", stop: "stop", trailing: "trailing stop", target: "target" };
const SVG = "http://www.w3.org/2000/svg";
const PAGE_ROWS = 20;

function tradeText(chart, row) {
  const { trades, facts } = chart;
  return `trade ${(trades.offset + row + 1).toLocaleString("en-US")}: ${trades.side[row] > 0 ? "long" : "short"} ${plain(trades.qty[row])},`
    + ` ${moment(trades.entry[row])} at ${plain(trades.entry_price[row])} → ${moment(trades.exit[row])} at ${plain(trades.exit_price[row])}`
    + ` by ${CAUSES[facts.causes[trades.cause[row]]]}, PnL ${money(trades.pnl[row])} (${share(trades.gained[row])})`;
}

function readOut(chart) {
  const { market, pointer, equity } = chart;
  const onStep = (ms) => Math.round(ms / market.step) * market.step;
  const near = pointer ? tradeAt(chart, pointer) : -1;
  const candle = pointer && pointer.x >= LEFT ? chart.under() : null;
  const parts = [];
  if (candle) {
    const shown = ["open", "high", "low", "close"].map((name) => `${name} ${fixed(candle[name], market.decimals)}`).join("  ");
    parts.push(`${moment(candle.time)}  ${shown}`);
    const row = atOrAfter(equity.time, candle.time + chart.length) - 1;
    if (row >= 0) parts.push(`equity ${money(equity.value[row])}`);
    if (candle.ended > 1) parts.push(`${candle.ended} trades ended, ${money(candle.pnl)}`);
  } else parts.push(`${moment(onStep(chart.from))} to ${moment(onStep(chart.to))} UTC`);
  if (chart.crowded) parts.push(`${chart.seen.length.toLocaleString("en-US")} trades here, each shown when zoomed in`);
  const row = near >= 0 ? near : chart.chosen;
  if (row >= 0) parts.push(tradeText(chart, row));
  element("readout").textContent = parts.join(" · ");
}

function showTrade(chart, row) {
  const { trades } = chart;
  chart.chosen = row;
  choose(chart, trades.symbol[row]);
  const long = trades.exit[row] - trades.entry[row];
  const room = Math.max(long * 0.6, 25 * chart.market.step);
  chart.look(trades.entry[row] - room, trades.exit[row] + room);
}

function choose(chart, number) {
  if (chart.market.number === number) return;
  chart.market = chart.markets[number];
  element("market").value = String(number);
}

function stepTrade(chart, by) {
  const { rows, exits } = chart.mine[chart.market.number];
  if (!rows.length) return;
  const here = rows.indexOf(chart.chosen);
  const middle = (chart.from + chart.to) / 2;
  const place = here < 0 ? atOrAfter(exits, middle) - (by < 0 ? 1 : 0) : here + by;
  showTrade(chart, rows[Math.min(Math.max(place, 0), rows.length - 1)]);
}

function bindKeys(chart) {
  const keys = {
    ArrowLeft: () => chart.move(-0.2),
    ArrowRight: () => chart.move(0.2),
    "+": () => chart.zoom(0.6),
    "=": () => chart.zoom(0.6),
    "-": () => chart.zoom(1 / 0.6),
    0: () => chart.whole(),
    Home: () => chart.look(chart.first, chart.first + chart.to - chart.from),
    End: () => chart.look(chart.last - chart.to + chart.from, chart.last),
    n: () => stepTrade(chart, 1),
    p: () => stepTrade(chart, -1),
  };
  chart.canvas.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || !(event.key in keys)) return;
    event.preventDefault();
    keys[event.key]();
  });
}

function bindPointer(chart) {
  const { canvas } = chart;
  const down = new Map();
  const place = (event) => ({ x: event.offsetX, y: event.offsetY });
  canvas.addEventListener("pointerdown", (event) => {
    canvas.setPointerCapture(event.pointerId);
    down.set(event.pointerId, place(event));
    chart.moved = 0;
  });
  canvas.addEventListener("pointermove", (event) => {
    const now = place(event);
    const before = down.get(event.pointerId);
    chart.pointer = now;
    if (before && down.size === 1) {
      chart.moved += Math.abs(now.x - before.x);
      chart.move((before.x - now.x) / (chart.width - LEFT - RIGHT));
    } else if (before && down.size === 2) {
      const other = [...down].find(([id]) => id !== event.pointerId)[1];
      const factor = Math.abs(before.x - other.x) / Math.max(Math.abs(now.x - other.x), 1);
      chart.zoom(Math.min(Math.max(factor, 0.5), 2), chart.at((now.x + other.x) / 2));
    }
    if (before) down.set(event.pointerId, now);
    chart.ask();
  });
  const lift = (event) => down.delete(event.pointerId);
  canvas.addEventListener("pointerup", (event) => {
    lift(event);
    if (chart.moved < 4) chart.chosen = tradeAt(chart, place(event));
    chart.ask();
  });
  canvas.addEventListener("pointercancel", lift);
  canvas.addEventListener("pointerleave", () => { chart.pointer = null; chart.ask(); });
  // A wheel over a page scrolls it, until the chart is clicked.
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    chart.zoom(Math.exp(Math.min(Math.max(event.deltaY, -200), 200) / 400), chart.at(event.offsetX));
  }, { passive: false });
}

function bindButtons(chart) {
  const on = (name, act) => document.querySelectorAll(`button[data-${name}]`).forEach((button) => {
    button.addEventListener("click", () => act(Number(button.dataset[name]), button));
  });
  on("days", (days) => {
    const end = Math.min(chart.to, chart.last);
    if (days) chart.look(end - days * DAY, end);
    else { chart.chosen = -1; chart.whole(); }
  });
  on("zoom", (factor) => chart.zoom(factor));
  on("move", (part) => chart.move(part));
  on("trade", (by) => stepTrade(chart, by));
  on("from", (from, button) => { chart.look(from, Number(button.dataset.to)); toChart(); });
  const market = element("market");
  chart.facts.symbols.forEach((symbol, number) => market.add(new Option(symbol, String(number))));
  market.hidden = chart.markets.length < 2;
  market.addEventListener("change", () => { chart.chosen = -1; choose(chart, Number(market.value)); chart.look(chart.from, chart.to); });
}

function toChart() {
  element("price").scrollIntoView();
  element("chart").focus({ preventScroll: true });
}

// The charts of the whole run show what part of it the candles show, and lead there.
function bindOverview(chart) {
  const { equity } = chart;
  const first = equity.time[0], last = equity.time[equity.time.length - 1];
  const views = ["equity", "drawdown"].map((id) => {
    const area = document.querySelector(`#${id} .area`);
    const view = area.appendChild(document.createElementNS(SVG, "rect"));
    const cross = area.appendChild(document.createElementNS(SVG, "line"));
    view.setAttribute("class", "view");
    view.setAttribute("y", "2");
    const bottom = area.clientHeight - (id === "equity" ? 8 : 22);
    view.setAttribute("height", String(bottom - 2));
    cross.setAttribute("class", "cross");
    cross.setAttribute("y2", String(bottom));
    cross.setAttribute("visibility", "hidden");
    return { area, view, cross };
  });
  const peaks = new Float64Array(equity.value.length);
  let peak = chart.facts.cash;
  equity.value.forEach((value, row) => { peak = Math.max(peak, value); peaks[row] = peak; });
  const partOf = (event) => {
    const { left, width } = views[0].area.getBoundingClientRect();
    return Math.min(Math.max((event.clientX - left) / width, 0), 1);
  };
  const moved = (event) => {
    const part = partOf(event);
    const row = Math.min(atOrAfter(equity.time, first + part * (last - first)), equity.time.length - 1);
    const fallen = 1 - equity.value[row] / peaks[row];
    element("overview").textContent = `${moment(equity.time[row])} · equity ${money(equity.value[row])} · drawdown ${fixed(fallen * 100, 2)} %`;
    for (const { cross } of views) {
      cross.setAttribute("visibility", "visible");
      for (const end of ["x1", "x2"]) cross.setAttribute(end, `${part * 100}%`);
    }
  };
  for (const { area } of views) {
    area.addEventListener("pointermove", moved);
    area.addEventListener("pointerleave", () => {
      element("overview").textContent = "";
      for (const { cross } of views) cross.setAttribute("visibility", "hidden");
    });
    area.addEventListener("click", (event) => {
      const middle = first + partOf(event) * (last - first);
      const whole = chart.to - chart.from >= chart.last - chart.first;
      const half = (whole ? (last - first) / 20 : chart.to - chart.from) / 2;
      chart.look(middle - half, middle + half);
      toChart();
    });
  }
  return () => {
    const begin = Math.max(0, (chart.from - first) / (last - first)), end = Math.min(1, (chart.to - first) / (last - first));
    for (const { view } of views) {
      view.setAttribute("visibility", begin <= 0 && end >= 1 ? "hidden" : "visible");
      view.setAttribute("x", `${begin * 100}%`);
      view.setAttribute("width", `${Math.max(end - begin, 0.002) * 100}%`);
    }
  };
}

function cell(tag, text, kind) {
  const made = document.createElement(tag);
  made.textContent = text;
  if (kind) made.className = kind;
  return made;
}

function bindTable(chart) {
  const { trades, facts } = chart;
  if (!element("trades")) return;
  const columns = [
    ["no.", "number", (row) => row, null],
    ["market", "", (row) => trades.symbol[row], (row) => facts.symbols[trades.symbol[row]]],
    ["side", "", (row) => trades.side[row], (row) => (trades.side[row] > 0 ? "long" : "short")],
    ["entered (UTC)", "", (row) => trades.entry[row], (row) => moment(trades.entry[row])],
    ["left", "", (row) => trades.exit[row], (row) => moment(trades.exit[row])],
    ["entry", "number", (row) => trades.entry_price[row], (row) => plain(trades.entry_price[row])],
    ["exit", "number", (row) => trades.exit_price[row], (row) => plain(trades.exit_price[row])],
    ["quantity", "number", (row) => trades.qty[row], (row) => plain(trades.qty[row])],
    ["bars", "number", (row) => trades.bars[row], (row) => trades.bars[row].toLocaleString("en-US")],
    ["fees", "number", (row) => trades.fees[row], (row) => money(trades.fees[row])],
    ["PnL", "number", (row) => trades.pnl[row], (row) => money(trades.pnl[row])],
    ["return", "number", (row) => trades.gained[row], (row) => share(trades.gained[row])],
    ["left by", "", (row) => trades.cause[row], (row) => CAUSES[facts.causes[trades.cause[row]]]],
  ].filter(([name]) => name !== "market" || facts.symbols.length > 1);
  let rows = [], page = 0, sorted = 0, falling = false;
  const head = element("trades").tHead.insertRow();
  const filter = element("filter");
  facts.causes.forEach((cause, code) => filter.add(new Option(`left by ${CAUSES[cause]}`, String(code))));

  function gather() {
    const wanted = filter.value;
    rows = Array.from({ length: trades.count }, (_, row) => row).filter((row) => {
      if (wanted === "win") return trades.pnl[row] > 0;
      if (wanted === "loss") return trades.pnl[row] < 0;
      return wanted === "" || trades.cause[row] === Number(wanted);
    });
    const value = columns[sorted][2];
    rows.sort((one, other) => (falling ? value(other) - value(one) : value(one) - value(other)) || one - other);
    page = 0;
    fill();
  }

  function fill() {
    const pages = Math.max(1, Math.ceil(rows.length / PAGE_ROWS));
    element("where").textContent = `${page + 1} of ${pages.toLocaleString("en-US")} (${rows.length.toLocaleString("en-US")} trades)`;
    element("before").disabled = page === 0;
    element("after").disabled = page >= pages - 1;
    const body = element("trades").tBodies[0];
    body.replaceChildren(...rows.slice(page * PAGE_ROWS, (page + 1) * PAGE_ROWS).map((row) => {
      const line = document.createElement("tr");
      const go = cell("button", (trades.offset + row + 1).toLocaleString("en-US"), "go");
      go.setAttribute("aria-label", `show trade ${trades.offset + row + 1} in the chart`);
      go.addEventListener("click", () => { showTrade(chart, row); toChart(); });
      const first = cell("td", "", "number");
      first.append(go);
      line.append(first, ...columns.slice(1).map(([, kind, , text]) => cell("td", text(row), kind)));
      return line;
    }));
    [...head.cells].forEach((one, number) => {
      if (number === sorted) one.setAttribute("aria-sort", falling ? "descending" : "ascending");
      else one.removeAttribute("aria-sort");
      one.firstChild.textContent = columns[number][0] + (number === sorted ? (falling ? " ↓" : " ↑") : "");
    });
  }

  columns.forEach(([name, kind], number) => {
    const one = cell("th", "", kind);
    one.scope = "col";
    one.append(cell("button", name, ""));
    one.firstChild.addEventListener("click", () => {
      falling = number === sorted ? !falling : number > 0 && kind === "number";
      sorted = number;
      gather();
    });
    head.append(one);
  });
  filter.addEventListener("change", gather);
  element("before").addEventListener("click", () => { page--; fill(); });
  element("after").addEventListener("click", () => { page++; fill(); });
  gather();
}

function bindTheme(redraw) {
  const root = document.documentElement;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const now = () => root.dataset.theme || (dark.matches ? "dark" : "light");
  element("theme").addEventListener("click", () => { root.dataset.theme = now() === "dark" ? "light" : "dark"; redraw(); });
  dark.addEventListener("change", redraw);
  let kept;
  window.addEventListener("beforeprint", () => { kept = root.dataset.theme; root.dataset.theme = "light"; redraw(); });
  window.addEventListener("afterprint", () => {
    if (kept) root.dataset.theme = kept;
    else delete root.dataset.theme;
    redraw();
  });
}

async function start() {
  const facts = JSON.parse(element("facts").textContent);
  const arrays = await unpack(element("packed").textContent, facts.plan);
  const chart = new Chart(element("chart"), {
    markets: facts.markets.map((told, number) => marketOf(told, number, arrays)),
    equity: equityOf(facts.equity, arrays),
    trades: tradesOf(facts.trades, arrays),
    facts,
  });
  const overview = bindOverview(chart);
  chart.onView = () => { readOut(chart); overview(); };
  bindKeys(chart);
  bindPointer(chart);
  bindButtons(chart);
  bindTable(chart);
  bindTheme(() => chart.draw());
  new ResizeObserver(() => chart.ask()).observe(chart.canvas);
  document.documentElement.dataset.ready = "yes";
}

start().catch((error) => {
  element("readout").textContent = `The chart can't be drawn: ${error.message}. A browser of 2023 or later draws it.`;
  throw error;
});
