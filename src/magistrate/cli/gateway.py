"""`magistrate gateway`: keys for the apps behind a gateway."""

from __future__ import annotations

from typing import Annotated

import typer

from magistrate.cli.printing import AsJson, console, pairs, paragraph, print_json

app = typer.Typer(help="Manage a gateway.", no_args_is_help=True)
keys = typer.Typer(help="Manage the keys that callers present.", no_args_is_help=True)
app.add_typer(keys, name="key")


@app.callback()
def _gateway() -> None:
    pass


@keys.callback()
def _keys() -> None:
    pass


@keys.command("new")
def new(
    name: Annotated[str, typer.Option("--app", help="The app whose callers get the key.")],
    as_json: AsJson = False,
) -> None:
    """Make a key, print it once, and print the hash to list under the app's `keys`.

    Only the hash is kept, in the gateway's file: a lost key is replaced, never read back.
    """
    from magistrate.gateway.keys import key_hash, new_key

    key = new_key()
    if as_json:
        print_json({"app": name, "key": key, "hash": key_hash(key)})
        return
    out = console()
    pairs(out, [("Key", key), ("Hash", key_hash(key))])
    paragraph(
        out,
        f"Give the key to the callers of {name}: it is not shown again. List the hash under "
        f"`keys` of {name} in the gateway's file, and start the gateway again.",
    )
