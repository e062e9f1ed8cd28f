// Sound at once, by Web Audio: voices, a metronome, and playing a song from a cursor.
import { barTicks, beatTicks, clamp, frequency, seconds, ticks } from "./music.js";

const AHEAD = 0.25; // seconds of notes handed to the audio thread before they sound
const SOON = 0.06; // seconds until the first sound
const EVERY = 40; // milliseconds between two looks ahead
const FAMILIES = [ // by General MIDI program: harmonics, attack, decay, level held, release; seconds
  [8, { harmonics: [1, 0.5, 0.25, 0.14, 0.08], attack: 0.004, decay: 1.1, held: 0.12, release: 0.18 }], // pianos
  [16, { harmonics: [1, 0, 0.35, 0, 0.2], attack: 0.003, decay: 0.7, held: 0.05, release: 0.3 }], // bells
  [24, { harmonics: [1, 0.6, 0.4, 0.3, 0, 0.2], attack: 0.02, decay: 0.1, held: 0.85, release: 0.08 }], // organs
  [32, { harmonics: [1, 0.6, 0.35, 0.2, 0.12], attack: 0.004, decay: 0.8, held: 0.1, release: 0.12 }], // guitars
  [40, { harmonics: [1, 0.45, 0.2], attack: 0.008, decay: 0.6, held: 0.4, release: 0.1 }], // basses
  [56, { harmonics: [1, 0.55, 0.38, 0.28, 0.2, 0.14, 0.1], attack: 0.06, decay: 0.3, held: 0.8, release: 0.16 }], // strings, choirs
  [64, { harmonics: [1, 0.8, 0.65, 0.5, 0.35, 0.2], attack: 0.04, decay: 0.2, held: 0.75, release: 0.1 }], // brass
  [72, { harmonics: [1, 0.25, 0.5, 0.2, 0.3, 0.1], attack: 0.04, decay: 0.2, held: 0.8, release: 0.1 }], // reeds
  [80, { harmonics: [1, 0.18, 0.06], attack: 0.05, decay: 0.2, held: 0.85, release: 0.12 }], // flutes
  [128, { harmonics: [1, 0.3, 0.2, 0.1], attack: 0.02, decay: 0.4, held: 0.6, release: 0.2 }],
];
const family = (program) => FAMILIES.find(([end]) => program < end)[1];

let audio = null;
let master = null;
let volume = 0.5;
let waves = new Map();
let noise = null;

/** The audio context; browsers let it begin only after a click or a key. */
export function context() {
  if (!audio) {
    audio = new AudioContext({ latencyHint: "interactive" });
    const squash = audio.createDynamicsCompressor();
    master = audio.createGain();
    master.gain.value = volume;
    master.connect(squash).connect(audio.destination);
  }
  if (audio.state === "suspended") audio.resume();
  return audio;
}

/** How loud all is, 0 to 1. */
export function setVolume(value) {
  volume = clamp(value, 0, 1) ** 2; // heard as even steps
  master?.gain.setTargetAtTime(volume, audio.currentTime, 0.01);
}

/** Where sound goes, to be as loud as the rest. */
export function speaker() {
  context();
  return master;
}

/** What is heard now, as a node to look at; for the tests. */
export function listen() {
  context();
  const meter = audio.createAnalyser();
  master.connect(meter);
  return meter;
}

function wave(harmonics) {
  if (!waves.has(harmonics)) {
    const imag = new Float32Array([0, ...harmonics]);
    waves.set(harmonics, audio.createPeriodicWave(new Float32Array(imag.length), imag));
  }
  return waves.get(harmonics);
}

/** Begin a note; returns a function that ends it at a time. */
export function begin(pitch, program, velocity, at, out = master, drum = false) {
  const kind = family(program);
  const level = audio.createGain();
  const loud = 0.32 * (velocity / 127) ** 1.4;
  let source;
  if (drum) {
    source = audio.createBufferSource();
    source.buffer = noise ??= hiss();
  } else {
    source = audio.createOscillator();
    source.setPeriodicWave(wave(kind.harmonics));
    source.frequency.value = frequency(pitch);
  }
  level.gain.setValueAtTime(0, at);
  level.gain.linearRampToValueAtTime(loud, at + kind.attack);
  level.gain.setTargetAtTime(drum ? 0 : loud * kind.held, at + kind.attack, drum ? 0.03 : kind.decay / 3);
  source.connect(level).connect(out);
  source.start(at);
  source.onended = () => level.disconnect();
  return (end) => {
    const off = Math.max(end, at + kind.attack);
    level.gain.cancelScheduledValues(off);
    level.gain.setTargetAtTime(0, off, kind.release / 3);
    source.stop(off + kind.release * 2);
    return source;
  };
}

function hiss() {
  const buffer = audio.createBuffer(1, audio.sampleRate / 4, audio.sampleRate);
  const data = buffer.getChannelData(0);
  for (let n = 0; n < data.length; n++) data[n] = Math.random() * 2 - 1;
  return buffer;
}

export function click(at, accent, out = master) {
  const level = audio.createGain();
  const source = audio.createOscillator();
  source.frequency.value = accent ? 1760 : 1175;
  level.gain.setValueAtTime(accent ? 0.3 : 0.18, at);
  level.gain.exponentialRampToValueAtTime(0.001, at + 0.05);
  source.connect(level).connect(out);
  source.start(at);
  source.stop(at + 0.06);
  source.onended = () => level.disconnect();
}

/** A sound with silence after it up to a time in seconds: a loop beyond its end would be too short. */
function padded(buffer, until) {
  const length = Math.ceil(until * buffer.sampleRate);
  if (length <= buffer.length) return buffer;
  const longer = audio.createBuffer(buffer.numberOfChannels, length, buffer.sampleRate);
  for (let n = 0; n < buffer.numberOfChannels; n++) longer.copyToChannel(buffer.getChannelData(n), n);
  return longer;
}

/** Plays a song that may change while it plays. */
class Player extends EventTarget {
  playing = false;
  cursor = 0; // ticks, where it stands or was begun
  #began = 0; // audio time at which `#from` sounds
  #from = 0;
  #until = 0; // ticks up to which notes are handed over
  #timer = 0;
  #out = null;
  #gains = [];
  #source = null;
  #bpm = 100; // of the server's sound that plays
  buffer = null; // the server's sound that plays, if any
  #before = null; // where it was counted from until the loop that is ending has ended
  /** `loop`: [from, to], played again and again; null for none. */
  song = () => ({ voices: [], heard: [], bpm: 100, metre: [4, 4], end: 0, clicks: false, endless: false, loop: null });

  get buffered() {
    return this.buffer !== null;
  }

  /** The tempo at which it plays: the server's sound keeps its own until there is another. */
  get #pace() {
    return this.buffered ? this.#bpm : this.song().bpm;
  }

  /** Where it is, in ticks; before the beginning while it counts in. */
  get now() {
    if (!this.playing) return this.cursor;
    const { from, began } = this.#before && audio.currentTime < this.#began ? this.#before : { from: this.#from, began: this.#began };
    return from + ticks(audio.currentTime - began, this.#pace);
  }

  /**
   * Play from the cursor, or go on if it plays; `countIn` ticks earlier there are only clicks.
   * `buffer`: sound of the server, in the song's tempo.
   */
  play({ countIn = 0, buffer = null } = {}) {
    const on = this.playing;
    if (on) this.stop();
    context();
    const { bpm, loop } = this.song();
    if (on) this.cursor += ticks(SOON, bpm); // where it would be when the first sound comes
    if (loop && (this.cursor < loop[0] || this.cursor >= loop[1])) this.cursor = loop[0];
    this.playing = true;
    this.#before = null;
    this.#out = audio.createGain();
    this.#out.connect(master);
    this.#gains = [];
    this.#from = this.cursor - countIn;
    this.#until = this.#from;
    this.#began = audio.currentTime + SOON;
    Object.assign(this, { buffer });
    this.#bpm = bpm;
    if (buffer) {
      this.#source = audio.createBufferSource();
      this.#source.buffer = loop ? padded(buffer, seconds(loop[1], bpm)) : buffer;
      if (loop) Object.assign(this.#source, { loop: true, loopStart: seconds(loop[0], bpm), loopEnd: seconds(loop[1], bpm) });
      this.#source.connect(this.#out);
      this.#source.start(this.#began, seconds(this.cursor, bpm));
    }
    this.#timer = setInterval(() => this.#feed(), EVERY);
    this.#feed();
    this.dispatchEvent(new Event("change"));
  }

  stop({ rewind = false } = {}) {
    if (this.playing) {
      this.cursor = Math.max(this.now, 0);
      this.playing = false;
      clearInterval(this.#timer);
      this.#source?.stop();
      this.#source = null;
      const out = this.#out;
      out.gain.setTargetAtTime(0, audio.currentTime, 0.015);
      setTimeout(() => out.disconnect(), 300);
    }
    if (rewind) this.cursor = 0;
    this.dispatchEvent(new Event("change"));
  }

  seek(tick) {
    const again = this.playing;
    this.stop();
    this.cursor = Math.max(tick, 0);
    if (again) this.play({ buffer: this.buffer });
    this.dispatchEvent(new Event("change"));
  }

  /** Mute and solo while it plays. */
  level() {
    const { heard } = this.song();
    this.#gains.forEach((gain, n) => gain?.gain.setTargetAtTime(heard[n] ? 1 : 0, audio.currentTime, 0.01));
  }

  #voice(n, on) {
    if (!this.#gains[n]) {
      this.#gains[n] = audio.createGain();
      this.#gains[n].gain.value = on ? 1 : 0;
      this.#gains[n].connect(this.#out);
    }
    return this.#gains[n];
  }

  #feed() {
    const { voices, heard, metre, end, clicks, endless, loop } = this.song();
    const bpm = this.#pace;
    const time = (tick) => this.#began + seconds(tick - this.#from, bpm);
    const reached = this.#from + ticks(audio.currentTime + AHEAD - this.#began, bpm);
    const until = loop ? Math.min(reached, loop[1]) : reached;
    // A tab in the background is woken once a second: what was missed is left out, not played at once.
    const early = this.#before && audio.currentTime < this.#began;
    const from = early ? this.#until : Math.max(this.#until, this.now - 1);
    if (!this.buffered) voices.forEach((voice, n) => {
      for (const [start, stop, pitch, velocity] of voice.notes) {
        if (start < from || start >= until || start < this.cursor) continue;
        const loud = velocity ?? (n === 0 ? 92 : 70);
        const end = begin(pitch, voice.program, loud, time(start), this.#voice(n, heard[n]), voice.is_drum);
        end(time(loop ? Math.min(stop, loop[1]) : stop) - 0.01);
      }
    });
    if (clicks) {
      const beat = beatTicks(metre);
      for (let at = Math.ceil(from / beat) * beat; at < until; at += beat) {
        click(Math.max(time(at), audio.currentTime), ((at % barTicks(metre)) + barTicks(metre)) % barTicks(metre) === 0, this.#out);
      }
    }
    this.#until = Math.max(until, this.#until);
    if (loop && reached >= loop[1]) this.#again(loop, time(loop[1]));
    else if (!endless && !loop && this.now >= end + 0.2 * beatTicks(metre)) {
      this.stop({ rewind: true });
      this.dispatchEvent(new Event("ended"));
    }
  }

  /** Count on from the beginning of the loop, as soon as its end is handed over. */
  #again([from], began) {
    this.#before = { from: this.#from, began: this.#began };
    // A tab in the background may wake up long after the end: then it goes on from now.
    Object.assign(this, { cursor: from });
    [this.#from, this.#until, this.#began] = [from, from, Math.max(began, audio.currentTime)];
  }
}

export const player = new Player();

/** A short note, to hear what is drawn. */
export function touch(pitch, program = 0, drum = false) {
  context();
  const now = audio.currentTime;
  begin(clamp(pitch, 0, 127), program, 80, now, master, drum)(now + 0.22);
}
