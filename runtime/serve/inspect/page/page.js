/* The state of the page, and what changes it. */

const state = { prompt: "", begin: null, steps: [], end: null, here: 0, follows: true, running: null, playing: null, height: 0 };
const PACE_MS = 450, MANY_NODES = 80, MOST_HEIGHT = 330;

function request() {
  const number = (id) => Number(part(id).value);
  const asked = { prompt: part("prompt").value, max_tokens: number("max_tokens"), temperature: number("temperature"), top_p: number("top_p") };
  return part("seed").value === "" ? asked : { ...asked, seed: number("seed") };
}

async function run() {
  if (state.running || !part("ask").reportValidity()) return;
  pause();
  const asked = request();
  Object.assign(state, { prompt: asked.prompt, begin: null, steps: [], end: null, here: 0, follows: true, height: 0, running: new AbortController() });
  part("error").hidden = true;
  part("result").hidden = true;
  part("run").disabled = true;
  part("stop").disabled = false;
  say("Waiting for the server …");
  try {
    await readSteps(asked, part("key").value, state.running.signal, take);
  } catch (error) {
    const stopped = error.name === "AbortError";
    if (stopped) say(`Stopped after ${count(state.steps.length, "step")}.`);
    else refuse(error);
  }
  state.running = null;
  part("run").disabled = false;
  part("stop").disabled = true;
}

function take(event) {
  if (event.kind === "begin") {
    state.begin = event;
    part("about").replaceChildren(`${event.model} · ${event.scheme === null ? "plain decoding, nothing is drafted" : `${event.scheme} scheme, ${event.verifier} verifier`}`);
    say(`${count(event.prompt_tokens, "token")} of prompt, seed ${event.seed}; waiting for the first step …`);
  } else if (event.kind === "step") {
    state.steps.push(event);
    if (state.steps.length === 1) {
      part("result").hidden = false;
      part("candidates").checked = event.nodes.length <= MANY_NODES;
    }
    if (state.follows) state.here = state.steps.length - 1;
    say(`Generating, seed ${state.begin.seed} …`);
    redraw();
  } else {
    state.end = event;
    const reason = event.finish_reason === "length" ? "as many tokens as asked for" : "the text ended by itself";
    say(`${count(event.usage.completion_tokens, "token")} in ${count(state.steps.length, "step")}: ${reason}. Seed ${state.begin.seed}.`);
    redraw();
  }
}

function say(words) {
  if (part("status").textContent !== words) part("status").replaceChildren(words);
}

function refuse(error) {
  say("");
  part("error").replaceChildren(error.message);
  part("error").hidden = false;
  if (error.status === 401) {
    part("key_field").hidden = false;
    part("key").focus();
  }
}

/* One drawing per frame, however many events came. */
let isDue = false;
function redraw() {
  if (!isDue) requestAnimationFrame(draw);
  isDue = true;
}

function draw() {
  isDue = false;
  if (!state.steps.length) return;
  const { steps, here } = state, step = steps[here];
  part("which").setAttribute("aria-live", state.running ? "off" : "polite");
  part("which").replaceChildren(`step ${step.step} of ${steps.length}`);
  for (const id of ["first", "previous"]) part(id).disabled = here === 0;
  for (const id of ["next", "last"]) part(id).disabled = here === steps.length - 1;
  part("timeline").replaceChildren(drawTimeline(steps, here, barWidth(part("timeline").clientWidth, steps.length)));
  drawText();
  const drafted = step.nodes.length - 1, kept = step.nodes.filter((node) => node.kept).length - 1;
  const predicted = step.predicted === null ? "" : `; predicted ${fixed(step.predicted, 2)}`;
  const facts = drafted ? `${drafted} drafted on ${count(step.level_widths.length, "level")}, ${kept} kept, ${step.accepted} accepted${predicted}` : "nothing was drafted";
  part("tree_facts").replaceChildren(facts + (step.batch > 1 ? `; decoded with ${step.batch - 1} other requests` : ""));
  part("numbers").hidden = !drafted;
  part("numbers").replaceChildren(step.predicted === null ? "numbers: the drafter's probability of a token" : "numbers: predicted probability π that the text takes the node");
  const tree = drawTree(step, part("candidates").checked);
  part("tree").replaceChildren(tree);
  state.height = Math.max(state.height, Math.min(MOST_HEIGHT, Number(tree.getAttribute("height"))));
  part("tree").style.minHeight = `${state.height + 8}px`; // what lies below stays where it is from step to step
  part("node").replaceChildren("");
  part("times").replaceChildren(...drawTimes(steps, here));
  part("totals").replaceChildren(...totalsOf(step.totals));
  part("calibration").replaceChildren(...drawCalibration(steps.slice(0, here + 1)));
  reveal(part("timeline"), part("timeline").querySelector(".here"));
  reveal(part("text"), part("text").querySelector(".here"));
}

/* Scrolls the box, and never the page. */
function reveal(box, element) {
  if (!element) return;
  const outer = box.getBoundingClientRect(), inner = element.getBoundingClientRect();
  if (inner.left < outer.left || inner.right > outer.right) box.scrollLeft += inner.left - outer.left - outer.width / 2;
  if (inner.top < outer.top || inner.bottom > outer.bottom) box.scrollTop += inner.top - outer.top - outer.height / 2;
}

function drawText() {
  const tokens = state.steps.flatMap((step, index) => step.emitted.map((token) => {
    const origin = token.depth ? shade(token.depth) : "own";
    const when = index === state.here ? " here" : index > state.here ? " later" : "";
    const words = `step ${step.step}: ${token.depth ? `accepted draft at depth ${token.depth}` : "the target's own token"}`;
    return html("span", { class: `token ${origin}${when}`, "data-step": index, title: words }, ...withLineEnds(token.text));
  }));
  part("text").replaceChildren(html("span", { class: "prompt" }, state.prompt), ...tokens);
}

/* A text whose line ends can be seen; of no text at all, a mark. */
function withLineEnds(text) {
  if (!text) return [html("i", {}, "∅")];
  return text.split("\n").flatMap((line, index) => (index ? [html("i", {}, GLYPHS["\n"]), "\n", line] : [line]));
}

function totalsOf(totals) {
  const drift = totals.predicted ? ` (${signed((100 * totals.predicted_accepted) / totals.predicted - 100)} %)` : "";
  const rows = [
    ["Block efficiency", `${fixed(totals.block_efficiency, 2)} tokens per step`, "main"],
    ["Tokens per second", fixed(totals.tokens_per_second, 1), "main"],
    ["Tokens in steps", `${totals.tokens} in ${totals.steps}`],
    ["Drafted, kept", `${totals.drafted}, ${totals.kept}`],
    ["Kept per step", fixed(totals.nodes_per_step, 1)],
    ["Accepted of the kept", `${totals.accepted}, ${fixed(100 * totals.acceptance_rate, 0)} %`],
    ["Predicted, then accepted", totals.predicted ? `${fixed(totals.predicted, 1)}, ${totals.predicted_accepted}${drift}` : "–"],
    ["Controller's share of time", `${fixed(100 * totals.controller_share, 1)} %`],
    ["Time", `${fixed(totals.total_ms, 0)} ms`],
  ];
  return rows.flatMap(([name, value, style]) => [html("dt", { class: style }, name), html("dd", { class: style }, value)]);
}

function go(place) {
  state.here = Math.max(0, Math.min(state.steps.length - 1, place));
  state.follows = state.here === state.steps.length - 1;
  redraw();
}

function pause() {
  clearInterval(state.playing);
  state.playing = null;
  part("play").replaceChildren("Play");
}

function play() {
  if (state.playing) return pause();
  if (state.here === state.steps.length - 1) go(0);
  part("play").replaceChildren("Pause");
  state.playing = setInterval(() => {
    if (state.here < state.steps.length - 1) go(state.here + 1);
    else if (!state.running) pause();
  }, PACE_MS);
}

const KEYS = {
  ArrowLeft: () => step(-1), ArrowRight: () => step(1), Home: () => jump(0), End: () => jump(Infinity), " ": play,
};

function step(by) {
  jump(state.here + by);
}

function jump(place) {
  pause();
  go(place);
}

document.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) return run();
  if (event.key === "Escape") return state.running?.abort();
  if (event.ctrlKey || event.metaKey || event.altKey || !state.steps.length) return;
  if (event.target.matches("input, textarea") || (event.key === " " && event.target.matches("button"))) return;
  if (event.key.match(/^Arrow(Up|Down)$/) && event.target.closest("#tree")) return moveInTree(event);
  if (!KEYS[event.key]) return;
  event.preventDefault();
  KEYS[event.key]();
});
part("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  run();
});
part("stop").addEventListener("click", () => state.running?.abort());
part("first").addEventListener("click", () => jump(0));
part("previous").addEventListener("click", () => step(-1));
part("next").addEventListener("click", () => step(1));
part("last").addEventListener("click", () => jump(Infinity));
part("play").addEventListener("click", play);
part("candidates").addEventListener("change", redraw);
window.addEventListener("resize", redraw);
part("text").addEventListener("click", (event) => {
  const token = event.target.closest(".token");
  if (token) jump(Number(token.dataset.step));
});
part("timeline").addEventListener("pointerdown", (event) => {
  const chart = part("timeline").firstChild;
  if (chart) jump(Math.floor((event.clientX - chart.getBoundingClientRect().left - 2) / barWidth(part("timeline").clientWidth, state.steps.length)));
});
