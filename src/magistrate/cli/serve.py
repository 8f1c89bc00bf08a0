"""`magistrate serve`: moderation for every client that can be given an address."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from magistrate.cli.printing import UNUSABLE, bullets, console, heading, pairs, refuse, text
from magistrate.settings import SettingsError


def serve(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="A gateway's file, or the settings of one app. Without it: $MAGISTRATE_CONFIG, "
            "else ./magistrate.yaml, else the defaults.",
            show_default=False,
        ),
    ] = None,
    host: Annotated[str, typer.Option("--host", help="The address to listen on.")] = "127.0.0.1",
    port: Annotated[
        int, typer.Option("--port", min=1, max=65535, help="The port to listen on.")
    ] = 8080,
    upstream: Annotated[
        str | None,
        typer.Option(
            "--upstream",
            metavar="URL",
            help="The API to stand in front of; by default the one in the file, else "
            "https://api.anthropic.com.",
            show_default=False,
        ),
    ] = None,
    workers: Annotated[
        int, typer.Option("--workers", min=1, max=64, help="How many processes serve.")
    ] = 1,
    metrics_port: Annotated[
        int | None,
        typer.Option(
            "--metrics-port",
            min=1,
            max=65535,
            help="Serve metrics for Prometheus at this port. Needs the extra `metrics`; callers "
            "must not reach it.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Serve the Messages API, moderated, to any client in any language.

    Point a client at it: `ANTHROPIC_BASE_URL=http://127.0.0.1:8080`. Needs the extra `gateway`.

    Exit codes: 0 after SIGTERM, and with several processes after Ctrl-C; 130 after Ctrl-C with one;
    2 where the file, a store or a port cannot be used.
    """
    try:
        from magistrate.gateway.loader import load
        from magistrate.gateway.serve import serve as run
    except ModuleNotFoundError as error:
        missing = f"{error.name} is not installed: pip install 'magistrate[cli,gateway]'"
        console(stderr=True).print(text(missing), soft_wrap=True)
        raise typer.Exit(UNUSABLE) from None
    from magistrate.storage.review_items import ReviewError

    source = None if file is None else str(file)
    try:
        served = load(source, upstream=upstream)
        out = console(stderr=True)
        heading(out, f"magistrate serves http://{host}:{port}")
        pairs(
            out,
            [
                ("Upstream", served.gateway.upstream),
                ("Apps", ", ".join(served.apps)),
                ("Callers present", _presented(served.uses_keys)),
                ("Processes", str(workers)),
            ],
        )
        if workers > 1:
            bullets(out, ["What was judged is remembered by each process for itself."])
        run(
            source,
            upstream=upstream,
            host=host,
            port=port,
            workers=workers,
            metrics_port=metrics_port,
        )
    except SettingsError as error:
        refuse(error, False)
    except ModuleNotFoundError as error:
        message = f"{error.name} is not installed: pip install 'magistrate[metrics]'"
        console(stderr=True).print(text(message), soft_wrap=True)
        raise typer.Exit(UNUSABLE) from None
    except ReviewError as error:
        console(stderr=True).print(text(str(error)), soft_wrap=True)
        raise typer.Exit(UNUSABLE) from None
    except OSError as error:
        message = f"cannot listen on {host}:{port}: {error.strerror or error}"
        console(stderr=True).print(text(message), soft_wrap=True)
        raise typer.Exit(UNUSABLE) from None


def _presented(uses_keys: bool) -> str:
    return "a key of this gateway" if uses_keys else "their own credentials for upstream"
