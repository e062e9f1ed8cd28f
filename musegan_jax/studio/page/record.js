// Recording what is played, to a count of one bar, into the voice that is edited.
import { barTicks, pulled, withNote } from "./music.js";
import { player } from "./sound.js";

const LATE = 0.03; // seconds between what the player hears and what the page is told

export class Recorder {
  on = false;
  #open = new Map();
  #made = [];

  /** `hooks`: sheet() -> {bpm, metre}, grid(), notes(), edit(notes), changed(). */
  constructor(hooks) {
    this.hooks = hooks;
    player.addEventListener("change", () => {
      if (this.on && !player.playing) this.#end();
    });
  }

  toggle() {
    if (this.on) player.stop();
    else {
      player.stop(); // before it is on: a stop ends a recording
      this.on = true;
      this.#made = [];
      this.#open.clear();
      player.play({ countIn: barTicks(this.hooks.sheet().metre) });
      this.hooks.changed();
    }
  }

  get #now() {
    return player.now - (LATE * this.hooks.sheet().bpm * 480) / 60;
  }

  pressed(pitch, velocity) {
    if (this.on) this.#open.set(pitch, [this.#now, velocity]);
  }

  released(pitch) {
    const begun = this.#open.get(pitch);
    if (!begun) return;
    this.#open.delete(pitch);
    const [start, end] = [Math.round(begun[0]), Math.round(this.#now)];
    // What was played during the count belongs to the first beat, if it is near.
    if (end > 0) this.#made.push([Math.max(start, 0), Math.max(end, Math.max(start, 0) + 30), pitch, begun[1]]);
  }

  #end() {
    for (const pitch of [...this.#open.keys()]) this.released(pitch);
    this.on = false;
    if (this.#made.length) {
      // Of what is played no note gives way to another: chords are meant.
      const played = pulled(this.#made, this.hooks.grid());
      this.hooks.edit(played.reduce((notes, note) => withNote(notes, note, false), this.hooks.notes()));
    }
    this.hooks.changed();
  }
}
