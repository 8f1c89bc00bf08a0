"""A group of commands each of which is imported when it is called, not when it is listed."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar

import typer
from typer.core import TyperCommand, TyperGroup
from typer.main import get_group


@dataclass(frozen=True, slots=True)
class Source:
    """Where a command is: the name of a function, or of a `Typer`, in a module.

    `summary` is the first paragraph of its help.
    """

    module: str
    name: str
    summary: str


class LazyGroup(TyperGroup):
    """A group that lists its commands by their summaries. A subclass names them in `sources`."""

    sources: ClassVar[dict[str, Source]]

    def __init__(self, **attributes: Any) -> None:
        super().__init__(**attributes)
        for name, source in self.sources.items():
            self.add_command(TyperCommand(name, help=source.summary))

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Find the command that was typed, and put the imported one in the place of its listing."""
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed and load(str(name), self.sources[str(name)]), rest


def load(name: str, source: Source) -> Any:
    """Import a command, and make of it what the command line calls."""
    found = getattr(import_module(source.module), source.name)
    holder = typer.Typer()
    if isinstance(found, typer.Typer):
        holder.add_typer(found, name=name)
    else:
        holder.command(name)(found)
    return get_group(holder).commands[name]
