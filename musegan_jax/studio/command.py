"""The command `musegan-jax studio`. Heavy imports wait until it runs."""

import argparse
from typing import Any

from musegan_jax.errors import UserError


def add(subparsers: Any) -> None:
    """Add the command to the parser of all commands."""
    parser = subparsers.add_parser(
        "studio",
        help="draw a melody on a page, and hear it answered",
        description="Serve a page for this machine's browser: draw or play a melody, and hear the "
        "model's answers. The address that it prints ends with a key; nobody else can use it.",
    )
    parser.add_argument(
        "--model",
        action="append",
        default=[],
        metavar="RUN_OR_FILE",
        help="a training run or a model file, beside the shipped model; may be given several times",
    )
    parser.add_argument("--watch", metavar="RUN", help="a run that the page shows while it trains")
    parser.add_argument(
        "--port", type=int, metavar="N", help="port to listen at (default 8642 if it is free)"
    )
    parser.add_argument(
        "--host",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address to listen at; another than 127.0.0.1 lets other machines in that know the "
        "key, without encryption",
    )
    parser.add_argument(
        "--browser",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="open the page in a browser (default)",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Serve until Ctrl-C."""
    if arguments.port is not None and not 0 <= arguments.port <= 65535:
        raise UserError(f"--port = {arguments.port}: it must be from 0 to 65535")
    if "" in (*arguments.model, arguments.host, arguments.watch):
        raise UserError("--model, --host or --watch is empty")
    try:
        import starlette  # noqa: F401
        import uvicorn  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"the studio needs another package ({error}); install the extra `studio`"
        ) from error
    from musegan_jax.studio.serving import serve

    serve(arguments.host, arguments.port, arguments.browser, arguments.model, arguments.watch)
