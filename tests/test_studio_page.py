"""The studio's page, driven in a browser as it is used."""

import io
import json
import wave
from pathlib import Path

import mido
import numpy as np
import pytest
from browser import browser, browser_path, opened, served, spot, until
from etils import epath

import musegan_jax as mg
from musegan_jax.data import midi, notation
from musegan_jax.data.readers import scores
from musegan_jax.studio import watching
from musegan_jax.studio.jobs import Worker
from musegan_jax.studio.server import Studio

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(browser_path() is None, reason="no Chromium on this machine"),
]

NOTES = "() => studio.store.state.melody.notes.map((note) => note.slice(0, 3))"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """The folder of a run."""
    return tmp_path_factory.mktemp("runs") / "mine"


@pytest.fixture(scope="module")
def visit(run):
    """Opens the page; at the end the console must have been silent."""
    said, faults = [], []
    worker = Worker(iter(()), faults.append)
    studio = Studio({"chorales": mg.load()}, worker, faults.append, FakeRun(epath.Path(run)))
    with served(studio) as address, browser() as chromium:
        yield lambda **settings: opened(chromium, address, said, **settings)
    assert worker.end(60)
    # A request without the key is one of the tests.
    assert not [text for text in said if "401" not in text] and not faults


class FakeRun(watching.Watched):
    """A run whose log is made up; its model is there once the page has looked at it."""

    saved = None

    def model(self):
        return self.saved

    def state(self):
        self.saved = mg.load()
        lines = [
            {"iteration": n, "seconds": n / 2, "critic_loss": 5 - n / 50, "valid/chord": 0.7,
             "real/chord": 0.8} for n in range(100)
        ]  # fmt: skip
        curves = watching.Curves()
        curves.add(lines)
        return {
            "name": "mine", "began": True, "iteration": 99, "iterations": 200, "examples": 48,
            "dataset": "made up", "speed": watching.speed(lines), "curves": curves.points,
            "samples": [{"iteration": 50, "songs": ["twinkle", "valid-1"]}], "saved": True,
        }  # fmt: skip

    def song(self, iteration, number):
        notes = [[0, 480, 60, 90], [480, 960, 67, 90]]
        voices = [{"name": "Tune", "program": 40, "is_drum": False, "notes": notes}]
        return {"bpm": 90, "metre": (4, 4), "voices": voices}

    def sound(self, iteration, number):
        buffer = io.BytesIO()
        with wave.open(buffer, "wb") as file:
            file.setnchannels(1)
            file.setsampwidth(2)
            file.setframerate(8000)
            file.writeframes(np.tile(np.repeat([8000, -8000], 10), 800).astype("<i2").tobytes())
        return buffer.getvalue()


def drag(page, start, *others):
    page.mouse.move(*spot(page, *start))
    page.mouse.down()
    for place in others:
        page.mouse.move(*spot(page, *place), steps=3)
    page.mouse.up()


def swipe(page, start, way):
    """A finger from a time and a pitch, by pixels."""
    x, y = spot(page, *start)
    touch = page.context.new_cdp_session(page)
    for part in range(6):
        points = [{"x": x + way[0] * part / 5, "y": y + way[1] * part / 5}]
        kind = "touchMove" if part else "touchStart"
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})


def choose(page, menu: str):
    page.click("#files summary")
    page.click(menu)


def downloaded(page, menu: str) -> bytes:
    with page.expect_download() as download:
        choose(page, menu)
    return Path(download.value.path()).read_bytes()


def answer(page, cards: int):
    page.fill("#flavours", str(cards))
    page.locator("#flavours").press("Tab")
    page.click("#answer")
    until(page, f"() => document.querySelectorAll('#cards .card').length === {cards} "
                "&& document.getElementById('progress').hidden")  # fmt: skip


def voices(page) -> list:
    return page.evaluate(
        "() => { const s = studio.store.state; "
        "return s.answers[s.chosen].voices.map((v) => v.notes.map((n) => n.slice(0, 3))); }"
    )


def test_a_tune_is_drawn_moved_stretched_and_erased(visit):
    page = visit()
    drag(page, (10, 72), (940, 72))  # draw a half note
    drag(page, (970, 67), (1420, 67))
    assert page.evaluate(NOTES) == [[0, 960, 72], [960, 1440, 67]]
    drag(page, (1100, 67), (1100 + 480, 69))  # move by a beat and up a tone
    assert page.evaluate(NOTES)[1] == [1440, 1920, 69]
    drag(page, (1915, 69), (2400, 69))  # stretch at its end
    assert page.evaluate(NOTES)[1] == [1440, 2400, 69]
    page.click("#undo")
    assert page.evaluate(NOTES)[1] == [1440, 1920, 69]
    page.keyboard.press("Control+y")
    assert page.evaluate(NOTES)[1] == [1440, 2400, 69]
    page.mouse.click(*spot(page, 1500, 69), button="right")
    assert page.evaluate(NOTES) == [[0, 960, 72]]
    # A tune stays a line: where two notes meet, the newer one stays.
    drag(page, (490, 67), (1420, 67))
    assert page.evaluate(NOTES) == [[0, 480, 72], [480, 1440, 67]]
    page.click("#undo")
    page.click("text=Erase")
    page.mouse.click(*spot(page, 100, 72))
    assert page.evaluate(NOTES) == []
    # The keyboard alone: a note, longer, moved, told in words, erased.
    page.click("text=Draw")
    page.focus("#roll")
    page.evaluate("() => { studio.roll.at = {tick: 0, pitch: 60}; }")
    for key in ("ArrowRight", "ArrowUp", "Enter", "Shift+ArrowRight", "Alt+ArrowDown"):
        page.keyboard.press(key)
    (note,) = page.evaluate(NOTES)
    assert note[0] == 120 and note[2] == 60
    assert "C4, bar 1, beat 1: note of" in page.inner_text("#status")
    page.keyboard.press("Delete")
    assert page.evaluate(NOTES) == []
    # Off the grid, then pulled to it.
    page.select_option("#snap", "0")
    drag(page, (133, 64), (610, 64))
    assert page.evaluate(NOTES)[0][0] % 120
    page.select_option("#snap", "120")
    page.click("#pull")
    assert [t % 120 for t in page.evaluate(NOTES)[0][:2]] == [0, 0]
    page.reload()  # nothing is lost
    page.locator("html[data-ready]").wait_for(state="attached")
    assert len(page.evaluate(NOTES)) == 1


def test_a_finger_draws_and_a_tune_is_played_and_recorded(visit):
    page = visit(has_touch=True)
    page.touchscreen.tap(*spot(page, 10, 71))
    assert page.evaluate(NOTES) == [[0, 480, 71]]
    assert not page.is_visible("#letters")  # a finger has none
    page = visit(has_touch=True, viewport={"width": 390, "height": 700})
    swipe(page, (480, 71), (0, -120))  # scrolls the page
    assert page.evaluate(NOTES) == [] and page.evaluate("() => scrollY") > 60
    swipe(page, (480, 71), (75, 5))
    ((start, end, pitch),) = page.evaluate(NOTES)
    assert (start, pitch) == (480, 71) and end > 1200
    page = visit()
    page.fill("#bpm", "240")
    page.locator("#bpm").press("Tab")
    page.click("#record")
    until(page, "() => studio.player.now > 480")  # after a bar that is counted in
    page.keyboard.down("s")
    until(page, "() => studio.player.now > 1200")
    page.keyboard.up("s")
    page.click("#record")
    recorded = [note for note in page.evaluate(NOTES) if note[2] == 62]
    assert len(recorded) == 1 and recorded[0][0] % 120 == recorded[0][1] % 120 == 0
    assert recorded[0][0] >= 360 and recorded[0][1] >= 960
    key = page.locator("#piano [data-pitch='60']").bounding_box()
    page.mouse.move(key["x"] + 10, key["y"] + key["height"] - 8)
    page.mouse.down()
    assert page.locator("#piano .down").count() == 1
    page.mouse.up()
    assert page.locator("#piano .down").count() == 0
    page.click("#letters")
    page.keyboard.down("s")
    assert page.locator("#piano .down").count() == 0


HEAR = """async () => {
  const meter = studio.listen(), wave = new Float32Array(meter.fftSize);
  const from = meter.context.currentTime;
  let peak = 0;
  for (let n = 0; n < 25; n++) {
    await new Promise((done) => setTimeout(done, 20));
    meter.getFloatTimeDomainData(wave);
    peak = Math.max(peak, ...wave.map(Math.abs));
  }
  return [peak, meter.context.currentTime - from, studio.player.now];
}"""


def test_answers_are_heard_kept_walked_between_and_taken(visit):
    page = visit()
    page.select_option("#melodies", label="twinkle")
    page.fill("#bpm", "40")
    answer(page, 4)
    assert page.locator(".voice").count() == 4
    # The answer is heard without a further click.
    peak, seconds, now = page.evaluate(HEAR)
    assert peak > 0.01 and seconds > 0.3 and now > 0
    for voice in page.locator(".voice").all():
        voice.get_by_role("button", name="Mute").click()
    until(page, f"async () => (await ({HEAR})())[0] < 0.002")
    page.locator(".voice").nth(1).get_by_role("button", name="Solo").click()
    until(page, f"async () => (await ({HEAR})())[0] > 0.005")
    page.locator(".voice").nth(1).get_by_role("button", name="Solo").click()
    page.get_by_role("button", name="Pause Flavour 1").click()
    assert page.evaluate("() => !studio.player.playing")
    page.uncheck("#at-once")
    page.evaluate("() => { studio.player.seek(0); studio.roll.fit(); scrollTo(0, 0); }")
    # An instrument, and a generated note: erased, by choosing its voice.
    page.locator(".voice select").nth(3).select_option(label="Tuba")
    page.locator("#cards .card").nth(1).get_by_role("button", name="Choose").click()
    assert page.locator(".voice select").nth(3).input_value() == "58"  # it stays with the voice
    page.locator("#cards .card").nth(0).get_by_role("button", name="Choose").click()
    page.locator(".voice .name").nth(3).click()
    before = voices(page)
    x, y = spot(page, (before[2][0][0] + before[2][0][1]) / 2, before[2][0][2])
    page.mouse.click(x, y, button="right")
    edited = voices(page)
    assert edited[2] == before[2][1:] and edited[:2] == before[:2]
    # Keep the bass, as it was edited, and the second bar.
    page.locator(".voice").nth(3).get_by_role("button", name="Keep").click()
    box = page.locator("#roll").bounding_box()
    page.mouse.move(spot(page, 2000, 60)[0], box["y"] + 12)
    page.mouse.down()
    page.mouse.move(spot(page, 3700, 60)[0], box["y"] + 12, steps=3)
    page.mouse.up()
    assert "Bass, bars 2 to 2" in page.inner_text("#kept")
    page.fill("#temperature", "2")
    page.fill("#seed", "77")
    page.locator("#seed").press("Tab")
    answer(page, 2)
    again = voices(page)
    assert again[2] == edited[2] and again[:2] != edited[:2]

    def bar(notes):
        return [[max(s, 1920), min(e, 3840), p] for s, e, p in notes if s < 3840 and e > 1920]

    assert [bar(voice) for voice in again] == [bar(voice) for voice in edited]
    assert page.evaluate("() => studio.store.state.answers[0].voices[2].program") == 58
    # Between two flavours, and nine between four.
    page.locator("#walk").fill("0.25")
    until(page, "() => document.querySelectorAll('#cards .card').length === 3")
    until(page, "() => document.getElementById('progress').hidden")
    assert "25 %" in page.locator("#cards .card").nth(2).inner_text()
    assert bar(voices(page)[0]) == bar(edited[0])
    answer(page, 4)
    page.click("#grid")
    until(page, "() => document.querySelectorAll('#between-cards .card').length === 9")
    page.locator("#between-cards .card").nth(4).get_by_role("button", name="Choose").click()
    tenor = voices(page)[1]
    page.locator(".voice").nth(2).get_by_role("button", name="As melody").click()
    assert page.evaluate(NOTES) == tenor
    page.click("#undo")
    assert page.locator("#between-cards .card").count() == 9


def test_a_loop_is_played_as_loud_as_wanted_and_a_midi_keyboard_plays(visit):
    page = visit()
    page.click("#hint-tune")
    assert not page.is_visible("#hint") and len(page.evaluate(NOTES)) > 20
    page.fill("#bpm", "400")
    page.click("#loop")
    box = page.locator("#roll").bounding_box()
    page.mouse.move(spot(page, 2000, 60)[0], box["y"] + 12)
    page.mouse.down()
    page.mouse.move(spot(page, 3700, 60)[0], box["y"] + 12, steps=3)
    page.mouse.up()
    assert not page.evaluate("() => studio.store.state.kept.spans.length")
    page.evaluate("() => { studio.seen = []; setInterval(() => studio.player.playing && "
                  "studio.seen.push(studio.player.now), 10); }")  # fmt: skip
    page.keyboard.press("Space")
    # Bar 2 lasts 0.6 seconds.
    again = "() => studio.seen.filter((now, n) => n && now < studio.seen[n - 1] - 900).length"
    until(page, f"() => ({again})() > 1")
    seen = page.evaluate("() => studio.seen")
    # It begins a moment after the key, and is told a moment before it is heard.
    assert min(seen) > 1920 - 250 and max(seen) < 3840 + 50
    assert page.evaluate(HEAR)[0] > 0.01
    page.fill("#volume", "0")
    until(page, f"async () => (await ({HEAR})())[0] < 0.001")
    page.fill("#volume", "1")
    page.click("#loop")
    until(page, "() => studio.player.now > 3840 + 480")
    page.keyboard.press("Space")
    page.click("#metronome")  # heard alone, in a loop without a note
    page.click("#loop")
    page.click("#clear")
    page.locator("#roll").press("Space")
    # Its clicks are short: what is heard in a moment may lie between two.
    until(page, f"async () => (await ({HEAR})())[0] > 0.01")
    page.locator("#roll").press("Space")
    page.evaluate(  # as a browser gives it that has one
        """() => {
          studio.input = {};
          navigator.requestMIDIAccess = async () => ({inputs: new Map([["one", studio.input]])});
        }"""
    )
    page.click("#midi-in")
    until(page, "() => Boolean(studio.input.onmidimessage)")
    page.evaluate("() => studio.input.onmidimessage({data: [0x90, 64, 100]})")
    assert page.get_attribute("#piano .down", "data-pitch") == "64"
    page.evaluate("() => studio.input.onmidimessage({data: [0x80, 64, 0]})")
    assert page.locator("#piano .down").count() == 0
    wide = page.evaluate("() => studio.roll.perBeat")
    page.click("#zoom-in")
    assert page.evaluate("() => studio.roll.perBeat") > wide
    page.click("#help")
    page.get_by_role("button", name="Close").click()


def test_files_are_opened_saved_and_downloaded(visit, tmp_path):
    page = visit()
    file = mido.MidiFile(ticks_per_beat=96)
    for name, pitch in (("Bass", 40), ("Lead melody", 72), ("Pad", 55)):
        on = mido.Message("note_on", note=pitch, velocity=80)
        off = mido.Message("note_off", note=pitch, time=96)
        file.tracks.append(mido.MidiTrack([mido.MetaMessage("track_name", name=name), on, off]))
    file.save(tmp_path / "three.mid")
    page.set_input_files("#file", tmp_path / "three.mid")
    until(page, "() => studio.store.state.melody.notes.length")
    assert page.evaluate(NOTES) == [[0, 480, 72]]
    page.select_option("#track", "0")
    assert page.evaluate(NOTES) == [[0, 480, 40]]
    page.evaluate(  # dropped onto the page
        """(bytes) => {
          const data = new DataTransfer();
          data.items.add(new File([new Uint8Array(bytes)], "dropped.mid"));
          window.dispatchEvent(new DragEvent("drop", {dataTransfer: data, cancelable: true}));
        }""",
        list((tmp_path / "three.mid").read_bytes()),
    )
    until(page, "() => studio.store.state.melody.notes[0][2] === 72")
    page.select_option("#track", "0")  # so that the name of the next is news
    score = midi.parse(mido.MidiFile(tmp_path / "three.mid"), "three")
    notation.write(score, tmp_path / "three.musicxml", "three", 4)
    page.set_input_files("#file", tmp_path / "three.musicxml")
    until(page, "() => document.getElementById('status').textContent.startsWith('Lead')")
    page.select_option("#track", "2")
    assert page.evaluate(NOTES) == [[0, 480, 55]]
    page.select_option("#melodies", label="korobeiniki")
    page.select_option("#metre", label="3/4")
    page.select_option("#key", label="A minor")
    page.uncheck("#at-once")
    answer(page, 1)
    page.locator("#bpm").fill("93")
    page.locator("#bpm").press("Tab")
    song = mido.MidiFile(file=io.BytesIO(downloaded(page, "#get-midi")))
    names = [m.name for t in song.tracks for m in t if m.type == "track_name"]
    assert names == ["Melody", "Alto", "Tenor", "Bass"]
    marks = {message.type: message for message in song.tracks[0]}
    assert round(mido.tempo2bpm(marks["set_tempo"].tempo)) == 93
    assert marks["time_signature"].numerator == 3 and marks["key_signature"].key == "Am"
    (read,) = scores.from_bytes(downloaded(page, "#get-xml"), ".musicxml", "it")
    assert [part.name for part in read.parts] == names and read.meters[0][1:] == (3, 4)
    notes = [len(part.notes) for part in read.parts]
    assert notes[1:] == [len(voice) for voice in voices(page)]
    with wave.open(io.BytesIO(downloaded(page, "#get-wav"))) as sound:
        assert np.abs(np.frombuffer(sound.readframes(2**20), "<i2")).max() > 1000
    picture = downloaded(page, "#get-png")
    assert picture.startswith(b"\x89PNG") and len(picture) > 5000
    saved = downloaded(page, "#save")
    made = voices(page)
    choose(page, "#fresh")
    assert page.evaluate(NOTES) == []
    (tmp_path / "mine.json").write_bytes(saved)
    page.set_input_files("#file", tmp_path / "mine.json")
    until(page, "() => studio.store.state.answers.length")
    assert voices(page) == made
    damaged = json.loads(saved) | {"bpm": -5}
    (tmp_path / "mine.json").write_text(json.dumps(damaged))
    page.set_input_files("#file", tmp_path / "mine.json")
    until(page, "() => document.getElementById('status').textContent.includes('not a session')")
    assert voices(page) == made
    # The server's sound plays, too.
    page.select_option("#timbre", "server")
    page.click("#play")
    until(page, "() => studio.player.playing && studio.player.buffered && studio.player.now > 60")
    assert page.evaluate(HEAR)[0] > 0.01
    # It goes on at the same place with what is changed: other sound, a loop, the simple sound.
    page.evaluate(
        """() => {
          studio.stops = 0;
          studio.sounds = new Set();
          setInterval(() => {
            studio.stops += !studio.player.playing;
            studio.sounds.add(studio.player.buffer);
          }, 5);
        }"""
    )
    for sounds, change in enumerate((
        lambda: page.locator(".voice select").first.select_option(label="Tuba"),
        lambda: page.locator(".voice").nth(1).get_by_role("button", name="Mute").click(),
        lambda: page.select_option("#timbre", "here"),
        lambda: page.select_option("#timbre", "server"),
    ), 2):  # fmt: skip
        before = page.evaluate("() => studio.player.now")
        change()
        if sounds < 5:
            until(page, f"() => studio.sounds.size === {sounds}")
        else:
            until(page, "() => studio.player.buffered")
        assert page.evaluate("() => studio.player.now") > before
    page.evaluate(
        """() => {
          const { start } = AudioBufferSourceNode.prototype;
          AudioBufferSourceNode.prototype.start = function (...given) {
            if (this.loop) studio.spare = this.buffer.duration - this.loopEnd;
            start.apply(this, given);
          };
        }"""
    )
    page.click("#loop")
    page.evaluate("() => studio.roll.hooks.mark([0, 40 * 1440])")  # longer than the sound
    assert page.evaluate("() => studio.player.buffered && studio.stops === 0 && studio.spare >= 0")
    assert page.evaluate(HEAR)[0] > 0.01
    page.reload()  # what is muted stays so
    page.locator("html[data-ready]").wait_for(state="attached")
    assert page.evaluate("() => studio.store.state.silent") == {"1": "mute"}


@pytest.mark.parametrize("settings", [
    {"color_scheme": "light"},
    {"color_scheme": "dark", "viewport": {"width": 390, "height": 844}, "has_touch": True},
])  # fmt: skip
def test_it_is_accessible_and_fits(visit, settings):
    from axe_playwright_python.sync_playwright import Axe

    page = visit(**settings)
    page.select_option("#melodies", label="ode to joy")
    answer(page, 2)
    page.evaluate(
        """() => {
          const slider = document.getElementById("walk");
          const place = () => Math.round(slider.getBoundingClientRect().top + scrollY);
          studio.places = [place()];
          setInterval(() => studio.places.push(place()), 5);
        }"""
    )
    page.locator("#walk").fill("0.25")
    until(page, "() => document.querySelectorAll('#cards .card').length === 3 "
                "&& document.getElementById('progress').hidden")  # fmt: skip
    places = page.evaluate("() => studio.places")
    assert max(places) - min(places) <= 2  # the slider stays under the hand
    page.click("#files summary")
    for view in ("studio", "run"):
        if view == "run":
            page.keyboard.press("Escape")
            page.click("[data-view=run]")
            until(page, "() => document.querySelectorAll('.chart').length === 2")
            assert "Iteration 99 of 200" in page.inner_text("#run-about")
            # The run's model, which was not there when the page was opened first.
            until(page, "() => document.querySelectorAll('#model option').length === 2")
            page.select_option("#run-song", label="held-out piece 1")
            page.click("#run-play")
            until(page, f"async () => (await ({HEAR})())[0] > 0.01")
            page.click("#run-take")
            assert page.evaluate(NOTES) == [[0, 480, 60], [480, 960, 67]]
            page.click("[data-view=run]")
        # Colours change gradually: half-way, they have too little contrast.
        page.evaluate("() => Promise.all(document.getAnimations().map((each) => each.finished))")
        found = Axe().run(page).response["violations"]
        assert [(each["id"], [n["target"] for n in each["nodes"]]) for each in found] == []
        wide = page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth")
        assert wide <= 0


def test_on_a_small_laptop_the_answers_are_in_view(visit):
    page = visit(viewport={"width": 1280, "height": 800})
    page.select_option("#melodies", label="ode to joy")
    answer(page, 4)
    for head in page.locator("#cards .card .head").all():
        box = head.bounding_box()
        assert box["y"] > 0 and box["y"] + box["height"] <= 800


def test_without_the_key_it_says_what_to_do(visit):
    page = visit()
    page.evaluate("() => { sessionStorage.clear(); localStorage.clear(); }")
    page.reload()
    until(page, "() => document.getElementById('status').textContent.includes('whole address')")
