/* Asks for a generation and reads its events. */

/* Calls `take` with each event as it comes; throws an Error in the server's words, whose `status` is that of HTTP. */
async function readSteps(request, key, signal, take) {
  const headers = { "Content-Type": "application/json" };
  if (key) headers.Authorization = `Bearer ${key}`;
  const answer = await fetch("inspect/steps", { method: "POST", headers, body: JSON.stringify(request), signal });
  if (!answer.ok) throw await refusal(answer);
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let waiting = "", ended = false;
  for (let chunk = await reader.read(); !chunk.done; chunk = await reader.read()) {
    const events = (waiting + chunk.value).split("\n\n");
    waiting = events.pop();
    for (const line of events.filter((event) => event.startsWith("data: "))) {
      const event = JSON.parse(line.slice("data: ".length));
      if (event.error) throw new Error(event.error.message);
      ended ||= event.kind === "end";
      take(event);
    }
  }
  if (!ended) throw new Error("the connection ended before the text did");
}

async function refusal(answer) {
  let message = `the server answered ${answer.status}`;
  try {
    message = (await answer.json()).error.message ?? message;
  } catch {
    // A proxy's answer, for example; its number says enough.
  }
  return Object.assign(new Error(message), { status: answer.status });
}
