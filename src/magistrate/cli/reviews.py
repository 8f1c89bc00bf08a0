"""`magistrate reviews`: where a qualified person reads held answers and decides on them.

Presents and asks; every rule about who may decide what is the store's. All that is printed from a
review is untrusted: hidden characters are made visible, and content is indented so that it cannot
pass for a line of ours.
"""

from __future__ import annotations

import io
import json
import sys
import unicodedata
from collections.abc import Generator, Iterable
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn, cast

import typer
from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from magistrate.config.diagnostics import SettingsError

if TYPE_CHECKING:
    from magistrate.settings import Settings
    from magistrate.storage.review_items import Review
    from magistrate.storage.reviews import ReviewStore

REFUSED = 1
UNUSABLE = 2

app = typer.Typer(
    name="reviews",
    help="List held answers, read them, release or reject them.",
    epilog="Exit codes: 0 done; 1 refused (not found, not qualified, already decided); "
    "2 wrong usage or configuration, or a store that cannot be used.",
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
    """List held answers, oldest first. What is past its retention is deleted, decided or not."""
    with _open(config) as (_, store):
        found = store.list(None if status == "all" else status)
        path = store.path
    if as_json:
        _print_json([_summary(review) for review in found])
        return
    console = _console()
    if not found:
        kind = "reviews" if status == "all" else f"{status} reviews"
        _line(console, f"No {kind} in {path}")
    for review in found:
        domains = ", ".join(review.domains)
        dates = f"held {review.created_at:%Y-%m-%d %H:%M}, expires {review.expires_at:%Y-%m-%d}"
        _line(console, f"{review.id}  {review.status:8}  {dates}  {domains}")


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
        _print_json({**_summary(review), "may_decide": deciders, **content})
        return
    console = _console()
    _line(console, f"{review.id}  {review.status}  app {review.app}")
    _line(console, f"held {review.created_at:%Y-%m-%d %H:%M} UTC, {_dates(review)}")
    _line(console, f"may be decided by {', '.join(deciders) or 'nobody who is listed'}")
    _section(console, "Why it was held", _reasons(review))
    _section(console, "Question", _question(review.request))
    _section(console, "Answer as held", _blocks(review.original.get("content")))
    if review.message != review.original:
        _section(console, "Answer as released", _blocks(review.message.get("content")))


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
    name = settings.app.name if settings.app else "app"
    try:
        # A store that is missing is a wrong folder, not an empty queue: never create it here.
        with closing(ReviewStore(settings.review, app=name, create=False)) as store:
            yield settings, store
    except ReviewRefused as error:
        _fail(str(error), REFUSED)
    except ReviewError as error:
        _fail(str(error), UNUSABLE)


def _fail(message: str, code: int) -> NoReturn:
    typer.echo("\n".join(_visible(line) for line in message.splitlines()), err=True)
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
    """The held message with `text` as its only content: thinking and tool calls go with the rest.

    A disclosure that the held answer carries is owed by the new one as well.
    """
    if disclosure and disclosure not in text:
        blocks = [block.get("text") for block in _objects(held.get("content"))]
        if any(isinstance(words, str) and disclosure in words for words in blocks):
            _fail(f"the new text leaves out the disclosure: {disclosure}", REFUSED)
    content = [{"type": "text", "text": text}]
    return {**held, "content": content, "stop_reason": "end_turn", "stop_sequence": None}


def _summary(review: Review) -> dict[str, Any]:
    return {
        "id": review.id,
        "app": review.app,
        "status": review.status,
        "domains": review.domains,
        "created_at": review.created_at.isoformat(),
        "expires_at": review.expires_at.isoformat(),
        "decided_at": review.decided_at.isoformat() if review.decided_at else None,
        "reviewer": review.reviewer,
        "note": review.note,
    }


def _print_json(value: object) -> None:
    typer.echo(json.dumps(value, indent=2, ensure_ascii=True))  # ASCII: nothing hidden in it


def _report(review: Review, as_json: bool) -> None:
    if as_json:
        _print_json(_summary(review))
    else:
        _line(_console(), f"{review.id}  {review.status} by {review.reviewer}")


def _console() -> Console:
    if isinstance(out := cast("object", sys.stdout), io.TextIOWrapper):
        out.reconfigure(errors="backslashreplace")  # a narrow terminal is no reason to fail
    return Console(markup=False, highlight=False, emoji=False)


def _line(console: Console, line: str) -> None:
    # soft_wrap: an id that is broken over two lines cannot be copied
    console.print(Text(_visible(line)), soft_wrap=True)


def _section(console: Console, title: str, parts: Iterable[tuple[str, str]]) -> None:
    console.print()
    console.print(Text(title, style="bold"))
    for label, body in parts:
        if label:
            console.print(Padding(Text(_visible(label), style="dim"), (0, 0, 0, 2)))
        # Padding indents wrapped lines too, so content never starts where our headings do.
        console.print(Padding(Text(_visible(body, lines=True)), (0, 0, 0, 4)))


def _dates(review: Review) -> str:
    """When it expires, and by whom it was decided if it was."""
    if review.decided_at is None:
        return f"expires {review.expires_at:%Y-%m-%d %H:%M} UTC, undecided or not"
    note = f": {review.note}" if review.note else ""
    return f"{review.status} {review.decided_at:%Y-%m-%d %H:%M} UTC by {review.reviewer}{note}"


def _reasons(review: Review) -> list[tuple[str, str]]:
    decision = review.decision
    lines = [f"needs a reviewer qualified in {', '.join(review.domains)}"]
    for found in _objects(decision.get("findings")):
        told = " ".join(str(found.get(key, "?")) for key in ("clause", "grade", "severity", "path"))
        evidence = found.get("evidence")
        lines.append(f"{told}: {evidence}" if evidence else told)
    lines.append(f"decision {decision.get('id')} under {decision.get('policy')}")
    return [("", line) for line in lines]


def _question(request: dict[str, Any]) -> list[tuple[str, str]]:
    parts = [("system", body) for _, body in _blocks(request.get("system"))]
    for turn in _objects(request.get("messages")):
        role = str(turn.get("role"))
        for kind, body in _blocks(turn.get("content")):
            parts.append((f"{role} {kind}".strip(), body))
    return parts


def _blocks(content: object) -> list[tuple[str, str]]:
    """(kind, text) of content: a string, a list of blocks, or whatever else was sent."""
    if content is None or content == []:
        return []
    if not isinstance(content, list):
        return [("", content if isinstance(content, str) else _compact(content))]
    parts: list[tuple[str, str]] = []
    for block in cast("list[object]", content):
        match block:
            case {"type": "text", "text": str(words)}:
                parts.append(("", words))
            case {"type": str(kind)}:
                parts.append((kind, _compact(block)))
            case _:
                parts.append(("", _compact(block)))
    return parts


def _objects(value: object) -> list[dict[str, Any]]:
    items = cast("list[object]", value) if isinstance(value, list) else []
    return [cast("dict[str, Any]", item) for item in items if isinstance(item, dict)]


def _compact(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


# Categories that show nothing or change what surrounds them, and what is invisible beside them:
# fillers, the grapheme joiner, variation selectors.
_HIDDEN_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"})
_HIDDEN = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0") | {
    chr(code) for code in (*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0))
}


def _visible(text: str, *, lines: bool = False) -> str:
    """`text` with every hidden or control character written out; newlines stay if `lines`."""
    kept = "\n\t" if lines else ""
    return "".join(
        f"<U+{ord(char):04X}>"
        if char not in kept
        and (char in _HIDDEN or unicodedata.category(char) in _HIDDEN_CATEGORIES)
        else char
        for char in (text.replace("\r\n", "\n") if lines else text)
    )
