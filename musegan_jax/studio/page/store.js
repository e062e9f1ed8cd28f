// The session: one plain value that is replaced, never changed, so that undo is a list of old ones.
import { BEAT } from "./music.js";

const MOST = 200; // steps that can be undone

export const blank = () => ({
  bpm: 100,
  metre: [4, 4],
  key: null,
  melody: { name: "Melody", program: 0, notes: [] },
  model: null,
  flavours: 4,
  temperature: 1,
  seed: 0,
  renew: true,
  atOnce: true, // whether an answer is played when it comes
  answers: [], // {title, detail, group, wanted, voices: [{track, program, notes}], model}
  chosen: -1, // which of them sounds with the melody
  kept: { tracks: [], spans: [] }, // of the chosen answer
  voice: 0, // which voice is edited: 0 the melody, n the chosen answer's voice n - 1
  silent: {}, // voice -> "mute" or "solo"
});

class Store {
  state = blank();
  #past = [];
  #future = [];
  #listeners = new Set();
  #joined = null;

  /** Call `listener(state, before)` after every change. */
  on(listener) {
    this.#listeners.add(listener);
  }

  /** Replace parts of the state. Changes with one `join`, such as a drag, are undone together. */
  change(parts, { undo = true, join = null } = {}) {
    const before = this.state;
    if (undo && !(join && join === this.#joined)) {
      this.#past.push(before);
      if (this.#past.length > MOST) this.#past.shift();
      this.#future = [];
    }
    if (undo) this.#joined = join;
    this.state = { ...before, ...parts };
    this.#tell(before);
  }

  undo() {
    this.#step(this.#past, this.#future);
  }

  redo() {
    this.#step(this.#future, this.#past);
  }

  get can() {
    return { undo: this.#past.length > 0, redo: this.#future.length > 0 };
  }

  #step(from, to) {
    if (!from.length) return;
    const before = this.state;
    to.push(before);
    this.state = from.pop();
    this.#joined = null;
    this.#tell(before);
  }

  #tell(before) {
    for (const listener of this.#listeners) listener(this.state, before);
  }
}

export const store = new Store();
export const about = { models: [], melodies: [], instruments: [], keys: [], tempos: [20, 400] };

export const modelOf = (name) => about.models.find((model) => model.name === name) ?? about.models[0];

/** The voices that sound: the melody, and those of the chosen answer. `colour` is 0 for the melody. */
export function voicesOf(state) {
  const voices = [{ ...state.melody, colour: 0, track: -1, is_drum: false }];
  const answer = state.answers[state.chosen];
  if (answer) {
    const tracks = modelOf(answer.model).tracks;
    answer.voices.forEach((voice, n) => {
      const track = tracks[voice.track] ?? { name: `Voice ${n + 1}`, program: 0, is_drum: false };
      voices.push({ ...track, ...voice, colour: 1 + (n % 7) });
    });
  }
  return voices;
}

/** Which voices are heard, by mute and solo. */
export function heard(state) {
  const count = voicesOf(state).length;
  const solo = Object.entries(state.silent).some(([n, how]) => how === "solo" && n < count);
  return Array.from({ length: count }, (_, n) =>
    solo ? state.silent[n] === "solo" : state.silent[n] !== "mute");
}

/** The parts of the state that give voice `n` another program: in all answers, so that it stays with the next one. */
export function withProgram(state, n, program) {
  if (n === 0) return { melody: { ...state.melody, program } };
  const { model, voices } = state.answers[state.chosen];
  const { track } = voices[n - 1];
  const answers = state.answers.map((answer) =>
    answer.model !== model
      ? answer
      : { ...answer, voices: answer.voices.map((voice) => (voice.track === track ? { ...voice, program } : voice)) });
  return { answers };
}

/** The voices of a new answer, with the instruments of the one before. */
export function dressed(state, voices) {
  const programs = new Map(voicesOf(state).map((voice) => [voice.track, voice.program]));
  return voices.map((voice) => (programs.has(voice.track) ? { ...voice, program: programs.get(voice.track) } : voice));
}

/** The parts of the state that give voice `n` other notes. */
export function withNotes(state, n, notes) {
  if (n === 0) return { melody: { ...state.melody, notes } };
  const answers = state.answers.map((answer, a) =>
    a !== state.chosen
      ? answer
      : { ...answer, voices: answer.voices.map((voice, v) => (v === n - 1 ? { ...voice, notes } : voice)) });
  return { answers };
}

export const songEnd = (state) =>
  voicesOf(state).reduce((end, voice) => voice.notes.reduce((e, note) => Math.max(e, note[1]), end), 0);

export const defaultNote = (pitch, start, grid) => [start, start + (grid || BEAT / 4), pitch, 90];
