/* Timeline, times and calibration. */

const BARS = { narrowest: 9, widest: 26 }, UNIT = 11, MOST_UNITS = 9;

function barWidth(room, count) {
  return Math.max(BARS.narrowest, Math.min(BARS.widest, Math.floor((room - 4) / count)));
}

function drawTimeline(steps, here, bar) {
  const tallest = Math.max(2, ...steps.map((step) => Math.max(step.accepted, step.predicted ?? 0) + 1));
  const unit = Math.min(UNIT, (UNIT * MOST_UNITS) / tallest), height = tallest * unit + 6;
  const chart = svg("svg", { width: steps.length * bar + 4, height: height + 16, "aria-hidden": "true" });
  steps.forEach((step, index) => {
    const left = index * bar + 2, top = (units) => height - units * unit;
    if (index === here) chart.append(svg("rect", { class: "here", x: left, y: 0, width: bar, height: height + 16 }));
    for (let depth = 1; depth <= step.accepted; depth += 1) {
      const name = depth > step.emitted.length ? "cut" : shade(depth);
      chart.append(svg("rect", { class: name, x: left + 2, y: top(depth), width: bar - 4, height: unit - 1 }));
    }
    const name = step.emitted.length > step.accepted ? "own" : "cut";
    chart.append(svg("rect", { class: name, x: left + 2, y: top(step.accepted + 1), width: bar - 4, height: unit - 1 }));
    if (step.predicted !== null) {
      const y = top(step.predicted + 1);
      chart.append(svg("line", { class: "predicted", x1: left, x2: left + bar, y1: y, y2: y }));
    }
    if (index === 0 || step.step % 10 === 0) {
      chart.append(svg("text", { class: "small", x: left + bar / 2, y: height + 12, "text-anchor": "middle" }, `${step.step}`));
    }
  });
  chart.append(svg("line", { class: "base", x1: 0, x2: steps.length * bar + 4, y1: height, y2: height }));
  return chart;
}

const PARTS = {
  read: ["read", "prompt"],
  draft: ["draft-time", "draft"],
  controller: ["controller", "controller"],
  target: ["target-time", "target"],
  verify: ["verify", "verify"],
  commit: ["commit", "commit"],
};

function drawTimes(steps, here) {
  const now = steps[here].times, upToHere = steps.slice(0, here + 1);
  const all = Object.fromEntries(Object.keys(PARTS).map((name) => [name, sum(upToHere.map((step) => step.times[name]))]));
  const total = sum(Object.values(now)), whole = sum(Object.values(all));
  const rows = Object.entries(PARTS).map(([name, [style, word]]) => html("tr", {},
    html("th", { scope: "row" }, html("i", { class: style }), word),
    html("td", {}, fixed(now[name], 2)),
    html("td", {}, `${fixed((100 * now[name]) / total, 0)} %`),
    html("td", {}, `${fixed((100 * all[name]) / whole, 0)} %`)));
  const head = ["", "ms", "of the step", "of all so far"].map((word) => html("th", { scope: "col" }, word));
  const last = html("tr", { class: "sum" }, html("th", { scope: "row" }, "together"), html("td", {}, fixed(total, 2)),
    html("td"), html("td", {}, `${fixed(whole, 0)} ms`));
  return [drawParts(now, total), html("table", {}, html("tr", {}, ...head), ...rows, last)];
}

function drawParts(times, total) {
  const chart = svg("svg", { width: "100%", height: 16, viewBox: "0 0 1000 16", preserveAspectRatio: "none", "aria-hidden": "true" });
  let left = 0;
  for (const [name, [style]] of Object.entries(PARTS)) {
    const width = (1000 * times[name]) / total;
    chart.append(svg("rect", { class: style, x: left, width, height: 16 }));
    left += width;
  }
  return chart;
}

const BINS = 10, SIDE = 170, EDGE = 30;

/* Kept nodes by what was predicted of them: how many were accepted. */
function drawCalibration(steps) {
  const bins = Array.from({ length: BINS }, () => ({ nodes: 0, predicted: 0, accepted: 0 }));
  for (const node of steps.flatMap((step) => step.nodes.slice(1))) {
    if (!node.kept || node.predicted === null) continue;
    const bin = bins[Math.min(BINS - 1, Math.floor(node.predicted * BINS))];
    bin.nodes += 1;
    bin.predicted += node.predicted;
    bin.accepted += node.accepted;
  }
  const filled = bins.filter((bin) => bin.nodes);
  if (!filled.length) return [html("p", {}, "Up to this step, nothing was predicted: the policy drafts a fixed shape, or nothing.")];
  const x = (share) => EDGE + share * SIDE, y = (share) => 6 + (1 - share) * SIDE;
  const chart = svg("svg", { width: SIDE + EDGE + 12, height: SIDE + EDGE + 8, role: "img", "aria-label": calibrationWords(filled) });
  chart.append(svg("path", { class: "axis", fill: "none", d: `M${x(0)} ${y(1)}V${y(0)}H${x(1)}` }));
  chart.append(svg("line", { class: "ideal", x1: x(0), y1: y(0), x2: x(1), y2: y(1) }));
  for (const share of [0, 0.5, 1]) {
    chart.append(svg("text", { class: "small", x: x(share), y: y(0) + 13, "text-anchor": "middle" }, `${share}`));
    chart.append(svg("text", { class: "small", x: x(0) - 5, y: y(share) + 4, "text-anchor": "end" }, `${share}`));
  }
  chart.append(svg("text", { class: "small", x: x(0.5), y: y(0) + 26, "text-anchor": "middle" }, "predicted π"));
  chart.append(svg("text", { class: "small", x: x(0) + 6, y: y(1) + 8 }, "accepted"));
  for (const bin of filled) {
    const place = { cx: x(bin.predicted / bin.nodes), cy: y(bin.accepted / bin.nodes), r: 2 + Math.min(9, Math.sqrt(bin.nodes)) };
    const words = `${count(bin.nodes, "node")}: predicted ${fixed(bin.predicted / bin.nodes, 2)}, accepted ${fixed(bin.accepted / bin.nodes, 2)}`;
    chart.append(svg("circle", place, svg("title", {}, words)));
  }
  return [chart, html("p", {}, "Of the kept nodes of a predicted probability, the share that was accepted; on the line both agree.")];
}

function calibrationWords(bins) {
  const words = bins.map((bin) => `${fixed(bin.predicted / bin.nodes, 2)}: ${fixed(bin.accepted / bin.nodes, 2)}`);
  return `accepted share by predicted probability: ${words.join(", ")}`;
}
