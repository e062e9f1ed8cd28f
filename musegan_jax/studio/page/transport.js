// The controls of playing: loop, volume, metronome, and the buttons that show whether it plays.
import { player, setVolume } from "./sound.js";
import { barTicks } from "./music.js";
import { songEnd, store } from "./store.js";

const VOLUME = "studio-volume";
const byId = (id) => document.getElementById(id);
const isOn = (id) => byId(id).getAttribute("aria-pressed") === "true";
const turn = (id, on = !isOn(id)) => byId(id).setAttribute("aria-pressed", String(on));

let bars = null; // [from, to] in ticks that are played again and again; null for the whole song

export const metronome = () => isOn("metronome");
export const looping = () => isOn("loop");

/** The bars to mark on the ruler. */
export const marked = () => (looping() && bars ? [bars] : []);

/** [from, to] that is played again and again; null where nothing is. */
export function loop() {
  if (!looping()) return null;
  const { state } = store;
  const bar = barTicks(state.metre);
  return bars ?? [0, Math.max(Math.ceil(songEnd(state) / bar), 1) * bar];
}

export function setLoop(span) {
  if (String(span) === String(bars)) return;
  bars = span;
  reloop();
}

/** The server's sound is looped by the browser: it must be begun again where it is. */
function reloop() {
  if (player.playing && player.buffered) player.play({ buffer: player.buffer });
}

/** `tell(text)`; `toggle()` plays or pauses. */
export function showTransport({ tell, toggle }) {
  for (const id of ["play", "play-below"]) byId(id).addEventListener("click", toggle);
  byId("to-start").addEventListener("click", () => player.seek(0));
  byId("metronome").addEventListener("click", () => turn("metronome"));
  byId("loop").addEventListener("click", () => {
    turn("loop");
    reloop();
    tell(looping() ? "Played again and again. Drag over bars on the ruler to choose them." : "");
    player.dispatchEvent(new Event("change"));
  });
  const slider = byId("volume");
  try {
    slider.value = localStorage.getItem(VOLUME) ?? slider.value;
  } catch {
    // Without storage it is as loud as ever.
  }
  setVolume(Number(slider.value));
  slider.addEventListener("input", () => {
    setVolume(Number(slider.value));
    try {
      localStorage.setItem(VOLUME, slider.value);
    } catch {
      // As above.
    }
  });
  player.addEventListener("change", () => {
    for (const id of ["play", "play-below"]) showPlaying(byId(id), player.playing);
  });
}

/** A button that plays or pauses. */
export function showPlaying(button, playing, what = "") {
  button.setAttribute("aria-label", `${playing ? "Pause" : "Play"}${what && ` ${what}`}`);
  button.querySelector("use").setAttribute("href", playing ? "#i-pause" : "#i-play");
}
