// Drawing rolls on a canvas: the big one, the small ones of the answers, the picture to download.
import { barTicks, beatTicks, isBlack, scale } from "./music.js";

/** The colours of the theme, read from the style sheet. */
export function colours() {
  const style = getComputedStyle(document.documentElement);
  const get = (name) => style.getPropertyValue(`--${name}`).trim();
  return {
    paper: get("paper"), sheet: get("sheet"), ink: get("ink"), soft: get("soft"), line: get("line"),
    row: get("row"), beat: get("beat"), bar: get("bar"), focus: get("focus"), keep: get("keep"),
    voices: Array.from({ length: 8 }, (_, n) => get(`v${n}`)),
  };
}

/** A canvas as sharp as the screen; returns its context, scaled to CSS pixels, and its size. */
export function sized(canvas) {
  const ratio = Math.min(window.devicePixelRatio || 1, 2);
  const { clientWidth: width, clientHeight: height } = canvas;
  const [w, h] = [Math.round(width * ratio), Math.round(height * ratio)];
  if (canvas.width !== w || canvas.height !== h) Object.assign(canvas, { width: w, height: h });
  const context = canvas.getContext("2d");
  context.setTransform(ratio, 0, 0, ratio, 0, 0);
  return { context, width, height };
}

export function rounded(context, x, y, width, height, radius) {
  context.beginPath();
  context.roundRect(x, y, Math.max(width, 1), height, Math.min(radius, Math.max(width, 1) / 2, height / 2));
}

/** The lowest and highest pitch of voices, with room around, at least `least` rows. */
export function range(voices, least = 30, room = 3) {
  let low = 127;
  let high = 0;
  for (const { notes } of voices) for (const note of notes) {
    low = Math.min(low, note[2]);
    high = Math.max(high, note[2]);
  }
  if (low > high) [low, high] = [60, 72];
  low -= room;
  high += room;
  const lacking = Math.max(least - (high - low + 1), 0);
  low = Math.max(low - Math.ceil(lacking / 2), 0);
  return [low, Math.min(Math.max(high, low + least - 1), 127)];
}

/** Rows, and lines at bars and beats; `view` maps ticks and pitches to pixels. */
export function grid(context, view, metre, key, theme) {
  const { left, top, width, height, x, y, row, from, to } = view;
  context.fillStyle = theme.sheet;
  context.fillRect(left, top, width, height);
  const inKey = scale(key);
  for (let pitch = view.low; pitch <= view.high; pitch++) {
    const dark = inKey ? !inKey.has(pitch % 12) : isBlack(pitch);
    if (dark) {
      context.fillStyle = theme.row;
      context.fillRect(left, y(pitch), width, row);
    }
    if (pitch % 12 === 0) {
      context.fillStyle = theme.beat;
      context.fillRect(left, y(pitch) + row - 1, width, 1);
    }
  }
  const bar = barTicks(metre);
  const beat = beatTicks(metre);
  const close = (x(beat) - x(0)) < 5;
  for (let at = Math.floor(from / bar) * bar; at <= to; at += bar) {
    for (let b = beat; !close && b < bar; b += beat) {
      context.fillStyle = theme.beat;
      context.fillRect(Math.round(x(at + b)), top, 1, height);
    }
    context.fillStyle = theme.bar;
    context.fillRect(Math.round(x(at)), top, 1, height);
  }
}

/** The notes of one voice. */
export function notes(context, view, voice, theme, { faint = false, outline = false } = {}) {
  const { x, y, row, from, to } = view;
  context.globalAlpha = faint ? 0.35 : 1;
  context.fillStyle = theme.voices[voice.colour];
  const gap = row > 5 ? 1 : 0.5;
  for (const [start, end, pitch] of voice.notes) {
    if (end < from || start > to) continue;
    rounded(context, x(start) + 0.5, y(pitch) + gap / 2, x(end) - x(start) - gap, row - gap, 3);
    context.fill();
    if (outline) {
      context.strokeStyle = theme.sheet;
      context.lineWidth = 1;
      context.stroke();
    }
  }
  context.globalAlpha = 1;
}

/** A whole song in a canvas. */
export function small(context, width, height, voices, { metre, key, end, cursor = -1 }, theme) {
  const [low, high] = range(voices, 24, 2);
  const last = Math.max(end, barTicks(metre));
  const row = height / (high - low + 1);
  const view = {
    left: 0, top: 0, width, height, low, high, row, from: 0, to: last,
    x: (tick) => (tick / last) * width,
    y: (pitch) => (high - pitch) * row,
  };
  grid(context, view, metre, key, theme);
  for (const voice of [...voices].reverse()) notes(context, view, voice, theme);
  if (cursor >= 0) {
    context.fillStyle = theme.focus;
    context.fillRect(view.x(cursor), 0, 1.5, height);
  }
}

/** A song as a PNG with a legend; resolves to a Blob. */
export function picture(voices, { metre, key, end, title }, theme) {
  const canvas = document.createElement("canvas");
  const [width, height, head] = [1600, 700, 70];
  Object.assign(canvas, { width, height: height + head });
  const context = canvas.getContext("2d");
  context.fillStyle = theme.sheet;
  context.fillRect(0, 0, width, height + head);
  context.font = "600 26px system-ui, sans-serif";
  context.fillStyle = theme.ink;
  context.textBaseline = "middle";
  context.fillText(title, 24, head / 2);
  let right = width - 24;
  context.font = "22px system-ui, sans-serif";
  for (const voice of [...voices].reverse()) {
    right -= context.measureText(voice.name).width;
    context.fillStyle = theme.ink;
    context.fillText(voice.name, right, head / 2);
    context.fillStyle = theme.voices[voice.colour];
    rounded(context, right - 28, head / 2 - 9, 18, 18, 4);
    context.fill();
    right -= 56;
  }
  context.translate(0, head);
  small(context, width, height, voices, { metre, key, end }, theme);
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}
