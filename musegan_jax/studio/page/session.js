// Files: sessions to save and open, MIDI and scores to open, downloads; and the session that a reload keeps.
import { about, blank, heard, songEnd, store, voicesOf } from "./store.js";
import { METRES } from "./music.js";
import * as paint from "./paint.js";
import { bytes, json } from "./server.js";

const KEPT = "studio-session";
const FORMAT = "musegan-jax studio 1";

export function download(name, data, type) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(data instanceof Blob ? data : new Blob([data], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

/** The song as the server takes it: the voices that are heard. */
export function song(state) {
  const on = heard(state);
  const voices = voicesOf(state).filter((voice, n) => on[n] && voice.notes.length);
  return {
    bpm: state.bpm, metre: state.metre, key: state.key,
    voices: voices.map(({ name, program, is_drum, notes }) => ({ name, program, is_drum, notes })),
  };
}

export const midi = async () => download("song.mid", await bytes("api/midi", song(store.state)), "audio/midi");
/** Resolves to what had to be moved for it. */
export async function musicxml() {
  const { text, remarks } = await json("api/musicxml", song(store.state));
  download("song.musicxml", text, "application/vnd.recordare.musicxml+xml");
  return remarks.join("; ");
}

export const wav = async () => download("song.wav", await bytes("api/sound", song(store.state)), "audio/wav");

export async function png() {
  const { state } = store;
  const answer = state.answers[state.chosen];
  const title = answer ? `${answer.title}, ${answer.detail}` : "Melody";
  const voices = voicesOf(state).filter((voice) => voice.notes.length);
  download("song.png", await paint.picture(voices, { ...state, end: songEnd(state), title }, paint.colours()));
}

export const save = () => download("session.json", JSON.stringify({ format: FORMAT, ...store.state }), "application/json");

/** Open a file: a session, MIDI or a score. Resolves to the tracks of it, null for a session. */
export async function open(file) {
  if (file.size > 8 * 2 ** 20) throw new Error(`${file.name}: too large`);
  if (/\.json$/i.test(file.name)) {
    store.change(checked(await file.text(), file.name));
    return null;
  }
  try {
    return await json("api/opened", await file.arrayBuffer());
  } catch (error) {
    throw new Error(error.message.replace(/^the file\b/, file.name)); // the server does not know its name
  }
}

const isNote = (note) =>
  Array.isArray(note) && note.length >= 3 && note.length <= 4 && note.every(Number.isInteger) &&
  note[0] >= 0 && note[1] > note[0] && note[1] < 5e6 && note[2] >= 0 && note[2] <= 127 && !(note[3] < 1 || note[3] > 127);
const isList = (value, test, most) => Array.isArray(value) && value.length <= most && value.every(test);
const isNotes = (value) => isList(value, isNote, 50_000);
const isWhole = (value, low, high) => Number.isInteger(value) && value >= low && value <= high;
const isText = (value) => typeof value === "string" && value.length <= 200;
const isProgram = (value) => value === undefined || isWhole(value, 0, 127);
const isEnd = (end) => isList(end, (n) => isWhole(n, 0, 2 ** 32 - 1), 2) && end.length === 2;
const isAnswer = (answer) =>
  isText(answer?.title) && isText(answer.detail) && ["flavour", "walk", "grid"].includes(answer.group) &&
  about.models.some((model) => model.name === answer.model) &&
  (answer.group !== "flavour" || (isList(answer.ends, isEnd, 1) && answer.ends.length === 1)) &&
  isList(answer.voices, (v) => isWhole(v?.track, 0, 999) && isProgram(v.program) && isNotes(v.notes), 16);

const isSilent = (value) =>
  value && typeof value === "object" && !Array.isArray(value) &&
  Object.entries(value).every(([n, how]) => /^\d{1,2}$/.test(n) && ["mute", "solo"].includes(how));

/** A session from text, every part of it checked: it may come from anybody. */
export function checked(text, name) {
  const wrong = new Error(`${name}: not a session of this studio, or damaged`);
  let from;
  try {
    from = JSON.parse(text);
  } catch {
    throw wrong;
  }
  const fine =
    from?.format === FORMAT && typeof from.bpm === "number" && from.bpm >= about.tempos[0] && from.bpm <= about.tempos[1] &&
    METRES.some((metre) => String(metre) === String(from.metre)) && (from.key === null || about.keys.includes(from.key)) &&
    isNotes(from.melody?.notes) && isProgram(from.melody.program) && isWhole(from.flavours, 1, 8) &&
    from.temperature >= 0 && from.temperature <= 2 && isWhole(from.seed, 0, 2 ** 32 - 1) && isList(from.answers, isAnswer, 32) &&
    isWhole(from.chosen, -1, from.answers.length - 1) &&
    isList(from.kept?.tracks, (track) => isWhole(track, 0, 999), 16) &&
    isList(from.kept?.spans, (span) => isList(span, (n) => isWhole(n, 0, 5e6), 2) && span.length === 2, 64) &&
    (from.silent === undefined || isSilent(from.silent));
  if (!fine) throw wrong;
  const known = about.models.some((model) => model.name === from.model) ? from.model : about.models[0].name;
  const { bpm, metre, key, flavours, temperature, seed, answers, chosen, kept, silent = {} } = from;
  return {
    ...blank(), bpm, metre, key, flavours, temperature, seed, answers, chosen, kept, silent, model: known, renew: from.renew === true, atOnce: from.atOnce !== false,
    melody: { name: "Melody", program: from.melody.program ?? 0, notes: from.melody.notes },
  };
}

/** Keep the session in the browser, so that a reload loses nothing. */
export function keepInBrowser() {
  let timer = 0;
  const write = () => {
    clearTimeout(timer);
    try {
      localStorage.setItem(KEPT, JSON.stringify({ format: FORMAT, ...store.state }));
    } catch {
      // No storage, or too long a session: then only a saved file keeps it.
    }
  };
  window.addEventListener("pagehide", write);
  store.on(() => {
    clearTimeout(timer);
    timer = setTimeout(write, 400);
  });
}

export function fromBrowser() {
  try {
    return checked(localStorage.getItem(KEPT) ?? "", "the last session");
  } catch {
    return null;
  }
}
