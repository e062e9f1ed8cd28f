// The answers side by side, and the walk between them.
import { ask, keptOf } from "./asking.js";
import { clamp } from "./music.js";
import * as paint from "./paint.js";
import { dressed, songEnd, store, voicesOf } from "./store.js";
import { player } from "./sound.js";
import { showPlaying } from "./transport.js";

const WALK = "walk";
const GRID = "grid";
const FLAVOUR = "flavour";

/** `hooks`: play() from the beginning, whatever plays; stop(); first(), when the first of new answers is there. */
export class Answers {
  #canvases = new Map();
  #pause = 0;
  #waiting = false;

  constructor(hooks) {
    this.hooks = hooks;
    const byId = (id) => document.getElementById(id);
    Object.assign(this, {
      cards: byId("cards"), between: byId("between"), small: byId("between-cards"),
      from: byId("from"), to: byId("to"), slider: byId("walk"), gridButton: byId("grid"),
    });
    this.slider.addEventListener("input", () => {
      clearTimeout(this.#pause);
      this.#pause = setTimeout(() => this.walk(), 120);
    });
    for (const end of [this.from, this.to]) end.addEventListener("change", () => this.walk());
    this.gridButton.addEventListener("click", () => this.grid());
    store.on((state, before) => {
      if (state.answers !== before.answers || state.chosen !== before.chosen) this.show();
      else if (state.melody !== before.melody || state.metre !== before.metre) this.draw();
    });
    new ResizeObserver(() => this.draw()).observe(this.cards);
  }

  /** New flavours in place of all answers; what is kept of the chosen one stays. */
  async flavours() {
    const { seed, flavours, renew, model } = store.state;
    const kept = keptOf(store.state);
    const keeping = kept.length ? store.state.kept : { tracks: [], spans: [] };
    const wanted = Array.from({ length: flavours }, (_, sample) => ({ ends: [[seed, sample]] }));
    const join = Symbol("flavours");
    let answers = [];
    const all = await ask(wanted, kept, (n, voices, beginning) => {
      const made = {
        title: `Flavour ${n + 1}`, detail: `seed ${seed}${beginning ? ", beginning" : ""}`, group: FLAVOUR, model,
        ends: wanted[n].ends,
        voices: dressed(store.state, voices),
      };
      answers = [...answers.slice(0, n), made, ...answers.slice(n + 1)];
      const first = answers.length === 1;
      store.change({ answers, chosen: first ? 0 : store.state.chosen, kept: keeping }, { join });
      if (first) this.hooks.first();
    });
    if (all && renew) store.change({ seed: (seed + 1) % 2 ** 32 }, { undo: false });
    return all;
  }

  get #flavours() {
    return store.state.answers.filter((answer) => answer.group === FLAVOUR && answer.model === store.state.model);
  }

  /** The answer at the slider's place between two flavours. */
  async walk() {
    const [from, to] = [Number(this.from.value), Number(this.to.value)];
    const [a, b] = [this.#flavours[from], this.#flavours[to]];
    if (!a || !b) return;
    const place = Number(this.slider.value);
    const join = Symbol("walk");
    await ask([{ ends: [a.ends[0], b.ends[0]], place: [place, 0] }], keptOf(store.state), (_, voices) => {
      const made = { title: "Between", detail: `${from + 1} to ${to + 1}, ${Math.round(place * 100)} %`, group: WALK, model: store.state.model, voices: dressed(store.state, voices) };
      const others = store.state.answers.filter((answer) => answer.group !== WALK);
      store.change({ answers: [...others, made], chosen: others.length }, { join });
    });
  }

  /** Nine answers between the first four flavours. */
  async grid() {
    const corners = this.#flavours.slice(0, 4).map((answer) => answer.ends[0]);
    const places = [0, 0.5, 1];
    const wanted = places.flatMap((down) => places.map((across) => ({ ends: corners, place: [across, down] })));
    const join = Symbol("grid");
    let cells = [];
    await ask(wanted, keptOf(store.state), (n, voices, beginning) => {
      if (beginning) return;
      const { place } = wanted[n];
      cells = [...cells, { title: `${place[0] * 100} %, ${place[1] * 100} %`, detail: "", group: GRID, model: store.state.model, voices: dressed(store.state, voices) }];
      const others = store.state.answers.filter((answer) => answer.group !== GRID);
      const chosen = clamp(store.state.chosen, 0, others.length - 1);
      store.change({ answers: [...others, ...cells], chosen }, { join });
    });
  }

  show() {
    const { answers, chosen } = store.state;
    this.#canvases.clear();
    const cards = answers.map((answer, n) => [answer, this.#card(answer, n, n === chosen)]);
    const focused = document.activeElement?.dataset?.card;
    this.cards.replaceChildren(...cards.filter(([answer]) => answer.group !== GRID).map(([, card]) => card));
    this.small.replaceChildren(...cards.filter(([answer]) => answer.group === GRID).map(([, card]) => card));
    if (focused) document.querySelector(`[data-card="${focused}"]`)?.focus();
    const flavours = this.#flavours;
    this.between.hidden = flavours.length < 2;
    if (!this.between.hidden && !answers.some((answer) => answer.group === WALK)) this.cards.append(this.#place());
    this.gridButton.disabled = flavours.length < 4;
    for (const [select, other, fallback] of [[this.from, this.to, 0], [this.to, this.from, 1]]) {
      const known = select.value && select.value !== other.value && Number(select.value) < flavours.length;
      const value = known ? Number(select.value) : fallback;
      select.replaceChildren(...flavours.map((answer, n) => new Option(answer.title, n, false, n === value)));
    }
    this.playing();
    this.draw();
  }

  /** Where the answer between two flavours will be: the slider must not move away while it is held. */
  #place() {
    const place = document.createElement("div");
    place.className = "place";
    place.textContent = "Between: move the slider below";
    place.style.minHeight = `${this.cards.lastElementChild?.offsetHeight ?? 0}px`;
    return place;
  }

  #card(answer, n, chosen) {
    const card = document.createElement("article");
    card.className = `card${chosen ? " chosen" : ""}`;
    card.setAttribute("aria-label", `${answer.title} ${answer.detail}`);
    const head = document.createElement("div");
    head.className = "head";
    const title = document.createElement("div");
    title.className = "title";
    title.textContent = answer.title;
    const detail = document.createElement("small");
    detail.textContent = answer.detail;
    title.append(detail);
    const choose = document.createElement("button");
    choose.type = "button";
    choose.textContent = chosen ? "Chosen" : "Choose";
    choose.setAttribute("aria-pressed", String(chosen));
    choose.setAttribute("aria-label", `${choose.textContent}: ${answer.title}`);
    choose.dataset.card = `choose ${n}`;
    choose.addEventListener("click", () => this.choose(n));
    const play = document.createElement("button");
    play.type = "button";
    play.className = "icon";
    play.dataset.card = `play ${n}`;
    play.setAttribute("aria-label", `Play ${answer.title}`);
    play.innerHTML = '<svg><use href="#i-play"/></svg>';
    play.addEventListener("click", () => {
      if (player.playing && n === store.state.chosen) {
        this.hooks.stop();
        return;
      }
      this.choose(n);
      this.hooks.play();
    });
    play.dataset.title = answer.title;
    head.append(title, play, choose);
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `${answer.title} as a piano roll`);
    canvas.addEventListener("click", () => this.choose(n));
    this.#canvases.set(n, canvas);
    card.append(head, canvas);
    return card;
  }

  /** Show on the chosen card whether it plays. */
  playing() {
    for (const button of document.querySelectorAll("[data-card^='play ']")) {
      showPlaying(button, player.playing && button.dataset.card === `play ${store.state.chosen}`, button.dataset.title);
    }
  }

  choose(n) {
    const { chosen, kept } = store.state;
    if (n !== chosen) store.change({ chosen: n, kept: { ...kept } }, { undo: false });
  }

  /** Draw all of them at the next frame; many calls, as while a note is dragged, are one. */
  draw() {
    if (this.#waiting) return;
    this.#waiting = true;
    requestAnimationFrame(() => {
      this.#waiting = false;
      this.#paint();
    });
  }

  #paint() {
    const theme = paint.colours();
    const { state } = store;
    for (const [n, canvas] of this.#canvases) {
      const voices = voicesOf({ ...state, chosen: n });
      const { context, width, height } = paint.sized(canvas);
      if (width) paint.small(context, width, height, voices, { ...state, end: songEnd({ ...state, chosen: n }), cursor: n === state.chosen && player.playing ? player.now : -1 }, theme);
    }
  }

  /** Draw the playing position in the chosen card alone. */
  cursor() {
    const canvas = this.#canvases.get(store.state.chosen);
    if (!canvas) return;
    const { context, width, height } = paint.sized(canvas);
    const { state } = store;
    if (width) paint.small(context, width, height, voicesOf(state), { ...state, end: songEnd(state), cursor: player.playing ? player.now : -1 }, paint.colours());
  }
}
