"""The routes: the page, answers as they come, files, a run that is watched."""

import asyncio
import json
import mimetypes
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from importlib import resources
from pathlib import Path
from typing import Any

from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

import musegan_jax
from musegan_jax.data import melodies
from musegan_jax.errors import UserError
from musegan_jax.models.model import Model
from musegan_jax.rendering import audio
from musegan_jax.studio import answering, asking, songs
from musegan_jax.studio.guard import Guard
from musegan_jax.studio.jobs import Full, Job, Worker
from musegan_jax.studio.watching import Watched

MOST_SOUNDS = 64  # songs that may wait to be played; each holds its notes until then


class Studio:
    """What the routes share."""

    def __init__(
        self,
        models: Mapping[str, Model],
        worker: Worker,
        report: Callable[[BaseException], None],
        watched: Watched | None = None,
    ) -> None:
        """`models` by the names that the page shows, the first to begin with.

        The watched run's model is one of them as soon as the run has saved a state.
        """
        self._models, self.worker, self.watched = models, worker, watched
        self._report = report
        self._reading = asyncio.Semaphore(1)
        # One thread for all sounds: the player keeps some 50 MB for each that it was ever used in.
        self._player = ThreadPoolExecutor(1, "sound")
        self._sounds = 0
        self._about = _about(watched is not None)
        self._page = _page()

    def app(self, token: str, hosts: frozenset[str] | None) -> Guard:
        """The application; arguments as for `Guard`."""
        routes = [
            Route("/", self.page),
            Route("/page/{name}", self.page),
            Route("/api/about", self.about),
            Route("/api/answers", self.answers, methods=["POST"]),
            Route("/api/opened", self.opened, methods=["POST"]),
            Route("/api/midi", self.midi, methods=["POST"]),
            Route("/api/musicxml", self.musicxml, methods=["POST"]),
            Route("/api/sound", self.sound, methods=["POST"]),
            Route("/api/run", self.run),
            Route("/api/run/{iteration:int}/{number:int}", self.sample),
            Route("/api/run/{iteration:int}/{number:int}/sound", self.sample_sound),
        ]
        handlers: Mapping[Any, Any] = {
            UserError: _refused,
            HTTPException: _http_error,
            Exception: self._fault,
        }
        return Guard(Starlette(routes=routes, exception_handlers=handlers), token, hosts)

    def models(self) -> Mapping[str, Model]:
        """The models by name; of the watched run, the newest that it has saved."""
        saved = None if self.watched is None else self.watched.model()
        if self.watched is None or saved is None:
            return self._models
        name = self.watched.workdir.name
        return {**self._models, name + (" (watched)" if name in self._models else ""): saved}

    async def page(self, request: Request) -> Response:
        """A file of the page: looked up among those that there are, not on the disk."""
        name = request.path_params.get("name", "index.html")
        if name not in self._page:
            raise HTTPException(404)
        content, kind = self._page[name]
        return Response(content, media_type=kind)

    async def about(self, request: Request) -> Response:
        """Models, melodies, instruments."""
        models = await run_in_threadpool(self.models)
        about = [answering.about(model, name) for name, model in models.items()]
        return JSONResponse({**self._about, "models": about})

    async def answers(self, request: Request) -> Response:
        """Answers, a line of JSON each, as they are made; who closes the connection cancels."""
        ask = asking.ask(await _body(request))
        models = await run_in_threadpool(self.models)
        if ask.model not in models:
            raise UserError("there is no such model here (any more): reload the page")
        model = models[ask.model]
        try:
            job = self.worker.submit(Job(lambda: answering.answers(model, ask)))
        except Full:
            return JSONResponse({"error": "too many wait already: try again in a while"}, 503)

        async def lines() -> AsyncIterator[str]:
            async for result in job.results(self.worker.ahead):
                yield json.dumps(result) + "\n"

        return StreamingResponse(lines(), media_type="application/x-ndjson")

    async def opened(self, request: Request) -> Response:
        """The tracks of a MIDI file or a score; one is read at a time."""
        body = await _body(request)
        async with self._reading:
            return JSONResponse(await run_in_threadpool(songs.opened, body))

    async def midi(self, request: Request) -> Response:
        """A song as a MIDI file."""
        song = asking.song(await _body(request))
        return Response(await run_in_threadpool(songs.midi_bytes, song), media_type="audio/midi")

    async def musicxml(self, request: Request) -> Response:
        """A song as a score, in JSON with what had to be moved; one is written at a time."""
        song = asking.song(await _body(request))
        async with self._reading:
            return JSONResponse(await run_in_threadpool(songs.musicxml, song))

    async def sound(self, request: Request) -> Response:
        """A song as a WAV file; one is made at a time."""
        song = asking.song(await _body(request))
        if self._sounds >= MOST_SOUNDS:
            return JSONResponse({"error": "too many wait already: try again in a while"}, 503)
        self._sounds += 1
        try:
            folder = tempfile.TemporaryDirectory()
            path = Path(folder.name) / "song.wav"
            try:
                await self._play(songs.write_wav, song, path)
            except BaseException:
                folder.cleanup()
                raise
        finally:
            self._sounds -= 1
        return FileResponse(path, media_type="audio/wav", background=BackgroundTask(folder.cleanup))

    async def run(self, request: Request) -> Response:
        """The run that is watched."""
        return JSONResponse(await run_in_threadpool(self._run.state))

    async def sample(self, request: Request) -> Response:
        """The voices of a sample."""
        return JSONResponse(await run_in_threadpool(self._run.song, *_numbers(request)))

    async def sample_sound(self, request: Request) -> Response:
        """The sound of a sample; one is made at a time."""
        sound = await self._play(self._run.sound, *_numbers(request))
        return Response(sound, media_type="audio/wav")

    async def _play(self, make: Callable[..., Any], *arguments: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._player, make, *arguments)

    @property
    def _run(self) -> Watched:
        if self.watched is None:
            raise UserError("no run is watched: begin the studio with --watch RUN")
        return self.watched

    async def _fault(self, request: Request, error: Exception) -> Response:
        self._report(error)
        return JSONResponse({"error": "this is a fault of the program"}, 500)


def _numbers(request: Request) -> tuple[int, int]:
    return request.path_params["iteration"], request.path_params["number"]


async def _body(request: Request) -> bytes:
    """The body of a request, never more of it than is allowed."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > asking.MAX_BODY:
            raise HTTPException(413, f"more than {asking.MAX_BODY // 2**20} MiB are not taken")
    return bytes(body)


async def _refused(request: Request, error: Exception) -> Response:
    return JSONResponse({"error": " ".join(str(error).split())}, 400)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


def _page() -> dict[str, tuple[bytes, str]]:
    """The files of the page with their types, by name."""
    files = {}
    for each in resources.files("musegan_jax.studio").joinpath("page").iterdir():
        kind = mimetypes.guess_type(each.name)[0] or "application/octet-stream"
        # What the registry of Windows says of .js may be text/plain, which no browser runs.
        kind = "text/javascript" if each.name.endswith(".js") else kind
        files[each.name] = (each.read_bytes(), kind)
    return files


def _about(watched: bool) -> dict[str, Any]:
    from pretty_midi.constants import INSTRUMENT_MAP

    return {
        "version": musegan_jax.__version__,
        "melodies": [{"name": name, **songs.built_in(name)} for name in melodies.MELODIES],
        "instruments": list(INSTRUMENT_MAP),
        "keys": [*asking.KEYS, *asking.MINORS],
        "tempos": asking.TEMPOS,
        "instruments_sound": audio.soundfont_player() is not None,
        "watched": watched,
    }
