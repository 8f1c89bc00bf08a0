"""`magistrate validate`: is the file right, and what will happen if it is?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from magistrate.cli.printing import (
    AsJson,
    bullets,
    console,
    heading,
    pairs,
    paragraph,
    print_json,
    refuse,
    table,
)
from magistrate.cli.summary import ORDERS, RELEASES, outline
from magistrate.settings import Settings, SettingsError

_AUDIENCES = {"consumer": "consumers", "business": "businesses", "internal": "its own staff"}
_STRATEGIES = {
    "cascade": "a screen first, then one call for each suspected group of rules",
    "bundled": "one call with all rules",
    "focused": "one call for each group of rules",
}
_INTERFACES = {"chatbot": "chatbot", "agent": "agent", "api": "API", "batch": "batch job"}


def validate(
    file: Annotated[
        Path | None,
        typer.Argument(
            metavar="[FILE]",
            help="The file to check. Without it: $MAGISTRATE_CONFIG, else ./magistrate.yaml.",
            show_default=False,
        ),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a configuration and say in plain words what it will do.

    Exit codes: 0 the configuration is valid; 2 it is not, and every problem is listed.
    """
    try:
        settings = Settings.load(file)
    except SettingsError as error:
        refuse(error, as_json)
    found = outline(settings)
    if as_json:
        print_json(found)
        return
    out = console()
    if settings.source is None:
        paragraph(out, "There is no configuration file; the defaults are in force.")
    else:
        paragraph(out, f"{settings.source} is valid.")
    _print(out, settings.printable(), found)


def _print(out: Console, settings: Settings, found: dict[str, Any]) -> None:
    policy, judge = found["policy"], found["judge"]
    size = f"{policy['clauses']} prohibitions in {policy['sections']} sections"
    heading(out, "In short")
    pairs(
        out,
        [
            ("Policy", f"{policy['ref']} ({size})"),
            ("App", _app(settings)),
            ("Judge", _judge(judge)),
            ("Without a judge", _failure(settings)),
            ("Requests", ORDERS[found["input_check"]]),
            ("Streams", RELEASES[found["release"]]),
            ("Blocked", _blocked(settings)),
            ("Unreadable", _uninspected(settings)),
        ],
    )
    heading(out, "What happens on a finding")
    rows = [
        [
            f"  .{row['clause'].partition('.')[2]}" if row["clause"] else row["section"],
            row["input"] or "-",
            row["output"] or "-",
            f"{row['from_grade']}, {row['from_severity']}"
            + (f" (floor: {row['floor']})" if row["floor"] else ""),
        ]
        for row in found["actions"]
    ]
    table(out, ["section, or clause in it", "request", "answer", "from grade, severity"], rows)
    if found["floors"]:
        heading(out, "Floors: blocked from this severity whatever is set (if at least likely)")
        pairs(out, [(level, ", ".join(ids)) for level, ids in found["floors"].items()])
    _print_duties(out, found)
    if found["notes"]:
        heading(out, "Notes")
        bullets(out, found["notes"])


def _print_duties(out: Console, found: dict[str, Any]) -> None:
    duty, review = found["disclosure"], found["review"]
    heading(out, "Disclosure")
    if duty["text"]:
        paragraph(out, f'"{duty["text"]}"', indent=2)
    paragraph(out, duty["words"], indent=2)
    if duty["because_of"]:
        paragraph(out, f"Because of: {', '.join(duty['because_of'])}", indent=2)
    heading(out, "Review by a person")
    if not review["may_hold"]:
        paragraph(out, "No answer is ever held.", indent=2)
        return
    kept = f"They wait in {review['store']} for at most {review['retain_days']} days."
    paragraph(out, f"Answers can be held until a qualified person releases them. {kept}", indent=2)
    released = [
        (f"  {domain}", f"released by {', '.join(names)}")
        for domain, names in review["released_by"].items()
    ]
    pairs(out, released)


def _app(settings: Settings) -> str:
    app = settings.app
    if app is None:
        return "not declared"
    article = "an" if app.interface in ("agent", "api") else "a"
    words = [
        f"{app.name}: {article} {_INTERFACES[app.interface]} for {_AUDIENCES[app.audience]}",
        "used by minors" if app.serves_minors else "",
        "decides about individuals" if app.decides_about_individuals else "",
        "publishes automatically" if app.publishes_automatically else "",
        f"high risk: {', '.join(app.high_risk)}" if app.high_risk else "",
    ]
    return "; ".join(word for word in words if word)


def _judge(judge: dict[str, Any]) -> str:
    if judge["backend"] == "local":
        return "the embedded judge; no model is asked"
    refused = f"; {judge['second_model']} is asked what it refuses" if judge["second_model"] else ""
    how = _STRATEGIES[judge["strategy"]]
    return f"{judge['model']}, {how}, at most {judge['deadline_s']:g} s{refused}"


def _failure(settings: Settings) -> str:
    action = settings.judge.on_failure.input
    if action == "block":
        return "Requests and answers are stopped with an error (never shown as a refusal)."
    passing = "pass" if action == "allow" else "pass with a warning"
    return f"Requests {passing} while the judge is out of reach; answers are stopped."


def _blocked(settings: Settings) -> str:
    if settings.on_block == "raise":
        return "The caller receives the exception Blocked."
    return f'The caller receives a refusal: "{settings.texts.block}"'


def _uninspected(settings: Settings) -> str:
    by_action: dict[str, list[str]] = {}
    actions = settings.on_uninspected.model_dump()
    actions |= {"other surfaces": "block"} | actions.pop("surfaces")
    for reason, action in actions.items():
        by_action.setdefault(action, []).append(reason)
    return "; ".join(f"{action}: {', '.join(reasons)}" for action, reasons in by_action.items())
