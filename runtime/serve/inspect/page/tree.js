/* The candidate tree of a step, from left to right. What was committed is its first row. */

const ROW = 27, BOX = 22, LETTER = 7.3, GAP = 26;

/* The nodes to draw: drafted ones, and the target's own token as the first child of the last accepted one. */
function treeNodes(step, withDropped) {
  const nodes = step.nodes
    .map((node, place) => ({ ...node, place, children: [], kind: kindOf(node, place) }))
    .filter((node) => withDropped || node.kind !== "dropped");
  const byPlace = new Map(nodes.map((node) => [node.place, node]));
  for (const node of nodes.slice(1)) byPlace.get(node.parent).children.push(node);
  for (const node of nodes) node.children.sort(byWorth);
  const last = nodes.filter((node) => node.kind === "accepted").at(-1) ?? nodes[0];
  last.children.unshift({
    token: step.next_token, text: step.next_text, depth: last.depth + 1, kind: "target", children: [],
  });
  return nodes[0];
}

function kindOf(node, place) {
  return place === 0 ? "root" : node.accepted ? "accepted" : node.kept ? "kept" : "dropped";
}

function byWorth(one, other) {
  const worth = (node) => (node.accepted ? 4 : node.kept ? 2 : 0) + (node.predicted ?? node.draft_prob);
  return worth(other) - worth(one);
}

function numberOf(node) {
  if (node.kind === "root" || node.kind === "target") return null;
  return node.predicted ?? node.draft_prob;
}

/* Gives each node its row and returns all in the order in which they are drawn. */
function inRows(root) {
  const order = [];
  let rows = 0;
  const place = (node, above) => {
    node.above = above;
    order.push(node);
    node.row = rows;
    node.children.forEach((child, index) => {
      if (index) rows += 1;
      place(child, node);
    });
  };
  place(root, null);
  return { order, rows: rows + 1 };
}

function drawTree(step, withDropped) {
  const { order, rows } = inRows(treeNodes(step, withDropped));
  const widths = [];
  for (const node of order) {
    node.label = visible(node.text);
    const number = numberOf(node);
    node.number = number === null ? "" : chance(number);
    node.width = 14 + LETTER * [...node.label].length + (node.number ? 8 + 6.4 * node.number.length : 0);
    widths[node.depth] = Math.max(widths[node.depth] ?? 0, node.width);
  }
  const lefts = widths.map((_, depth) => 2 + sum(widths.slice(0, depth)) + GAP * depth);
  const size = { width: lefts.at(-1) + widths.at(-1) + 4, height: rows * ROW + 4 };
  const edges = order.filter((node) => node.above).map((node) => drawEdge(node, lefts));
  edges.sort((one, other) => one.classList.contains("accepted") - other.classList.contains("accepted"));
  const boxes = order.map((node, index) => drawNode(node, lefts[node.depth], index));
  return svg("svg", { ...size, role: "tree", "aria-label": `candidate tree of step ${step.step}` }, ...edges, ...boxes);
}

function drawEdge(node, lefts) {
  const { above } = node;
  const from = lefts[above.depth] + above.width, to = lefts[node.depth];
  const high = middle(above.row), low = middle(node.row), turn = to - GAP / 2;
  const line = high === low
    ? `M${from} ${high}H${to}`
    : `M${from} ${high}H${turn - 6}Q${turn} ${high} ${turn} ${high + 6}V${low - 6}Q${turn} ${low} ${turn + 6} ${low}H${to}`;
  return svg("path", { d: line, class: node.kind });
}

function middle(row) {
  return 2 + row * ROW + BOX / 2;
}

function drawNode(node, left, index) {
  const top = middle(node.row) - BOX / 2, number = numberOf(node);
  const group = svg("g", {
    class: `node ${node.kind}`, transform: `translate(${left} ${top})`, role: "treeitem", "aria-level": node.depth + 1,
    tabindex: index ? -1 : 0, "aria-label": nodeWords(node),
  });
  const shape = { width: node.width, height: BOX, rx: 4, class: node.kind === "accepted" ? shade(node.depth) : null };
  group.append(svg("rect", shape));
  if (number !== null) {
    const inside = node.width - 8;
    group.append(svg("rect", { class: "chance", x: 4, y: BOX - 4, width: Math.max(1, inside * number), height: 2 }));
    const x = node.width - 6;
    group.append(svg("text", { class: "small", x, y: 14, "text-anchor": "end" }, node.number));
  }
  group.append(svg("text", { x: 7, y: 15 }, node.label));
  const show = () => part("node").replaceChildren(nodeWords(node));
  group.addEventListener("pointerenter", show);
  group.addEventListener("focus", show);
  return group;
}

const KINDS = {
  root: "the last committed token, the root",
  accepted: "accepted",
  kept: "kept and verified, not accepted",
  dropped: "drafted, not kept",
  target: "the target's own token",
};

function nodeWords(node) {
  const words = [`“${visible(node.text, 60)}” token ${node.token}`, KINDS[node.kind]];
  if (numberOf(node) !== null) {
    words.push(`depth ${node.depth}`, `rank ${node.rank}`, `drafter ${node.draft_prob.toPrecision(3)}`);
    if (node.predicted !== null) words.push(`predicted π ${node.predicted.toPrecision(3)}`);
  }
  return words.join(", ");
}

/* Up and down move between the nodes. */
function moveInTree(event) {
  const nodes = [...part("tree").querySelectorAll(".node")];
  const place = nodes.indexOf(document.activeElement) + { ArrowDown: 1, ArrowUp: -1 }[event.key];
  nodes[place]?.focus();
  event.preventDefault();
}
