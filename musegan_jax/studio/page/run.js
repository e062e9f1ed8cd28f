// A run that trains, watched: curves, samples with sound, speed.
import * as paint from "./paint.js";
import { bytes, json } from "./server.js";
import { context, player, speaker } from "./sound.js";
import { endOf } from "./music.js";

const EVERY = 5000; // milliseconds between two looks at the run
const FIRST = ["critic_loss", "generator_loss", "penalty", "faults"];

/** `hooks`: take(song) to open a sample in the studio; saved() when the run has saved its first state. */
export class Run {
  #timer = 0;
  #song = null;
  #source = null;
  #shown = "";
  #looking = false;
  #saved = false;
  #said = "";

  constructor(hooks) {
    this.hooks = hooks;
    const byId = (id) => document.getElementById(id);
    Object.assign(this, {
      name: byId("run-name"), about: byId("run-about"), charts: byId("run-charts"), iteration: byId("run-iteration"),
      melody: byId("run-song"), playButton: byId("run-play"), roll: byId("run-roll"), takeButton: byId("run-take"),
    });
    this.iteration.addEventListener("change", () => this.#songs());
    this.melody.addEventListener("change", () => this.#sample());
    this.playButton.addEventListener("click", () => this.#play());
    this.takeButton.addEventListener("click", () => this.#song && hooks.take(this.#song));
    window.addEventListener("resize", () => this.#draw());
  }

  show(on) {
    clearInterval(this.#timer);
    this.#stop();
    if (!on) return;
    this.look();
    this.#timer = setInterval(() => this.look(), EVERY);
  }

  /** Something to be said with what there is of the run. */
  say(text) {
    this.#said = text;
    this.about.textContent += ` ${text}`;
  }

  async look() {
    if (this.#looking) return; // a run on a slow disk: never two looks at once
    this.#looking = true;
    try {
      this.state = await json("api/run");
    } catch (error) {
      this.about.textContent = error.message;
      return;
    } finally {
      this.#looking = false;
    }
    const run = this.state;
    this.name.textContent = `Training run ${run.name}`;
    if (!run.began) {
      this.about.textContent = "It has not begun yet.";
      return;
    }
    const speed = run.speed ? `, ${run.speed.toPrecision(3)} iterations and ${Math.round(run.speed * run.examples)} examples a second` : "";
    this.about.textContent = `Iteration ${run.iteration} of ${run.iterations}, on ${run.dataset}${speed}. ${this.#said}`;
    if (run.saved && !this.#saved) {
      this.#saved = true;
      this.hooks.saved();
    }
    this.#curves(run.curves);
    const key = JSON.stringify(run.samples);
    if (key !== this.#shown) {
      this.#shown = key;
      const newest = this.iteration.selectedIndex <= 0;
      const value = this.iteration.value;
      this.iteration.replaceChildren(...[...run.samples].reverse().map(({ iteration }) => new Option(iteration, iteration)));
      if (!newest && value) this.iteration.value = value;
      this.#songs();
    }
  }

  #curves(curves) {
    const names = Object.keys(curves).filter((name) => !name.startsWith("real/"));
    const rank = (name) => (FIRST.includes(name) ? FIRST.indexOf(name) : name.startsWith("valid/") ? 30 : 20);
    names.sort((a, b) => rank(a) - rank(b) || (a < b ? -1 : 1));
    const theme = paint.colours();
    while (this.charts.children.length > names.length) this.charts.lastChild.remove();
    names.forEach((name, n) => {
      let chart = this.charts.children[n];
      if (!chart) {
        chart = document.createElement("figure");
        chart.className = "chart";
        chart.innerHTML = '<figcaption><b></b><span></span></figcaption><canvas role="img"></canvas>';
        this.charts.append(chart);
      }
      const points = curves[name];
      const real = curves[name.replace("valid/", "real/")]?.at(-1)?.[1];
      const line = name.startsWith("valid/") && real !== undefined ? real : null;
      const last = points.at(-1)[1];
      chart.querySelector("b").textContent = name.replace("valid/", "held-out ").replaceAll("_", " ");
      chart.querySelector("span").textContent = last.toPrecision(3) + (line === null ? "" : ` (pieces ${line.toPrecision(3)})`);
      const canvas = chart.querySelector("canvas");
      canvas.setAttribute("aria-label", `${name} from ${points[0][1].toPrecision(3)} to ${last.toPrecision(3)} over ${points.length} points`);
      this.#curve(canvas, points, line, theme);
    });
  }

  #curve(canvas, points, line, theme) {
    const { context: draw, width, height } = paint.sized(canvas);
    draw.clearRect(0, 0, width, height);
    const values = points.map((point) => point[1]).concat(line ?? []);
    const [low, high] = [Math.min(...values), Math.max(...values)];
    const [first, last] = [points[0][0], points.at(-1)[0]];
    const x = (at) => 2 + ((at - first) / Math.max(last - first, 1)) * (width - 4);
    const y = (value) => height - 3 - ((value - low) / (high - low || 1)) * (height - 6);
    if (line !== null) {
      draw.setLineDash([5, 4]);
      draw.strokeStyle = theme.soft;
      draw.beginPath();
      draw.moveTo(0, y(line));
      draw.lineTo(width, y(line));
      draw.stroke();
      draw.setLineDash([]);
    }
    draw.strokeStyle = theme.voices[2];
    draw.lineWidth = 1.75;
    draw.lineJoin = "round";
    draw.beginPath();
    points.forEach(([at, value], n) => (n ? draw.lineTo(x(at), y(value)) : draw.moveTo(x(at), y(value))));
    if (points.length === 1) draw.arc(x(points[0][0]), y(points[0][1]), 2, 0, 7);
    draw.stroke();
  }

  #songs() {
    const sample = this.state.samples.find(({ iteration }) => String(iteration) === this.iteration.value);
    const before = this.melody.selectedIndex;
    this.melody.replaceChildren(...(sample?.songs ?? []).map((name, n) => new Option(name.replace(/^valid-/, "held-out piece "), n, false, n === before)));
    this.#sample();
  }

  async #sample() {
    this.#stop();
    if (!this.iteration.value || !this.melody.value) return;
    this.path = `api/run/${this.iteration.value}/${this.melody.value}`;
    this.#song = await json(this.path).catch(() => null);
    this.#draw();
  }

  #draw() {
    const { context: draw, width, height } = paint.sized(this.roll);
    if (!this.#song || !width) return;
    const voices = this.#song.voices.map((voice, n) => ({ ...voice, colour: n % 8 }));
    const end = Math.max(...voices.map((voice) => endOf(voice.notes)));
    paint.small(draw, width, height, voices, { metre: this.#song.metre, key: null, end }, paint.colours());
  }

  #stop() {
    this.#source?.stop();
    this.#source = null;
    this.playButton.setAttribute("aria-label", "Play the sample");
    this.playButton.querySelector("use").setAttribute("href", "#i-play");
  }

  async #play() {
    if (this.#source) {
      this.#stop();
      return;
    }
    player.stop();
    const audio = context();
    try {
      const buffer = await audio.decodeAudioData(await bytes(`${this.path}/sound`));
      this.#source = audio.createBufferSource();
      this.#source.buffer = buffer;
    } catch (error) {
      this.about.textContent = error.message;
      return;
    }
    this.#source.connect(speaker());
    this.#source.onended = () => this.#stop();
    this.#source.start();
    this.playButton.setAttribute("aria-label", "Stop the sample");
    this.playButton.querySelector("use").setAttribute("href", "#i-pause");
  }
}
