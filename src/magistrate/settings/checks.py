"""Constraints between the parts of the settings: one flat table, `CHECKS`, at the end.

Each check takes settings whose single values are valid and yields the violations. A check runs only
if the parts in `needs` are valid: an invalid part is left out, so it would seem to be missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from magistrate.config.diagnostics import ConstraintViolation, Where, listed, nearest
from magistrate.policy import DEFAULT_POLICY, Clause, loosened_floors
from magistrate.settings.model import SettingsModel
from magistrate.settings.schema import ActionRow
from magistrate.verdicts import GRADES, SEVERITIES, at_least


@dataclass(frozen=True, slots=True)
class Check:
    """A constraint, and the top-level keys that must be valid before it can be checked."""

    find: Callable[[SettingsModel], Iterator[ConstraintViolation]]
    needs: frozenset[str]


def unknown_action_keys(settings: SettingsModel) -> Iterator[ConstraintViolation]:
    """Check that each row of `actions` is named after a section, a clause, or `default`."""
    groups = [group.id for group in settings.policy.groups]
    for key in settings.actions:
        if key == "default" or key in groups or key in settings.policy.clauses:
            continue
        section, dot, _ = key.partition(".")
        ids = ["default", *groups]
        if dot:
            within = [id for id in settings.policy.clauses if id.startswith(f"{section}.")]
            ids = within or list(settings.policy.clauses)
        kind = "clause" if dot else "section"
        message = f"found the {kind} '{key}'; allowed: {listed(ids, 20)}{nearest(key, ids)}"
        yield ConstraintViolation(("actions", key), message, on_key=True)


def hold_on_input(settings: SettingsModel) -> Iterator[ConstraintViolation]:
    """Check that no row holds on input: only an answer can be held."""
    for key, row in settings.actions.items():
        if row.input == "hold":
            where = ("actions", key, "input")
            found = f"found {settings.shown(where, 'hold')}"
            message = f"{found}; allowed: allow, warn, block: only answers (output) can be held"
            yield ConstraintViolation(where, message)


def loosened_rows(settings: SettingsModel) -> Iterator[ConstraintViolation]:
    """Check that no row loosens a named clause with a floor, or a section of only such clauses.

    `default` and the rows of other sections may ask for less: floors still apply.
    """
    for key, row in settings.actions.items():
        clauses = _named(settings, key)
        floors = {clause.id: settings.floor(clause.id) for clause in clauses}
        if not floors or not all(floors.values()):
            continue
        for field, allowed in _loosening(row, [floor for floor in floors.values() if floor]):
            said = f"found {settings.shown(('actions', key, field), getattr(row, field))}"
            names = listed(floors, 5)
            if key in floors:
                whose = "this clause has a floor and cannot be loosened"
            else:
                whose = f"all clauses of this section have floors and cannot be loosened ({names})"
            yield ConstraintViolation(
                ("actions", key, field), f"{said}; allowed: {allowed}: {whose}"
            )


def _named(settings: SettingsModel, key: str) -> tuple[Clause, ...]:
    if clause := settings.policy.clauses.get(key):
        return (clause,)
    return next((group.clauses for group in settings.policy.groups if group.id == key), ())


def _loosening(row: ActionRow, floors: list[str]) -> Iterator[tuple[str, str]]:
    for field, action in (("input", row.input), ("output", row.output)):
        if action not in (None, "block"):
            yield field, "block"
    if row.from_grade and not at_least("likely", row.from_grade, GRADES):
        yield "from_grade", "unlikely, possible, likely"
    lowest = min(floors, key=SEVERITIES.index)
    if row.from_severity and not at_least(lowest, row.from_severity, SEVERITIES):
        allowed = SEVERITIES[: SEVERITIES.index(lowest) + 1]  # pyright: ignore[reportArgumentType]
        yield "from_severity", listed(allowed)


def unknown_high_risk_uses(settings: SettingsModel) -> Iterator[ConstraintViolation]:
    """Check that the declared high-risk domains are in the policy."""
    known = [use.id for use in settings.policy.high_risk]
    for i, id in enumerate(settings.app.high_risk if settings.app else ()):
        if id not in known:
            allowed = listed(known) or "none, the policy has no high-risk uses"
            where = ("app", "high_risk", i)
            yield ConstraintViolation(where, _not_among(settings, where, id, known, allowed))


def unknown_qualifications(settings: SettingsModel) -> Iterator[ConstraintViolation]:
    """Check that reviewers are qualified in high-risk uses or sections of the policy."""
    known = [use.id for use in settings.policy.high_risk]
    known += [group.id for group in settings.policy.groups]
    for r, reviewer in enumerate(settings.review.reviewers if settings.review else ()):
        for q, id in enumerate(reviewer.qualified_in):
            if id not in known:
                where = ("review", "reviewers", r, "qualified_in", q)
                message = _not_among(settings, where, id, known, listed(known))
                yield ConstraintViolation(where, message)


def _not_among(
    settings: SettingsModel, where: Where, id: str, known: list[str], allowed: str
) -> str:
    meant = "" if settings.from_environment(where) else nearest(id, known)
    return f"found '{settings.shown(where, id)}'; allowed: {allowed}{meant}"


def reviewers_named_twice(settings: SettingsModel) -> Iterator[ConstraintViolation]:
    """Check that the names of reviewers are unique: a name identifies the reviewer."""
    seen = set[str]()
    for r, reviewer in enumerate(settings.review.reviewers if settings.review else ()):
        if reviewer.name in seen:
            where = ("review", "reviewers", r, "name")
            name = settings.shown(where, reviewer.name)
            yield ConstraintViolation(
                where, f"duplicate reviewer '{name}'; name each reviewer only once"
            )
        seen.add(reviewer.name)


def hold_without_review(settings: SettingsModel) -> Iterator[ConstraintViolation]:
    """Check that `review` is set if answers can be held: they need a store and reviewers."""
    if settings.review is not None:
        return
    example = 'review: {store: "sqlite:///var/reviews.db", reviewers: [...]}'
    for where, domains in _held(settings).items():
        said = listed(_said(settings, where, domains), 5)
        message = f"answers can be held ({said}), but `review:` is missing"
        yield ConstraintViolation(where, f"{message}; add {example}")


def hold_without_reviewer(settings: SettingsModel) -> Iterator[ConstraintViolation]:
    """Check that every domain in which answers can be held has a qualified reviewer."""
    if settings.review is None:
        return
    qualified = {id for reviewer in settings.review.reviewers for id in reviewer.qualified_in}
    for where, domains in _held(settings).items():
        if missing := [domain for domain in domains if domain not in qualified]:
            said = listed(_said(settings, where, missing), 5)
            message = f"answers can be held, but no reviewer is qualified in {said}"
            yield ConstraintViolation(where, message + "; add it to a reviewer's `qualified_in`")


def _said(settings: SettingsModel, where: Where, domains: list[str]) -> list[str]:
    """Return the domains that make answers held at `where`, as they may be shown."""
    return [settings.shown(where, id) for id in domains] if where[0] == "app" else domains


def _held(settings: SettingsModel) -> dict[Where, list[str]]:
    """Return where the settings let answers be held, and the domains reviewers must cover."""
    places: dict[Where, list[str]] = {}
    uses = {use.id: use for use in settings.policy.high_risk}
    for i, id in enumerate(settings.app.high_risk if settings.app else ()):
        if id in uses and uses[id].may_owe_review(settings.app):
            places[("app", "high_risk", i)] = [id]
    for group in settings.policy.groups:
        for clause in group.clauses:
            key, action = settings.deciding_row(clause.id, "output")
            # With the lowest severity as its floor, a clause is always blocked and never held.
            always_blocked = settings.floor(clause.id) == SEVERITIES[0]
            if key and action == "hold" and "output" in clause.stages and not always_blocked:
                domains = places.setdefault(("actions", key, "output"), [])
                if group.id not in domains:
                    domains.append(group.id)
    return places


def windows_that_hold(settings: SettingsModel) -> Iterator[ConstraintViolation]:
    """Check that held answers are not streamed in windows, which would deliver their beginning.

    Only an explicit `window` is a violation: without it, `message` is in effect.
    """
    asked = "release" in settings.streaming.model_fields_set
    if asked and settings.streaming.release == "window" and settings.may_hold:
        found = settings.shown(("streaming", "release"), "window")
        message = (
            f"found {found}; allowed: message, shadow: answers can be held under these settings, "
            "and windows would deliver their beginning"
        )
        yield ConstraintViolation(("streaming", "release"), message)


def missing_floors(settings: SettingsModel) -> Iterator[ConstraintViolation]:
    """Check that a team's own policy keeps the required floors."""
    weak = [f"{id} {how}" for id, how in loosened_floors(settings.policy).items()]
    if weak:
        message = (
            f"this policy weakens clauses that cannot be loosened: {listed(weak, 5)}; "
            f"add `include: {DEFAULT_POLICY}` to the policy file to include them; your own clauses "
            "can add to them"
        )
        yield ConstraintViolation(("policy",), message)


CHECKS: tuple[Check, ...] = tuple(
    Check(find, frozenset(needs))
    for find, needs in (
        (missing_floors, ["policy"]),
        (unknown_action_keys, ["policy"]),
        (hold_on_input, []),
        (loosened_rows, ["policy"]),
        (unknown_high_risk_uses, ["policy"]),
        (unknown_qualifications, ["policy"]),
        (reviewers_named_twice, []),
        (hold_without_review, ["policy", "review"]),
        (hold_without_reviewer, ["policy", "review"]),
        (windows_that_hold, ["policy"]),
    )
)
