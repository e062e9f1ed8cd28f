"""A page on which melodies are drawn, and heard answered; served on this machine.

`command`: the command. `serving`: its life. `server`: the routes. `guard`: who may use them.
`jobs`: the queue. `asking`: what a page may send, checked. `answering`: answers for it. `memory`:
what it needs no more. `songs`: MIDI and sound. `watching`: a run while it trains. `page/`: HTML,
CSS and modules for the browser.

Starlette and uvicorn come with the extra `studio`, and are imported here alone.
"""
