// Asking for answers: one question at a time, told as it goes on, cancelled when another comes.
import { store, songEnd } from "./store.js";
import { barTicks } from "./music.js";
import { lines } from "./server.js";

let current = null;
let busy = 0;
const listeners = new Set();

/** Told `{busy, done, total, text, wrong}` as a question goes on. */
export const onProgress = (listener) => listeners.add(listener);
const tell = (told) => listeners.forEach((listener) => listener({ busy: busy > 0, ...told }));

export function cancel() {
  current?.abort();
}

/** What the server must know of the chosen answer to keep it. */
export function keptOf(state) {
  const answer = state.answers[state.chosen];
  if (!answer || (!state.kept.tracks.length && !state.kept.spans.length)) return [];
  const bar = barTicks(state.metre);
  const end = Math.ceil(songEnd(state) / bar + 1) * bar;
  return answer.voices
    .map((voice) => ({
      track: voice.track,
      spans: state.kept.tracks.includes(voice.track) ? [[0, end]] : state.kept.spans,
      notes: voice.notes,
    }))
    .filter((each) => each.spans.length);
}

/**
 * Ask for answers; `made(number, voices, beginning)` is called with each. Resolves to whether all came.
 * `wanted`: [{ends: [[seed, sample], ...], place}]. A question that is asked meanwhile cancels this one.
 */
export async function ask(wanted, kept, made) {
  current?.abort();
  const own = new AbortController();
  current = own;
  const { melody, bpm, metre, key, model, temperature } = store.state;
  const body = { model, bpm, metre, key, temperature, wanted, kept, melody: { program: melody.program, notes: melody.notes } };
  let done = 0;
  busy++;
  tell({ done, total: wanted.length, text: "Asking …" });
  let last = "";
  try {
    let remarks = [];
    for await (const told of lines("api/answers", body, own.signal)) {
      if (told.remarks) remarks = told.remarks;
      if (told.ahead) tell({ done, total: wanted.length, text: `Waiting for ${told.ahead} before this` });
      if (told.voices) {
        if (!told.beginning) done++;
        made(told.answer, told.voices, told.beginning ?? false);
        tell({ done, total: wanted.length, text: told.beginning ? "The beginning is there, the rest follows" : "" });
      }
    }
    last = remarks.join("; ");
    return true;
  } catch (error) {
    if (error.name === "AbortError") {
      if (current === own) last = "Cancelled";
      return false;
    }
    busy--;
    tell({ text: error.message, wrong: true });
    busy++;
    last = null;
    return false;
  } finally {
    busy--;
    if (current === own) current = null;
    if (last !== null) tell({ text: last });
  }
}

