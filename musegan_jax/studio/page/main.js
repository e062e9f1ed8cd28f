// The page: puts the parts together, and wires the controls.
import { Answers } from "./answers.js";
import { cancel, onProgress } from "./asking.js";
import { METRES, barTicks, clamp, keyName, position, pulled } from "./music.js";
import { colours } from "./paint.js";
import { Piano } from "./piano.js";
import { Recorder } from "./record.js";
import { Roll } from "./roll.js";
import { Run } from "./run.js";
import { bytes, json } from "./server.js";
import * as session from "./session.js";
import { context, listen, player, touch } from "./sound.js";
import { about, blank, heard, songEnd, store, voicesOf, withNotes } from "./store.js";
import { loop, looping, marked, metronome, setLoop, showTransport } from "./transport.js";
import { showVoices } from "./voices.js";

const byId = (id) => document.getElementById(id);
const on = (id, kind, act) => byId(id).addEventListener(kind, act);
let tool = "draw";
const narrow = matchMedia("(max-width: 760px)"); // as in style.css
let opened = null; // the tracks of the file that was opened last

function tell(text, wrong = false) {
  byId("status").textContent = text;
  byId("status").classList.toggle("wrong", wrong);
}

/** Run something that may fail, and say so. */
const trying = (act) => async (...given) => {
  try {
    await act(...given);
  } catch (error) {
    tell(error.message, true);
  }
};

async function begin() {
  try {
    Object.assign(about, await json("api/about"));
  } catch (error) {
    tell(error.message, true);
    return;
  }
  store.change({ ...blank(), model: about.models[0].name, ...session.fromBrowser() }, { undo: false });
  const grid = () => Number(byId("snap").value);
  const edit = (notes, join = null) => store.change(withNotes(store.state, store.state.voice, notes), { join });
  const current = () => voicesOf(store.state)[store.state.voice] ?? voicesOf(store.state)[0];

  const roll = new Roll(byId("roll"), byId("roll-frame"), {
    voices: () => {
      const sounding = heard(store.state);
      return voicesOf(store.state).map((voice, n) => ({ ...voice, silent: !sounding[n] }));
    },
    chosen: () => store.state.voice,
    sheet: () => store.state,
    grid,
    tool: () => tool,
    cursor: () => Math.max(player.now, 0),
    kept: () => store.state.kept.spans,
    looped: marked,
    edit,
    touch: (pitch) => touch(pitch, current().program, current().is_drum),
    seek: (tick) => player.seek(tick),
    mark: (span, join) => (looping() ? loopBars(span) : keepBars(span, join)),
    tell,
  });
  const recorder = new Recorder({
    sheet: () => store.state, grid, notes: () => current().notes, edit,
    changed: () => {
      byId("record").setAttribute("aria-pressed", String(recorder.on));
      if (recorder.on && narrow.matches) byId("piano").scrollIntoView({ block: "center" }); // to be played
      show(store.state);
    },
  });
  const piano = new Piano(byId("piano"), {
    program: () => current().program,
    pressed: (pitch, velocity) => recorder.pressed(pitch, velocity),
    released: (pitch) => recorder.released(pitch),
  });
  const answers = new Answers({
    play: () => playFrom(0), stop: () => player.stop(),
    first: () => {
      roll.fit({ beginning: false });
      if (store.state.atOnce && !player.playing && !recorder.on) playFrom(0);
    },
  });
  const run = new Run({ take, saved: trying(renewModels) });
  showVoices(byId("voices"), { keep: keepVoice, take: takeVoice });

  player.song = () => {
    const { state } = store;
    return {
      voices: voicesOf(state), heard: heard(state), bpm: state.bpm, metre: state.metre, end: songEnd(state),
      clicks: metronome() || recorder.on, endless: recorder.on, loop: recorder.on ? null : loop(),
    };
  };

  // --- playing

  let sound = { key: "", buffer: null };
  let asked = 0; // how often sound was asked for: only the newest is played
  let pause = 0;
  async function serverSound() {
    const song = session.song(store.state);
    const key = JSON.stringify(song);
    if (sound.key !== key) {
      tell("Making the sound …");
      const data = await bytes("api/sound", song);
      const buffer = await context().decodeAudioData(data);
      sound = { key, buffer }; // one only: an hour is a gigabyte
      tell("");
      return buffer;
    }
    return sound.buffer;
  }

  const byServer = () => byId("timbre").value === "server";
  const wanted = async () => (byServer() && session.song(store.state).voices.length ? serverSound() : null);

  /** Other sound for what plays now: the old one goes on until it is there. */
  const renewSound = trying(async () => {
    if (!player.playing || recorder.on) return;
    const own = ++asked;
    const buffer = await wanted();
    if (own === asked && player.playing && !recorder.on && buffer !== player.buffer) player.play({ buffer });
  });

  async function play() {
    if (player.playing) {
      player.stop();
      return;
    }
    context(); // before anything is awaited: browsers let sound begin only at once after a click
    if (player.cursor >= songEnd(store.state)) player.cursor = 0;
    const own = ++asked;
    const buffer = await wanted();
    if (own === asked) player.play({ buffer });
  }

  function playFrom(tick) {
    player.stop();
    player.cursor = tick;
    trying(play)();
  }

  const frame = () => {
    const [bar, beat] = position(Math.max(player.now, 0), store.state.metre);
    byId("clock").value = player.now < 0 ? "count" : `${bar} . ${beat}`;
    if (player.playing) {
      roll.follow(Math.max(player.now, 0));
      answers.cursor();
      requestAnimationFrame(frame);
    }
    roll.draw();
  };
  player.addEventListener("change", () => {
    answers.playing();
    if (!player.playing) answers.draw();
    frame();
  });

  // --- keeping and taking

  function keepVoice(track) {
    const { kept } = store.state;
    const tracks = kept.tracks.includes(track) ? kept.tracks.filter((each) => each !== track) : [...kept.tracks, track];
    store.change({ kept: { ...kept, tracks } });
  }

  function keepBars(span, join) {
    const { kept, chosen } = store.state;
    if (span && chosen < 0) {
      tell("First ask for an answer; then its bars can be kept.");
      return;
    }
    if (span || kept.spans.length) store.change({ kept: { ...kept, spans: span ? [span] : [] } }, { join });
  }

  function loopBars(span) {
    setLoop(span);
    roll.draw();
  }

  function takeVoice(n) {
    const voice = voicesOf(store.state)[n];
    store.change({
      melody: { ...store.state.melody, program: voice.program, notes: voice.notes },
      answers: [], chosen: -1, voice: 0, kept: { tracks: [], spans: [] }, silent: {},
    });
    tell(`${voice.name} is the melody now: Answer gives it new voices. Undo brings the old one back.`);
  }

  function take(song) {
    const [tune] = song.voices;
    store.change({
      ...store.state, bpm: clamp(Math.round(song.bpm), ...about.tempos), melody: { name: "Melody", program: tune.program, notes: tune.notes },
      answers: [], chosen: -1, voice: 0, kept: { tracks: [], spans: [] }, silent: {},
    });
    view("studio");
    roll.fit();
  }

  /** A melody from a file or a list: its notes, tempo, metre, key. */
  function setMelody(from, track) {
    const { name, program, notes } = from.tracks[track];
    const metre = METRES.find((each) => String(each) === String(from.metre)) ?? [4, 4];
    player.stop({ rewind: true });
    store.change({
      bpm: from.bpm, metre, key: from.key, melody: { name: "Melody", program, notes }, voice: 0,
      answers: [], chosen: -1, kept: { tracks: [], spans: [] }, silent: {},
    });
    roll.fit();
    tell([`${name}: ${notes.length} notes.`, ...(from.remarks ?? [])].join(" "));
  }

  const openFile = trying(async (file) => {
    const found = await session.open(file);
    opened = found;
    byId("track-choice").hidden = !found || found.tracks.length < 2;
    if (!found) {
      roll.fit();
      return;
    }
    byId("track").replaceChildren(...found.tracks.map((track, n) =>
      new Option(`${n + 1} ${track.name} (${track.notes.length})`, n, false, n === found.likely)));
    setMelody(found, found.likely);
  });

  // --- controls

  about.melodies.forEach((melody, n) => byId("melodies").add(new Option(melody.name.replaceAll("_", " "), n)));
  showModels();
  METRES.forEach((metre, n) => byId("metre").add(new Option(metre.join("/"), n)));
  byId("key").add(new Option("any", ""));
  about.keys.forEach((key) => byId("key").add(new Option(keyName(key), key)));
  byId("timbre").options[1].text = about.instruments_sound ? "Instruments" : "By the server";
  byId("midi-in").hidden = !navigator.requestMIDIAccess;
  byId("views").hidden = !about.watched;

  showTransport({ tell, toggle: trying(play) });
  for (const id of ["record", "hint-record"]) on(id, "click", () => recorder.toggle());
  on("hint-tune", "click", () => setMelody(about.melodies.find(({ name }) => name === "ode_to_joy") ?? about.melodies[0], 0));
  on("bpm", "change", (event) => {
    const bpm = clamp(Number(event.target.value) || 100, ...about.tempos);
    store.change({ bpm });
    event.target.value = bpm;
  });
  on("metre", "change", (event) => store.change({ metre: METRES[event.target.value] }));
  on("key", "change", (event) => store.change({ key: event.target.value || null }));
  on("timbre", "change", renewSound);
  for (const button of document.querySelectorAll("[data-tool]")) {
    button.addEventListener("click", () => {
      tool = button.dataset.tool;
      for (const each of document.querySelectorAll("[data-tool]")) each.setAttribute("aria-pressed", String(each === button));
    });
  }
  on("pull", "click", () => {
    edit(pulled(current().notes, grid() || 120));
    tell(`${current().name} is on the grid.`);
  });
  on("undo", "click", () => store.undo());
  on("redo", "click", () => store.redo());
  on("melodies", "change", (event) => {
    if (event.target.value !== "") setMelody(about.melodies[event.target.value], 0);
    event.target.value = "";
    byId("track-choice").hidden = true;
  });
  on("track", "change", (event) => setMelody(opened, Number(event.target.value)));
  on("clear", "click", () => edit([]));
  on("zoom-in", "click", () => roll.zoom(1.3));
  on("zoom-out", "click", () => roll.zoom(1 / 1.3));
  on("letters", "click", (event) => {
    piano.letters = !piano.letters;
    event.currentTarget.setAttribute("aria-pressed", String(piano.letters));
  });
  on("octave-down", "click", () => piano.shift(-1));
  on("octave-up", "click", () => piano.shift(1));
  on("midi-in", "click", trying(async () => {
    const count = await piano.midi().catch(() => {
      throw new Error("the browser gave no MIDI keyboard");
    });
    tell(count ? "The MIDI keyboard plays." : "No MIDI keyboard is connected yet; it will play once it is.");
  }));
  on("ask", "submit", (event) => {
    event.preventDefault();
    if (!store.state.melody.notes.length) {
      tell("Draw or play a melody first, or choose a built-in one.", true);
      return;
    }
    context(); // a click is what lets the answer be played when it comes
    answers.flavours();
  });
  on("cancel", "click", cancel);
  on("model", "change", (event) => store.change({ model: event.target.value }));
  on("flavours", "change", (event) => store.change({ flavours: clamp(Math.round(Number(event.target.value)) || 1, 1, 8) }));
  on("temperature", "input", (event) => store.change({ temperature: Number(event.target.value) }, { join: "temperature" }));
  on("seed", "change", (event) => store.change({ seed: clamp(Math.round(Number(event.target.value)) || 0, 0, 2 ** 32 - 1) }));
  on("at-once", "change", (event) => store.change({ atOnce: event.target.checked }, { undo: false }));
  on("renew", "change", (event) => store.change({ renew: event.target.checked }));
  on("get-midi", "click", trying(session.midi));
  on("get-wav", "click", trying(async () => {
    tell("Making the sound …");
    await session.wav();
    tell("");
  }));
  on("get-xml", "click", trying(async () => {
    tell("Writing the score …");
    tell(await session.musicxml());
  }));
  on("get-png", "click", trying(session.png));
  on("save", "click", session.save);
  on("load", "click", () => byId("file").click());
  on("file", "change", (event) => {
    const [file] = event.target.files;
    event.target.value = "";
    if (file) openFile(file);
  });
  on("fresh", "click", () => {
    player.stop({ rewind: true });
    store.change({ ...blank(), model: store.state.model });
    tell("A new session; undo brings the old one back.");
  });
  on("theme", "click", () => theme(!document.documentElement.classList.contains("dark")));
  on("help", "click", () => byId("help-dialog").showModal());
  byId("files").addEventListener("click", (event) => {
    if (event.target.closest("button")) byId("files").open = false;
  });
  document.addEventListener("click", (event) => {
    if (!event.target.closest("#files")) byId("files").open = false;
  });

  function view(name) {
    byId("studio").hidden = name !== "studio";
    byId("run").hidden = name !== "run";
    for (const button of document.querySelectorAll("[data-view]")) button.setAttribute("aria-pressed", String(button.dataset.view === name));
    run.show(name === "run");
    if (name === "run") player.stop();
    else roll.layout();
  }
  for (const button of document.querySelectorAll("[data-view]")) button.addEventListener("click", () => view(button.dataset.view));

  let dragged = 0;
  window.addEventListener("dragenter", () => { byId("drop").hidden = ++dragged <= 0; });
  window.addEventListener("dragleave", () => { byId("drop").hidden = --dragged <= 0; });
  window.addEventListener("dragover", (event) => event.preventDefault());
  window.addEventListener("drop", (event) => {
    event.preventDefault();
    dragged = 0;
    byId("drop").hidden = true;
    if (event.dataTransfer.files[0]) openFile(event.dataTransfer.files[0]);
  });

  window.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=range]):not([type=checkbox]), select, textarea, dialog");
    const control = event.ctrlKey || event.metaKey;
    if (control && event.code === "KeyZ" && !typing) event.shiftKey ? store.redo() : store.undo();
    else if (control && event.code === "KeyY" && !typing) store.redo();
    else if (event.key === "Escape") {
      byId("files").open = false;
      return;
    } else if (control || event.altKey || typing) return;
    else if (event.code === "Space" && !event.target.closest("button, summary, input")) trying(play)();
    else if (event.code === "Home") player.seek(0);
    else if (event.code === "KeyR" && !event.repeat && piano.letters) recorder.toggle();
    else return;
    event.preventDefault();
  });

  // --- what the state shows

  onProgress(({ busy, done = 0, total = 1, text, wrong = false }) => {
    byId("cancel").hidden = !busy;
    byId("progress").hidden = !busy;
    byId("progress").max = total;
    byId("progress").value = done;
    tell(text || (busy ? `${done} of ${total}` : ""), wrong);
  });

  function show(state) {
    const values = { bpm: state.bpm, key: state.key ?? "", flavours: state.flavours, temperature: state.temperature, seed: state.seed, model: state.model };
    for (const [id, value] of Object.entries(values)) if (byId(id) !== document.activeElement || byId(id).tagName === "SELECT") byId(id).value = value;
    byId("metre").value = METRES.findIndex((metre) => String(metre) === String(state.metre));
    byId("renew").checked = state.renew;
    byId("at-once").checked = state.atOnce;
    byId("hint").hidden = state.melody.notes.length > 0 || state.answers.length > 0 || recorder.on;
    byId("temperature-value").value = state.temperature.toFixed(1);
    byId("undo").disabled = !store.can.undo;
    byId("redo").disabled = !store.can.redo;
    const names = voicesOf(state).filter((voice) => state.kept.tracks.includes(voice.track)).map((voice) => voice.name);
    const bars = state.kept.spans.map(([start, end]) => `bars ${start / barTicks(state.metre) + 1} to ${end / barTicks(state.metre)}`);
    const keeping = state.chosen >= 0 && (names.length || bars.length);
    byId("kept").hidden = !keeping;
    byId("kept").textContent = keeping ? `Kept: ${[...names, ...bars].join(", ")}. The rest is asked again, to go with it.` : "";
    byId("answer").textContent = keeping ? "Answer the rest" : "Answer";
  }

  store.on((state, before) => {
    if (state.voice && !voicesOf(state)[state.voice]) {
      store.change({ voice: 0 }, { undo: false });
      return;
    }
    show(state);
    if (state.silent !== before.silent) player.level();
    if (player.playing && byServer() && ["melody", "answers", "chosen", "silent", "bpm"].some((part) => state[part] !== before[part])) {
      clearTimeout(pause);
      pause = setTimeout(renewSound, 250); // once, after a drag
    }
    roll.layout();
  });

  function theme(dark) {
    document.documentElement.classList.toggle("dark", dark);
    roll.theme = colours();
    roll.draw();
    answers.draw();
  }
  const wish = matchMedia("(prefers-color-scheme: dark)");
  wish.addEventListener("change", () => theme(wish.matches));
  theme(wish.matches);

  // On a phone what is seldom needed is folded.
  const fold = () => document.querySelectorAll(".fold").forEach((each) => { each.open = !narrow.matches; });
  narrow.addEventListener("change", fold);
  fold();

  function showModels() {
    byId("model").replaceChildren(...about.models.map(({ name }) => new Option(name, name, false, name === store.state.model)));
  }

  /** The watched run has saved its first state: its model can be asked now. */
  async function renewModels() {
    const before = about.models.length;
    about.models = (await json("api/about")).models;
    showModels();
    if (about.models.length > before) run.say(`Its model can be chosen in the studio now: ${about.models.at(-1).name}.`);
  }

  session.keepInBrowser();
  show(store.state);
  answers.show();
  roll.fit();
  roll.at.pitch = 67;
  // For the tests, and for the curious.
  window.studio = { store, player, listen, roll };
  document.documentElement.dataset.ready = "true";
}

begin();
