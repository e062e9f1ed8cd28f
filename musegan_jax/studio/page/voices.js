// The list of voices: which is edited, its instrument, mute, solo, keep, take as melody.
import { about, heard, store, voicesOf, withProgram } from "./store.js";

function button(text, pressed, label, act, icon = null) {
  const made = document.createElement("button");
  made.type = "button";
  if (icon) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
    use.setAttribute("href", icon);
    svg.append(use);
    made.append(svg);
  }
  made.append(text);
  if (pressed !== null) made.setAttribute("aria-pressed", String(pressed));
  made.setAttribute("aria-label", label);
  made.title = label;
  made.addEventListener("click", act);
  return made;
}

export function showVoices(element, { keep, take }) {
  let drawn = "";
  const draw = (state) => {
    const voices = voicesOf(state);
    const on = heard(state);
    const key = JSON.stringify([voices.map((v) => [v.name, v.program, v.notes.length]), on, state.voice, state.silent, state.kept.tracks, state.chosen]);
    if (key === drawn) return;
    drawn = key;
    const focused = document.activeElement?.closest?.(".voice") ? [document.activeElement.closest(".voice").dataset.n, document.activeElement.dataset.what] : null;
    element.replaceChildren(...voices.map((voice, n) => row(state, voice, n, on[n])));
    if (focused) element.querySelector(`.voice[data-n="${focused[0]}"] [data-what="${focused[1]}"]`)?.focus();
  };

  function row(state, voice, n, on) {
    const made = document.createElement("div");
    made.className = `voice v${voice.colour}${state.voice === n ? " chosen" : ""}${on ? "" : " silent"}`;
    made.dataset.n = n;
    const name = button(voice.name, state.voice === n, `${voice.name}, ${voice.notes.length} notes: edit`, () => store.change({ voice: n }, { undo: false }));
    name.className = "name";
    const count = document.createElement("span");
    count.textContent = `${voice.notes.length} note${voice.notes.length === 1 ? "" : "s"}`;
    name.append(count);
    const instrument = document.createElement("select");
    instrument.setAttribute("aria-label", `Instrument of ${voice.name}`);
    about.instruments.forEach((each, program) => instrument.add(new Option(each, program, false, program === voice.program)));
    instrument.disabled = voice.is_drum;
    instrument.addEventListener("change", () => store.change(withProgram(store.state, n, Number(instrument.value))));
    const how = (which) => () => {
      const silent = { ...store.state.silent };
      if (silent[n] === which) delete silent[n];
      else silent[n] = which;
      store.change({ silent }, { undo: false });
    };
    const controls = document.createElement("div");
    controls.className = "row";
    controls.append(
      button("Mute", state.silent[n] === "mute", `Mute ${voice.name}`, how("mute")),
      button("Solo", state.silent[n] === "solo", `Solo ${voice.name}`, how("solo")),
    );
    if (n > 0) {
      controls.append(
        button("Keep", state.kept.tracks.includes(voice.track), `Keep ${voice.name} and ask again for the rest`, () => keep(voice.track), "#i-lock"),
        button("As melody", null, `As melody: ${voice.name}, for new answers`, () => take(n)),
      );
    }
    made.append(name, instrument, controls);
    [name, instrument, ...controls.children].forEach((each, what) => { each.dataset.what = what; });
    return made;
  }

  store.on(draw);
  draw(store.state);
}
