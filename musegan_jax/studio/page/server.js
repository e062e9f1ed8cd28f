// Requests to the server that gave this page, with the key from the address.
const KEY = "studio-key";
const given = location.hash.slice(1);
if (given) {
  // Out of the address bar, so that a screenshot does not show it.
  try {
    sessionStorage.setItem(KEY, given);
    history.replaceState(null, "", location.pathname);
  } catch {
    // Without storage it stays in the address.
  }
}
let key = given;
try {
  key ||= sessionStorage.getItem(KEY) ?? "";
} catch {
  // As above.
}

async function ask(path, body, signal) {
  const options = { method: body === undefined ? "GET" : "POST", headers: { "X-Studio-Token": key }, signal };
  if (body !== undefined) options.body = body instanceof ArrayBuffer ? body : JSON.stringify(body);
  let reply;
  try {
    reply = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("the studio does not answer: has the command ended?");
  }
  if (!reply.ok) {
    const told = await reply.json().catch(() => ({}));
    throw new Error(told.error ?? `the studio refused this (${reply.status})`);
  }
  return reply;
}

export const json = async (path, body) => (await ask(path, body)).json();
export const bytes = async (path, body, signal) => (await ask(path, body, signal)).arrayBuffer();

/** Lines of JSON as they come. An error that the server tells is thrown. */
export async function* lines(path, body, signal) {
  const reader = (await ask(path, body, signal)).body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    rest += value ?? "";
    const found = rest.split("\n");
    rest = found.pop();
    for (const line of found) {
      const told = JSON.parse(line);
      if (told.error) throw new Error(told.error);
      yield told;
    }
    if (done) return;
  }
}
