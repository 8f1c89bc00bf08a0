"""`magistrate reviews`: where a qualified person reads held answers and decides on them.

Only presents and asks: the store decides who may decide which review. `review_text` prints what is
in one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Generator
from contextlib import closing, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import typer

from magistrate.cli.review_text import (
    blocks,
    dates,
    objects,
    print_line,
    print_section,
    question,
    reasons,
    summary,
    terminal,
    visible,
)
from magistrate.config.diagnostics import SettingsError

if TYPE_CHECKING:
    from magistrate.settings import Settings
    from magistrate.storage.review_items import Review, Reviews
    from magistrate.storage.reviews import ReviewStore

REFUSED = 1
UNUSABLE = 2
DAMAGED = 3

app = typer.Typer(
    name="reviews",
    help="List held answers, read them, release or reject them.",
    epilog="Exit codes: 0 done; 1 refused (not found, not qualified, already decided); "
    "2 wrong usage or configuration, or a store or record that cannot be used; "
    "3 listed, but some records are damaged.",
    no_args_is_help=True,
    pretty_exceptions_show_locals=False,  # locals hold what people wrote
)

ReviewId = Annotated[str, typer.Argument(metavar="ID", help="The review's id, rev_...")]
Config = Annotated[
    Path | None,
    typer.Option("--config", help="The magistrate.yaml of the app whose answers are held."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON on stdout, and nothing else.")]
ReviewerName = Annotated[
    str,
    typer.Option(
        "--reviewer",
        metavar="NAME",
        help="Your name as listed under review.reviewers. It is taken at its word: who may run "
        "this command on the store's file is a matter of the operating system.",
    ),
]
Note = Annotated[str | None, typer.Option("--note", help="Kept with the decision.")]


@app.command("list")
def list_(
    status: Annotated[
        Literal["pending", "approved", "rejected", "all"],
        typer.Option("--status", help="Which reviews to list."),
    ] = "pending",
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """List held answers, oldest first. Deletes nothing.

    Damaged records are listed whatever the status, since theirs may be lost.
    """
    with _open(config) as (_, store):
        found = store.list(None if status == "all" else status)
        path = store.place
    if as_json:
        damaged = [{**asdict(record), "status": "damaged"} for record in found.damaged]
        _print_json([*map(summary, found), *damaged])
    else:
        _print_list(found, path, "reviews" if status == "all" else f"{status} reviews")
    if found.damaged:
        ids = ", ".join(record.id for record in found.damaged)
        message = "They are kept, and never released. Restore the file, or delete them in it"
        _fail(f"{path}: damaged records: {ids}. {message}", DAMAGED)


def _print_list(found: Reviews, path: str, kind: str) -> None:
    console = terminal()
    if not found and not found.damaged:
        print_line(console, f"No {kind} in {path}")
    for review in found:
        domains = ", ".join(review.domains)
        when = f"held {review.created_at:%Y-%m-%d %H:%M}, expires {review.expires_at:%Y-%m-%d}"
        print_line(console, f"{review.id}  {review.status:8}  {when}  {domains}")
    for record in found.damaged:
        print_line(console, f"{record.id}  damaged   its {record.column} cannot be read")
    if found.expired:
        says = "by this machine's clock, and wait to be deleted"
        print_line(console, f"{found.expired} more are past their retention {says}")


@app.command()
def show(review_id: ReviewId, config: Config = None, as_json: AsJson = False) -> None:
    """Show the question, the answer, why it was held and who may release it.

    Hidden and control characters appear as <U+202E>.
    """
    with _open(config) as (_, store):
        review = store.get(review_id)
        deciders = store.may_decide(review)
    if as_json:
        content = {
            "request": review.request,
            "message": review.message,
            "original": review.original,
            "decision": review.decision,
        }
        _print_json({**summary(review), "may_decide": deciders, **content})
        return
    console = terminal()
    print_line(console, f"{review.id}  {review.status}  app {review.app}")
    print_line(console, f"held {review.created_at:%Y-%m-%d %H:%M} UTC, {dates(review)}")
    print_line(console, f"may be decided by {', '.join(deciders) or 'no listed reviewer'}")
    print_section(console, "Why it was held", reasons(review))
    print_section(console, "Question", question(review.request))
    print_section(console, "Answer as held", blocks(review.original.get("content")))
    if review.message != review.original:
        print_section(console, "Answer as released", blocks(review.message.get("content")))


@app.command()
def approve(
    review_id: ReviewId,
    reviewer: ReviewerName,
    note: Note = None,
    text: Annotated[
        str | None,
        typer.Option(
            "--text",
            metavar="FILE|-",
            help="Release this text instead of the held answer, the whole of it; - reads stdin.",
        ),
    ] = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Release a held answer, once and for all."""
    from magistrate.core.disclosure import disclosure_duty

    replacement = None if text is None else _read_text(text)
    with _open(config) as (settings, store):
        message = None
        if replacement is not None:
            held = store.get(review_id).original
            message = _edited(held, replacement, disclosure_duty(settings).text)
        review = store.approve(review_id, reviewer=reviewer, note=note, message=message)
    _report(review, as_json)


@app.command()
def reject(
    review_id: ReviewId,
    reviewer: ReviewerName,
    note: Note = None,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Decide that a held answer is never released."""
    with _open(config) as (_, store):
        review = store.reject(review_id, reviewer=reviewer, note=note)
    _report(review, as_json)


@app.command()
def purge(
    trust_clock: Annotated[
        bool,
        typer.Option(
            "--trust-clock",
            help="By this machine's clock alone. Without it, only what the store has counted the "
            "retention of: see docs/configuration.md.",
        ),
    ] = False,
    config: Config = None,
    as_json: AsJson = False,
) -> None:
    """Delete what is past its retention, decided or not. Damaged records stay."""
    with _open(config) as (_, store):
        deleted = store.purge(trust_clock=trust_clock)
    if as_json:
        _print_json({"deleted": deleted})
    else:
        print_line(terminal(), f"{deleted} deleted")


@contextmanager
def _open(config: Path | None) -> Generator[tuple[Settings, ReviewStore]]:
    """Open the store that the configuration names; end the command in words when it cannot be."""
    from magistrate.settings import Settings
    from magistrate.storage.reviews import ReviewError, ReviewRefused, ReviewStore

    try:
        settings = Settings.load(config)
    except SettingsError as error:
        _fail(str(error), UNUSABLE)
    where = settings.source or "the configuration (no magistrate.yaml was found)"
    if settings.review is None:
        _fail(f"{where}: has no `review:`, so nothing is held and there is no store", UNUSABLE)
    try:
        # A store that is missing is a wrong folder, not an empty queue: never create it here.
        with closing(ReviewStore(settings.review, app=settings.app_name, create=False)) as store:
            yield settings, store
    except ReviewRefused as error:
        _fail(str(error), REFUSED)
    except ReviewError as error:
        _fail(str(error), UNUSABLE)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo("\n".join(visible(line) for line in message.splitlines()), err=True)
    raise typer.Exit(code)


def _read_text(source: str) -> str:
    try:
        data = sys.stdin.buffer.read() if source == "-" else Path(source).read_bytes()
        text = data.decode("utf-8-sig").rstrip("\r\n")
    except OSError as error:
        _fail(f"--text {source}: {error.strerror or error}", UNUSABLE)
    except UnicodeDecodeError:
        _fail(f"--text {source}: is not UTF-8 text", UNUSABLE)
    if not text.strip():
        _fail(f"--text {source}: is empty; to release nothing, reject the answer", UNUSABLE)
    return text


def _edited(held: dict[str, Any], text: str, disclosure: str | None) -> dict[str, Any]:
    """Return the held message with `text` as its only content, without thinking and tool calls.

    A disclosure that the held answer carries is owed by the new one as well.
    """
    if disclosure and disclosure not in text:
        blocks = [block.get("text") for block in objects(held.get("content"))]
        if any(isinstance(words, str) and disclosure in words for words in blocks):
            _fail(f"the new text leaves out the disclosure: {disclosure}", REFUSED)
    content = [{"type": "text", "text": text}]
    return {**held, "content": content, "stop_reason": "end_turn", "stop_sequence": None}


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=True))  # ASCII: nothing hidden in it


def _report(review: Review, as_json: bool) -> None:
    if as_json:
        _print_json(summary(review))
    else:
        print_line(terminal(), f"{review.id}  {review.status} by {review.reviewer}")
