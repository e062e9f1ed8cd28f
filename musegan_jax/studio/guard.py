"""Who may use the server: this machine's own page, with the token that the command printed.

Any web page that is open in the browser can send requests to 127.0.0.1. `Host` stops those that
come by a name that points here (DNS rebinding), `Origin` and `Sec-Fetch-Site` those of other
pages, the token everyone else on this machine.
"""

import hmac
import ipaddress
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import JSONResponse

TOKEN = "X-Studio-Token"
OPEN = "/api/"  # what is below it needs the token; the page itself holds nothing that is secret
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' blob: data:; connect-src 'self'; media-src blob:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Any]]
Send = Callable[[Any], Awaitable[None]]


class Guard:
    """An ASGI application that refuses what it must, and adds `HEADERS` to what it lets pass."""

    def __init__(self, app: Any, token: str, hosts: frozenset[str] | None) -> None:
        """Let pass requests for one of `hosts`; None for any address that is a number.

        A number cannot be made to point elsewhere, as a name can.
        """
        self._app, self._token, self._hosts = app, token, hosts

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            if scope["type"] == "websocket":
                await send({"type": "websocket.close", "code": 1008})
            else:
                await self._app(scope, receive, send)
            return

        async def with_headers(message: Any) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        refusal = self._refusal(Headers(scope=scope), scope["path"])
        if refusal is None:
            await self._app(scope, receive, with_headers)
            return
        status, why = refusal
        await JSONResponse({"error": why}, status)(scope, receive, with_headers)

    def _refusal(self, headers: Headers, path: str) -> tuple[int, str] | None:
        host = headers.get("host", "")
        if not (is_number(host) if self._hosts is None else host in self._hosts):
            return 403, "open the address that the terminal shows"
        origin = headers.get("origin")
        if origin is not None and origin != f"http://{host}":
            return 403, "requests of other pages are refused"
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            return 403, "requests of other pages are refused"
        given = headers.get(TOKEN, "").encode("utf-8", "replace")
        if path.startswith(OPEN) and not hmac.compare_digest(given, self._token.encode()):
            return 401, "open the whole address that the terminal shows: its end is the key"
        return None


def is_number(host: str) -> bool:
    """Whether the host of a `Host` header is a number (IPv4, or IPv6 in brackets), not a name."""
    name = host[1:].partition("]")[0] if host.startswith("[") else host.partition(":")[0]
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True
