// The keyboard that is played: with the mouse, a finger, the computer's keys, a MIDI keyboard.
import { isBlack, pitchName } from "./music.js";
import { begin, context } from "./sound.js";

const CODES = ["KeyA", "KeyW", "KeyS", "KeyE", "KeyD", "KeyF", "KeyT", "KeyG", "KeyY", "KeyH", "KeyU", "KeyJ", "KeyK",
  "KeyO", "KeyL", "KeyP", "Semicolon"];
const LETTERS = "AWSEDFTGYHUJKOLP;";
const OCTAVES = 3;

/** `hooks`: program() of what sounds; pressed(pitch, velocity), released(pitch), for recording. */
export class Piano {
  #sounding = new Map();
  base = 48;
  letters = true; // whether the computer's keys play: who steers a browser by voice turns it off

  constructor(element, hooks) {
    Object.assign(this, { element, hooks });
    this.#build();
    const under = (event) => document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-pitch]");
    let held = null;
    const to = (key) => {
      if (held === key) return;
      if (held !== null) this.release(held);
      held = key;
      if (key !== null) this.press(key);
    };
    element.addEventListener("pointerdown", (event) => {
      if (event.target.closest("[data-pitch]")) to(Number(under(event)?.dataset.pitch ?? event.target.closest("[data-pitch]").dataset.pitch));
    });
    window.addEventListener("pointermove", (event) => {
      if (held === null) return;
      const key = under(event);
      if (key) to(Number(key.dataset.pitch));
    });
    for (const end of ["pointerup", "pointercancel", "blur"]) window.addEventListener(end, () => to(null));
    element.addEventListener("keydown", (event) => {
      const key = event.target.closest("[data-pitch]");
      if (key && event.key === "Enter" && !event.repeat) {
        this.press(Number(key.dataset.pitch));
        setTimeout(() => this.release(Number(key.dataset.pitch)), 300);
        event.preventDefault();
      }
    });
    window.addEventListener("keydown", (event) => this.#key(event, true));
    window.addEventListener("keyup", (event) => this.#key(event, false));
    window.addEventListener("blur", () => [...this.#sounding.keys()].forEach((pitch) => this.release(pitch)));
  }

  shift(octaves) {
    this.base = Math.min(Math.max(this.base + 12 * octaves, 12), 84);
    this.#build();
  }

  press(pitch, velocity = 90) {
    if (this.#sounding.has(pitch)) return;
    const now = context().currentTime;
    this.#sounding.set(pitch, begin(pitch, this.hooks.program(), velocity, now));
    this.element.querySelector(`[data-pitch="${pitch}"]`)?.classList.add("down");
    this.hooks.pressed(pitch, velocity);
  }

  release(pitch) {
    const end = this.#sounding.get(pitch);
    if (!end) return;
    end(context().currentTime);
    this.#sounding.delete(pitch);
    this.element.querySelector(`[data-pitch="${pitch}"]`)?.classList.remove("down");
    this.hooks.released(pitch);
  }

  /** Ask the browser for MIDI keyboards; resolves to how many there are. */
  async midi() {
    const access = await navigator.requestMIDIAccess();
    const listen = () => {
      for (const input of access.inputs.values()) {
        input.onmidimessage = ({ data: [status, pitch, velocity] }) => {
          if ((status & 0xf0) === 0x90 && velocity) this.press(pitch, velocity);
          else if ((status & 0xe0) === 0x80) this.release(pitch);
        };
      }
    };
    access.onstatechange = listen;
    listen();
    return access.inputs.size;
  }

  #build() {
    const keys = [];
    const from = window.innerWidth < 760 ? this.base + 12 : this.base; // on a phone two octaves
    for (let pitch = from; pitch <= this.base + 12 * OCTAVES; pitch++) {
      const key = document.createElement("button");
      key.type = "button";
      key.dataset.pitch = pitch;
      // One stop for the tabulator is enough: the computer's keys play them all.
      key.tabIndex = pitch === this.base + 12 ? 0 : -1;
      key.setAttribute("aria-label", pitchName(pitch));
      if (isBlack(pitch)) key.classList.add("black");
      const letter = document.createElement("span");
      letter.className = "letter";
      letter.textContent = LETTERS[pitch - this.base - 12] ?? "";
      const name = document.createElement("span"); // where a finger plays, no letters are shown
      name.className = "name";
      name.textContent = pitch % 12 ? "" : pitchName(pitch);
      key.append(letter, name);
      keys.push(key);
    }
    this.element.replaceChildren(...keys);
  }

  #key(event, down) {
    const typing = event.target.closest?.("input, select, textarea, dialog, summary");
    if (typing && !(typing.type === "range" || typing.type === "checkbox") && down) return;
    if (event.ctrlKey || event.metaKey || event.altKey || (down && !this.letters)) return;
    if (event.target.id === "roll" && event.code === "KeyK") return; // there it keeps a bar
    const n = CODES.indexOf(event.code);
    if (n >= 0) {
      if (down && !event.repeat) this.press(this.base + 12 + n);
      if (!down) this.release(this.base + 12 + n);
    } else if (down && event.code === "KeyZ") this.shift(-1);
    else if (down && event.code === "KeyX") this.shift(1);
  }
}
