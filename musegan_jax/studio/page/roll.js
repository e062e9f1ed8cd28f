// The big piano roll: shows all voices, edits one; by mouse, touch and keyboard.
import { BEAT, barTicks, clamp, endOf, isBlack, length, pitchName, position, withNote } from "./music.js";
import * as paint from "./paint.js";

const GUTTER = 46; // pixels: the keys on the left
const RULER = 26; // pixels: bar numbers on top
const EDGE = 9; // pixels at the right end of a note that stretch it
const SLACK = 4; // pixels that a press may move and still be a click
const SWIPE = 10; // pixels after which it is told whether a finger draws or scrolls the page

/**
 * The roll in its frame. `hooks` say what it shows and are told what is done:
 * voices(), chosen(), sheet() -> {metre, key}, grid(), tool(), cursor(), kept() and looped() ->
 * [[start, end]], edit(notes, join), touch(pitch), seek(tick), mark(span or null, join), tell(text).
 */
export class Roll {
  #press = null;
  #pointers = new Map();
  #last = BEAT;
  #waiting = false;
  #marked = null; // the bar that was marked with the keyboard, to which Shift extends
  at = { tick: 0, pitch: 67 }; // the keyboard's cursor

  constructor(canvas, frame, hooks) {
    Object.assign(this, { canvas, frame, hooks, perBeat: 34, row: 13, low: 24, high: 100, theme: paint.colours() });
    this.spacer = frame.querySelector(".spacer");
    frame.addEventListener("scroll", () => this.draw());
    new ResizeObserver(() => this.layout()).observe(frame);
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    canvas.addEventListener("pointerup", (event) => this.#up(event));
    canvas.addEventListener("pointercancel", (event) => this.#up(event, true));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("dblclick", (event) => this.#erase(this.#place(event)));
    canvas.addEventListener("keydown", (event) => this.#key(event));
    canvas.addEventListener("focus", () => this.draw());
    canvas.addEventListener("blur", () => this.draw());
    frame.addEventListener("wheel", (event) => {
      if (!event.ctrlKey) return;
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1.15 : 1 / 1.15);
    }, { passive: false });
    this.layout();
  }

  get #voice() {
    return this.hooks.voices()[this.hooks.chosen()] ?? this.hooks.voices()[0];
  }

  /** Fit canvas and scroll area to the frame and the song. */
  layout() {
    const { clientWidth, clientHeight } = this.frame;
    this.canvas.style.width = `${clientWidth}px`;
    this.canvas.style.height = `${clientHeight}px`;
    const end = Math.max(...this.hooks.voices().map((voice) => endOf(voice.notes)));
    const bar = barTicks(this.hooks.sheet().metre);
    this.bars = Math.max(Math.ceil(end / bar) + 4, 16);
    const width = GUTTER + (this.bars * bar * this.perBeat) / BEAT;
    this.spacer.style.width = `${width}px`;
    this.spacer.style.height = `${RULER + (this.high - this.low + 1) * this.row}px`;
    this.draw();
  }

  zoom(factor) {
    const middle = (this.frame.scrollLeft + this.frame.clientWidth / 2 - GUTTER) / this.perBeat;
    this.perBeat = clamp(this.perBeat * factor, 6, 160);
    this.layout();
    this.frame.scrollLeft = middle * this.perBeat - this.frame.clientWidth / 2 + GUTTER;
  }

  /** Show all pitches of the song, and its beginning, or what is in view now. */
  fit({ beginning = true } = {}) {
    const voices = this.hooks.voices().filter((voice) => voice.notes.length);
    const [low, high] = paint.range(voices, 26, 3);
    this.low = Math.min(24, low);
    this.high = Math.max(100, high);
    this.row = clamp((this.frame.clientHeight - RULER) / (high - low + 1), 9, 18);
    this.layout();
    this.frame.scrollTop = (this.high - high) * this.row;
    if (beginning) this.frame.scrollLeft = 0;
    this.draw();
  }

  /** Keep the playing position in view. */
  follow(tick) {
    const x = (tick * this.perBeat) / BEAT;
    const { scrollLeft, clientWidth } = this.frame;
    if (x < scrollLeft || x > scrollLeft + clientWidth - GUTTER - 40) this.frame.scrollLeft = Math.max(x - 60, 0);
  }

  get #view() {
    const { scrollLeft, scrollTop, clientWidth, clientHeight } = this.frame;
    const scaleX = this.perBeat / BEAT;
    return {
      left: GUTTER, top: RULER, width: clientWidth - GUTTER, height: clientHeight - RULER, row: this.row,
      low: this.low, high: this.high,
      from: scrollLeft / scaleX, to: (scrollLeft + clientWidth) / scaleX,
      x: (tick) => GUTTER + tick * scaleX - scrollLeft,
      y: (pitch) => RULER + (this.high - pitch) * this.row - scrollTop,
      tick: (x) => (x - GUTTER + scrollLeft) / scaleX,
      pitch: (y) => this.high - Math.floor((y - RULER + scrollTop) / this.row),
    };
  }

  /** Draw at the next frame; many calls are one. */
  draw() {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      this.#paint();
    });
  }

  #paint() {
    const { context, width, height } = paint.sized(this.canvas);
    if (!width) return;
    const [view, theme, { metre, key }] = [this.#view, this.theme, this.hooks.sheet()];
    paint.grid(context, view, metre, key, theme);
    context.save();
    context.beginPath();
    context.rect(view.left, view.top, view.width, view.height);
    context.clip();
    for (const [start, end] of this.hooks.kept()) {
      context.fillStyle = theme.keep;
      context.globalAlpha = 0.7;
      context.fillRect(view.x(start), view.top, view.x(end) - view.x(start), view.height);
      context.globalAlpha = 1;
    }
    const voices = this.hooks.voices();
    const chosen = this.#voice;
    for (const voice of voices) if (voice !== chosen) paint.notes(context, view, voice, theme, { faint: voice.silent });
    paint.notes(context, view, chosen, theme, { outline: true });
    if (document.activeElement === this.canvas) {
      context.strokeStyle = theme.focus;
      context.lineWidth = 2;
      const wide = (this.hooks.grid() || BEAT / 4) * this.perBeat / BEAT;
      context.strokeRect(view.x(this.at.tick), view.y(this.at.pitch), Math.max(wide, 6), this.row);
    }
    context.restore();
    this.#ruler(context, view, theme, metre, width);
    this.#keys(context, view, theme, height);
    const x = view.x(this.hooks.cursor());
    if (x >= GUTTER - 1) {
      context.fillStyle = theme.focus;
      context.fillRect(x - 0.75, 0, 1.5, height);
      context.beginPath();
      context.moveTo(x - 6, 0);
      context.lineTo(x + 6, 0);
      context.lineTo(x, 9);
      context.fill();
    }
  }

  #ruler(context, view, theme, metre, width) {
    context.fillStyle = theme.paper;
    context.fillRect(0, 0, width, RULER);
    for (const [start, end] of this.hooks.kept()) {
      context.fillStyle = theme.voices[1];
      context.fillRect(Math.max(view.x(start), GUTTER), RULER - 4, view.x(end) - Math.max(view.x(start), GUTTER), 4);
    }
    for (const [start, end] of this.hooks.looped()) {
      context.fillStyle = theme.focus;
      context.fillRect(Math.max(view.x(start), GUTTER), 0, view.x(end) - Math.max(view.x(start), GUTTER), 5);
    }
    context.fillStyle = theme.bar;
    context.fillRect(0, RULER - 1, width, 1);
    const bar = barTicks(metre);
    const every = 2 ** Math.max(Math.ceil(Math.log2(34 / (view.x(bar) - view.x(0)))), 0);
    context.font = "12px system-ui, sans-serif";
    context.textBaseline = "middle";
    for (let n = Math.floor(view.from / bar / every) * every; n * bar <= view.to; n += every) {
      const x = view.x(n * bar);
      if (x < GUTTER - 1) continue;
      context.fillStyle = theme.bar;
      context.fillRect(Math.round(x), 6, 1, RULER - 6);
      context.fillStyle = theme.soft;
      context.fillText(String(n + 1), x + 5, RULER / 2 + 1);
    }
  }

  #keys(context, view, theme, height) {
    context.fillStyle = theme.sheet;
    context.fillRect(0, RULER, GUTTER, height);
    context.font = `${Math.min(this.row - 1, 11)}px system-ui, sans-serif`;
    for (let pitch = this.low; pitch <= this.high; pitch++) {
      const y = view.y(pitch);
      if (y < RULER - this.row || y > height) continue;
      if (isBlack(pitch)) {
        context.fillStyle = theme.soft;
        context.fillRect(0, y + 0.5, GUTTER * 0.55, this.row - 1);
      } else {
        context.fillStyle = theme.line;
        context.fillRect(0, y + this.row - 0.5, GUTTER, 1);
      }
      if (pitch % 12 === 0) {
        context.fillStyle = theme.soft;
        context.fillText(pitchName(pitch), GUTTER - 22, y + this.row / 2);
      }
    }
    context.fillStyle = theme.paper;
    context.fillRect(0, 0, GUTTER, RULER);
    context.fillStyle = theme.bar;
    context.fillRect(GUTTER - 1, 0, 1, height);
  }

  #place(event) {
    const box = this.canvas.getBoundingClientRect();
    const [x, y] = [event.clientX - box.left, event.clientY - box.top];
    return { x, y, tick: Math.max(this.#view.tick(x), 0), pitch: clamp(this.#view.pitch(y), 0, 127) };
  }

  #noteAt({ tick, pitch }) {
    return this.#voice.notes.findLast((note) => note[2] === pitch && note[0] <= tick && tick < note[1]);
  }

  #snap(tick, round = Math.floor) {
    const grid = this.hooks.grid();
    return grid ? round(tick / grid) * grid : Math.round(tick);
  }

  #down(event) {
    this.canvas.focus({ preventScroll: true });
    this.#pointers.set(event.pointerId, [event.clientX, event.clientY]);
    try {
      this.canvas.setPointerCapture(event.pointerId);
    } catch {
      // A pointer that a script made up.
    }
    const place = this.#place(event);
    const base = { x: place.x, y: place.y, notes: this.#voice.notes, join: Symbol("press"), moved: false };
    if (this.#pointers.size === 2) { // two fingers scroll, and undo what the first began to draw
      if (this.#press?.note) this.hooks.edit(this.#press.notes, this.#press.join);
      this.#press = { ...base, kind: "scroll", scroll: [this.frame.scrollLeft, this.frame.scrollTop] };
      return;
    }
    if (place.y < RULER) this.#press = { ...base, kind: "ruler", tick: place.tick };
    else if (place.x < GUTTER) this.hooks.touch(place.pitch);
    else if (this.hooks.tool() === "move" || event.button === 1) {
      this.#press = { ...base, kind: "scroll", scroll: [this.frame.scrollLeft, this.frame.scrollTop] };
    } else if (event.button === 2 || this.hooks.tool() === "erase") {
      this.#press = { ...base, kind: "erase" };
      this.#erase(place, this.#press.join);
    } else this.#begin(place, base, event);
    event.preventDefault();
  }

  #begin(place, base, event) {
    this.at = { tick: this.#snap(place.tick), pitch: place.pitch };
    const note = this.#noteAt(place);
    if (note) {
      const stretch = this.#view.x(note[1]) - place.x < Math.min(EDGE, (this.#view.x(note[1]) - this.#view.x(note[0])) / 3);
      this.#press = { ...base, kind: stretch ? "stretch" : "drag", note, tick: place.tick, pitch: place.pitch };
    } else {
      const start = this.#snap(place.tick);
      const drawn = [start, start + Math.max(this.#last, this.hooks.grid() || 30), place.pitch, 90];
      this.#press = { ...base, kind: "wait", drawn, last: event.clientY };
      // A finger may be about to scroll the page: it draws once it moves sideways, or is lifted.
      if (event.pointerType !== "touch") this.#drawn(this.#press);
      return;
    }
    this.hooks.touch(place.pitch);
  }

  #drawn(press) {
    Object.assign(press, { kind: "draw", note: press.drawn });
    this.hooks.edit(withNote(press.notes, press.note), press.join);
    this.hooks.touch(press.note[2]);
  }

  /** What a finger is about, once it has moved far enough to tell. */
  #told(press, across, down) {
    if (Math.hypot(across, down) < SWIPE) return;
    if (Math.abs(down) > 1.5 * Math.abs(across)) press.kind = "page";
    else this.#drawn(press);
  }

  #move(event) {
    const press = this.#press;
    if (!press || !this.#pointers.has(event.pointerId)) {
      this.#point(event);
      return;
    }
    const place = this.#place(event);
    if (Math.hypot(place.x - press.x, place.y - press.y) > SLACK) press.moved = true;
    if (!press.moved) return;
    if (press.kind === "wait") this.#told(press, place.x - press.x, place.y - press.y);
    if (press.kind === "wait") return;
    if (press.kind === "page") {
      window.scrollBy({ top: press.last - event.clientY, behavior: "instant" });
      press.last = event.clientY;
      return;
    }
    const others = press.notes.filter((note) => note !== press.note);
    const least = this.hooks.grid() || 30;
    if (press.kind === "scroll") {
      this.frame.scrollLeft = press.scroll[0] - (place.x - press.x);
      this.frame.scrollTop = press.scroll[1] - (place.y - press.y);
    } else if (press.kind === "erase") this.#erase(place, press.join);
    else if (press.kind === "ruler") {
      const bar = barTicks(this.hooks.sheet().metre);
      const [low, high] = [Math.min(press.tick, place.tick), Math.max(press.tick, place.tick)];
      this.hooks.mark([Math.floor(low / bar) * bar, Math.ceil(high / bar) * bar], press.join);
    } else if (press.kind === "drag") {
      const start = Math.max(press.note[0] + this.#snap(place.tick - press.tick, Math.round), 0);
      const pitch = clamp(press.note[2] + place.pitch - press.pitch, 0, 127);
      if (pitch !== press.heard) this.hooks.touch(pitch);
      press.heard = pitch;
      this.hooks.edit(withNote(others, [start, start + press.note[1] - press.note[0], pitch, press.note[3]]), press.join);
    } else {
      const end = Math.max(this.#snap(place.tick, Math.round), press.note[0] + least);
      this.#last = end - press.note[0];
      this.hooks.edit(withNote(others, [press.note[0], end, press.note[2], press.note[3]]), press.join);
    }
  }

  #up(event, cancelled = false) {
    this.#pointers.delete(event.pointerId);
    const press = this.#press;
    this.#press = this.#pointers.size ? press : null;
    if (press?.kind === "wait" && !cancelled) this.#drawn(press);
    if (press?.kind === "ruler" && !press.moved && !cancelled) {
      this.hooks.mark(null, press.join);
      this.hooks.seek(this.#snap(press.tick));
    }
  }

  #point(event) {
    const place = this.#place(event);
    const note = place.y > RULER && place.x > GUTTER && this.#noteAt(place);
    const edge = note && this.#view.x(note[1]) - place.x < EDGE;
    const tool = this.hooks.tool();
    this.canvas.style.cursor = tool === "move" ? "grab" : place.x < GUTTER || place.y < RULER ? "pointer" : edge ? "ew-resize" : note ? "move" : "crosshair";
  }

  #erase(place, join = null) {
    const note = this.#noteAt(place);
    if (note) this.hooks.edit(this.#voice.notes.filter((each) => each !== note), join);
    return note;
  }

  #key(event) {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1], PageUp: [0, 12], PageDown: [0, -12] }[event.key];
    const grid = this.hooks.grid() || BEAT / 4;
    const note = this.#noteAt(this.at);
    const others = this.#voice.notes.filter((each) => each !== note);
    if (event.ctrlKey || event.metaKey) return;
    if (step && note && (event.shiftKey || event.altKey)) {
      const [start, end, pitch, velocity] = note;
      const to = event.altKey
        ? [Math.max(start + step[0] * grid, 0), 0, clamp(pitch + step[1], 0, 127), velocity]
        : [start, Math.max(end + step[0] * grid, start + grid), pitch, velocity];
      if (event.altKey) {
        to[1] = to[0] + end - start;
        this.at = { tick: to[0], pitch: to[2] };
        if (step[1]) this.hooks.touch(to[2]);
      } else this.#last = to[1] - to[0];
      this.hooks.edit(withNote(others, to), null);
    } else if (step) {
      this.at = { tick: Math.max(this.#snap(this.at.tick) + step[0] * grid, 0), pitch: clamp(this.at.pitch + step[1], 0, 127) };
    } else if (event.key === "Enter") {
      if (!note) this.hooks.edit(withNote(this.#voice.notes, [this.at.tick, this.at.tick + Math.max(this.#last, grid), this.at.pitch, 90]), null);
      this.hooks.touch(this.at.pitch);
    } else if (event.key === "Delete" || event.key === "Backspace") this.#erase(this.at);
    else if (event.code === "KeyK") {
      const bar = barTicks(this.hooks.sheet().metre);
      const start = Math.floor(this.at.tick / bar) * bar;
      const from = event.shiftKey && this.#marked !== null ? this.#marked : start;
      if (!event.shiftKey) this.#marked = start;
      this.hooks.mark([Math.min(from, start), Math.max(from, start) + bar], null);
    } else return;
    event.preventDefault();
    event.stopPropagation();
    this.#reveal();
    this.hooks.tell(this.#said());
    this.draw();
  }

  #said() {
    const [bar, beat] = position(this.at.tick, this.hooks.sheet().metre);
    const note = this.#noteAt(this.at);
    const there = note ? `note of ${length(note[1] - note[0])}` : "empty";
    return `${pitchName(this.at.pitch)}, bar ${bar}, beat ${beat}: ${there}`;
  }

  #reveal() {
    const { x, y } = this.#view;
    const [left, top] = [x(this.at.tick), y(this.at.pitch)];
    const { clientWidth, clientHeight } = this.frame;
    if (left < GUTTER || left > clientWidth - 60) this.frame.scrollLeft += left - clientWidth / 2;
    if (top < RULER || top > clientHeight - this.row) this.frame.scrollTop += top - clientHeight / 2;
  }
}

