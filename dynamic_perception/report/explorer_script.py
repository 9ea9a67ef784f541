"""What the trade-off explorer does in the reader's browser.

`choose` is the rule of `management.selection.Selector` on an undisturbed machine, line by line; everything that it
depends on, the assured latencies and the order of giving limits up, comes from Python.  A test drives the page and
holds every choice against the Selector's.
"""

SCRIPT = r"""
"use strict";
const COLUMNS = data.columns, ROWS = COLUMNS.latency.map((_, row) => row);
for (const name of ["energy", "power"]) COLUMNS[name] = COLUMNS[name].map(value => value === null ? Infinity : value);

// The first in the list of rows that is least in the first column, ties by the next ones.
function least(rows, columns) {
  for (const column of columns) {
    const smallest = rows.reduce((value, row) => Math.min(value, column[row]), Infinity);
    rows = rows.filter(row => column[row] === smallest);
  }
  return rows[0];
}

// A limit of null is none.
function limitsOf(target) {
  const limits = {};
  for (const [name, asked, got] of [["energy", target.energy, COLUMNS.energy], ["power", target.power, COLUMNS.power],
                                    ["deadline", target.deadline, COLUMNS.assured]])
    if (asked !== null) limits[name] = {asked, got, excess: got.map(value => value - asked)};
  if (target.accuracy !== null)
    limits.accuracy = {asked: target.accuracy, got: COLUMNS.accuracy,
                       excess: COLUMNS.accuracy.map(value => target.accuracy - value)};
  return limits;
}

function choose(target) {
  const limits = limitsOf(target), meets = (row, name) => limits[name].excess[row] <= 0;
  let required = ROWS;
  for (const name of Object.keys(limits).filter(name => !data.relax.includes(name))) {
    const met = required.filter(row => meets(row, name));
    required = met.length ? met : [least(required, [COLUMNS.power, COLUMNS.energy, COLUMNS.latency])];
  }
  const order = data.relax.filter(name => name in limits);
  let kept = [], count = -1;
  while (!kept.length) {
    count += 1;
    kept = required.filter(row => order.slice(count).every(name => meets(row, name)));
  }
  const misses = order.slice(0, count).reverse().map(name => limits[name].excess.map(value => Math.max(value, 0)));
  const best = {max_accuracy: COLUMNS.accuracy.map(value => -value), min_energy: COLUMNS.energy,
                min_latency: COLUMNS.latency}[target.objective];
  const row = least(kept, [...misses, best, COLUMNS.energy, COLUMNS.latency]);
  const names = Object.keys(limits);
  return {row, kept, limits, missed: names.filter(name => !meets(row, name)),
          met: ROWS.map(row => names.every(name => meets(row, name)))};
}

// Controls ---------------------------------------------------------------------------------------------------------

const WORDS = {
  deadline: {shown: value => `latency ${show(1000 * value)} ms`, scale: 1000},
  energy: {shown: value => `energy ${show(1000 * value)} mJ`, scale: 1000},
  power: {shown: value => `power ${show(value)} W`, scale: 1},
  accuracy: {shown: value => `accuracy ${show(value)}`, scale: 1},
};
const OBJECTIVES = {max_accuracy: "the most accurate", min_energy: "the one of least energy",
                    min_latency: "the fastest"};
const LIMITS = Object.keys(WORDS);
const element = id => document.getElementById(id);

function show(value) { return Number.isFinite(value) ? String(Number(value.toPrecision(4))) : "not known"; }

function ends(name) {
  const known = COLUMNS[name === "deadline" ? "assured" : name].filter(Number.isFinite);
  if (!known.length) return null;
  const low = Math.min(...known), high = Math.max(...known);
  if (name !== "accuracy") return [0.8 * low, 1.25 * high];
  const room = 0.1 * (high - low + 0.01);
  return [Math.max(0, low - room), Math.min(1, high + room)];
}

// A place 0..1 of a slider is a value on a logarithmic scale, of accuracies on a linear one.
function valueAt(name, place) {
  const [low, high] = ends(name);
  return name === "accuracy" ? low + place * (high - low) : low * Math.pow(high / low, place);
}
function placeOf(name, value) {
  const [low, high] = ends(name);
  const place = name === "accuracy" ? (value - low) / (high - low) : Math.log(value / low) / Math.log(high / low);
  return Math.min(1, Math.max(0, place));
}

function readLimit(name) {
  const number = element(`${name}-number`), value = Number(number.value) / WORDS[name].scale;
  if (!element(`${name}-on`).checked || number.value.trim() === "") { number.setCustomValidity(""); return null; }
  const possible = Number.isFinite(value) && (name === "accuracy" ? value >= 0 && value <= 1 : value > 0);
  number.setCustomValidity(possible ? "" : name === "accuracy" ? "expected 0 to 1" : "expected more than 0");
  number.reportValidity();
  return possible ? value : null;
}

function target() {
  const limits = Object.fromEntries(LIMITS.map(name => [name, readLimit(name)]));
  return {...limits, objective: document.querySelector("input[name=objective]:checked").value};
}

function addControls() {
  for (const name of LIMITS) {
    const slider = element(`${name}-slider`), number = element(`${name}-number`), on = element(`${name}-on`);
    if (ends(name) === null) {
      for (const control of [slider, number, on]) control.disabled = true;
      number.placeholder = "not known";
      continue;
    }
    slider.value = name === "accuracy" ? 0.3 : 0.7;
    number.value = show(WORDS[name].scale * valueAt(name, Number(slider.value)));
    on.addEventListener("input", update);
    slider.addEventListener("input", () => {
      number.value = show(WORDS[name].scale * valueAt(name, Number(slider.value)));
      on.checked = true;
      update();
    });
    number.addEventListener("input", () => {
      const value = Number(number.value) / WORDS[name].scale;
      if (value > 0) slider.value = placeOf(name, value);
      on.checked = true;
      update();
    });
  }
  for (const objective of document.querySelectorAll("input[name=objective]"))
    objective.addEventListener("input", update);
  for (const name of ["deadline", "energy"]) if (!element(`${name}-on`).disabled) element(`${name}-on`).checked = true;
}

// What is shown ----------------------------------------------------------------------------------------------------

function describe(row) {
  return `${COLUMNS.name[row]}: ${show(1000 * COLUMNS.latency[row])} ms, ${show(1000 * COLUMNS.energy[row])} mJ, ` +
    `${show(COLUMNS.power[row])} W, accuracy ${show(COLUMNS.accuracy[row])}`;
}

function misses(choice, row) {
  return Object.entries(choice.limits).filter(([name, limit]) => limit.excess[row] > 0).map(([name, limit]) =>
    `${WORDS[name].shown(limit.got[row])} instead of ${show(WORDS[name].scale * limit.asked)}`).join(", ");
}

function explain(choice, wanted) {
  const asked = Object.keys(choice.limits), count = choice.met.filter(Boolean).length;
  const objective = OBJECTIVES[wanted.objective];
  const parts = [];
  if (choice.missed.length) {
    parts.push(`No point meets every limit. The manager gives up ${choice.missed.join(" and ")}, in its order, and ` +
               `misses it as little as it can: ${misses(choice, choice.row)}.`);
  } else if (asked.length) {
    parts.push(`It is ${objective} of the ${count} of ${ROWS.length} points that meet every limit.`);
  } else {
    parts.push(`It is ${objective} of all ${ROWS.length} points: there is no limit.`);
  }
  const best = {max_accuracy: COLUMNS.accuracy.map(value => -value), min_energy: COLUMNS.energy,
                min_latency: COLUMNS.latency}[wanted.objective];
  const ties = choice.kept.filter(row => best[row] === best[choice.row]).length;
  if (!choice.missed.length && ties > 1)
    parts.push(`${ties} points are equal in that; of these it takes the least energy, then the least latency.`);
  const unlimited = choose({...Object.fromEntries(LIMITS.map(name => [name, null])), objective: wanted.objective}).row;
  if (unlimited !== choice.row && misses(choice, unlimited))
    parts.push(`Without limits it would take ${COLUMNS.name[unlimited]}, which has ${misses(choice, unlimited)}.`);
  const excluded = asked.map(name => `${name} ${choice.limits[name].excess.filter(value => value > 0).length}`);
  if (asked.length) parts.push(`Points that a limit excludes: ${excluded.join(", ")}.`);
  return parts;
}

function update() {
  const wanted = target(), choice = choose(wanted);
  const box = element("chosen");
  box.dataset.row = choice.row;
  box.dataset.feasible = choice.missed.length === 0;
  box.dataset.met = choice.met.filter(Boolean).length;
  box.dataset.missed = choice.missed.join(" ");
  box.className = choice.missed.length ? "missed" : "met";
  element("chosen-name").textContent = describe(choice.row);
  element("reason").replaceChildren(...explain(choice, wanted).map(text => {
    const line = document.createElement("li");
    line.textContent = text;
    return line;
  }));
  const options = LIMITS.filter(name => wanted[name] !== null).map(name =>
    ` --${name} ${Number((WORDS[name].scale * wanted[name]).toPrecision(12))}`);
  element("command").textContent =
    `dynamic-perception plan ${data.source}${options.join("")} --objective ${wanted.objective}`;
  drawSoon(choice);
}

// Drawn once per frame of the screen, however fast a slider moves.
let waiting = null;
function drawSoon(choice) {
  if (waiting === null) requestAnimationFrame(() => { const newest = waiting; waiting = null; draw(newest); });
  waiting = choice;
}

function draw(choice) {
  const traces = element("plot").data, style = {"marker.opacity": [], x: [], y: []}, numbers = [];
  const rings = traces.length - data.panels.length;
  traces.forEach((trace, number) => {
    if (trace.meta === undefined && number < rings) return;
    const panel = data.panels[number - rings];
    numbers.push(number);
    style["marker.opacity"].push(panel ? 1 : trace.meta.rows.map(row => choice.met[row] ? 0.95 : 0.13));
    style.x.push(panel ? [1000 * COLUMNS.latency[choice.row]] : trace.x);
    style.y.push(panel ? [panel.scale * COLUMNS[panel.name][choice.row]] : trace.y);
  });
  const line = {color: "#333", width: 1.4, dash: "dash"}, shapes = [];
  const deadline = choice.limits.deadline;
  if (deadline) shapes.push({type: "line", xref: "x", yref: "paper", x0: 1000 * deadline.asked,
                             x1: 1000 * deadline.asked, y0: 0, y1: 1, line});
  data.panels.forEach((panel, number) => {
    const limit = choice.limits[panel.name], axis = number ? `y${number + 1}` : "y";
    if (limit) shapes.push({type: "line", xref: "paper", x0: 0, x1: 1, yref: axis, y0: panel.scale * limit.asked,
                            y1: panel.scale * limit.asked, line});
  });
  Plotly.update("plot", style, {shapes}, numbers);
}

window.explorer = {choose, target};
addControls();
Plotly.newPlot("plot", figure.data, figure.layout, {displaylogo: false, responsive: true,
               modeBarButtonsToRemove: ["select2d", "lasso2d"]}).then(update);
"""
