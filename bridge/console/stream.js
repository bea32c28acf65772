// The stream of events, read with fetch because EventSource cannot send a token. Reconnects until it is stopped.

import { authorization } from "./api.js";

const FIRST_PAUSE = 1000, LONGEST_PAUSE = 30000;  // milliseconds

// Call `onEvent(id)` after each event, with null for those that may have been missed, and `onState("live" | "lost")`. Ends with `signal`, or when the token is refused.
export async function follow(onEvent, onState, signal) {
  let last = null, pause = FIRST_PAUSE;
  while (!signal.aborted) {
    try {
      const headers = { ...authorization(), ...(last && { "Last-Event-ID": last }) };
      const response = await fetch("v1/events", { headers, signal, credentials: "omit", cache: "no-store" });
      if (response.status === 401 || response.status === 403) return onState("lost");
      if (response.ok) {
        pause = FIRST_PAUSE;
        onState("live");
        onEvent(null);
        for await (const id of events(response.body)) {
          last = id || last;
          onEvent(id);
        }
      }
    } catch { /* the connection was lost */ }
    if (signal.aborted) return;
    onState("lost");
    await new Promise((resolve) => setTimeout(resolve, pause));
    pause = Math.min(pause * 2, LONGEST_PAUSE);
  }
}

// Yield the id of each event. The data is not kept: views read the API, so that there is one source of what they show.
async function* events(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let line = "", id = null, kind = null;
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const lines = value.split("\n");
    lines[0] = line + lines[0];
    line = lines.pop();
    for (const each of lines) {
      if (each.startsWith("id: ")) id = each.slice(4);
      else if (each.startsWith("event: ")) kind = each.slice(7);
      else if (each === "" && kind !== null) {
        yield id;
        id = kind = null;
      }
    }
  }
}
