// Notes, bars and names. A note is [start, end, pitch, velocity], times in ticks of a quarter / 480.
export const BEAT = 480;
export const NAMES = ["C", "C♯", "D", "E♭", "E", "F", "F♯", "G", "A♭", "A", "B♭", "B"];
export const METRES = [[4, 4], [3, 4], [2, 4], [6, 8], [2, 2], [5, 4], [12, 8], [3, 8]];
const MAJOR = [0, 2, 4, 5, 7, 9, 11];
const NATURAL = { C: 0, D: 2, E: 4, F: 5, G: 7, A: 9, B: 11 };

export const isBlack = (pitch) => [1, 3, 6, 8, 10].includes(pitch % 12);
export const pitchName = (pitch) => `${NAMES[pitch % 12]}${Math.floor(pitch / 12) - 1}`;
export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);
export const frequency = (pitch) => 440 * 2 ** ((pitch - 69) / 12);

export const barTicks = ([beats, unit]) => (BEAT * 4 * beats) / unit;
export const beatTicks = ([beats, unit]) => (unit === 8 && beats % 3 === 0 ? BEAT * 1.5 : (BEAT * 4) / unit);
export const seconds = (ticks, bpm) => (ticks / BEAT) * (60 / bpm);
export const ticks = (time, bpm) => (time * bpm * BEAT) / 60;

export function position(tick, metre) {
  const bar = Math.floor(tick / barTicks(metre));
  const beat = Math.floor((tick - bar * barTicks(metre)) / beatTicks(metre));
  return [bar + 1, beat + 1];
}

/** The pitch classes of a key such as "Bb" or "F#m"; null for none. */
export function scale(key) {
  if (!key) return null;
  const minor = key.endsWith("m");
  const accidental = key.includes("#") ? 1 : key.includes("b") ? -1 : 0;
  const tonic = NATURAL[key[0]] + accidental + (minor ? 3 : 0);
  return new Set(MAJOR.map((step) => (step + tonic + 12) % 12));
}

export const keyName = (key) => key.replace("#", "♯").replace("b", "♭").replace(/m$/, " minor").replace(/^(.[♯♭]?)$/, "$1 major");

export const endOf = (notes) => notes.reduce((end, note) => Math.max(end, note[1]), 0);
export const byStart = (notes) => [...notes].sort((a, b) => a[0] - b[0] || a[2] - b[2]);

/** Notes pulled to a grid; of what falls on one place at one pitch, one note stays. */
export function pulled(notes, grid) {
  if (!grid) return notes;
  const seen = new Map();
  for (const [start, end, pitch, velocity] of notes) {
    const from = Math.round(start / grid) * grid;
    const to = Math.max(Math.round(end / grid) * grid, from + grid);
    seen.set(`${from} ${pitch}`, [from, to, pitch, velocity]);
  }
  return byStart([...seen.values()]);
}

/** Whether no two notes sound together; notes are by start. */
const isLine = (notes) => notes.every((note, n) => n === 0 || notes[n - 1][1] <= note[0]);

/** Notes with one more. What it covers gives way: in a line all, which stays a line; else what has its pitch. */
export function withNote(notes, note, line = isLine(notes)) {
  const kept = [];
  for (const each of notes) {
    if ((!line && each[2] !== note[2]) || each[1] <= note[0] || each[0] >= note[1]) kept.push(each);
    else if (each[0] < note[0]) kept.push([each[0], note[0], each[2], each[3]]);
  }
  return byStart([...kept, note]);
}

export const length = (ticks) => {
  const beats = ticks / BEAT;
  return beats === 1 ? "a beat" : `${Math.round(beats * 100) / 100} beats`;
};
