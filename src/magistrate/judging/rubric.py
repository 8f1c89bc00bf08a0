"""Make the rubric, a judge's instructions, from policy and app profile for one stage and task.

Pure: templates are passed in as text. A rubric is the same for every subject, so that it can be
cached. `judging.prompt` adds the subject.

The task is a *screen* (name the groups that may be violated: short, cheap, tuned for recall), or a
*judgment* of some or all groups of clauses. A group is a section of the policy, `integrity`
(third-party text) or `answer` (high-risk uses and disclosure: the kind of an answer, not what it
violates).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cache

import jinja2

from magistrate.judging.reply_schema import judgment_schema, record_schema, word_schema
from magistrate.policy import INTEGRITY, Clause, Policy, Section
from magistrate.settings import Settings
from magistrate.verdicts import Stage
from magistrate.wire.digests import sha256
from magistrate.wire.messages import JSON
from magistrate.wire.parts import Subject

MARK = "magistrate judge · "
ANSWER = "answer"  # group for kinds of answers; no section can have this id (policy.checks)
_ENVIRONMENT = jinja2.Environment(  # prompts are plain text, so no autoescape; JSON fences them
    undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False
)


@cache
def compiled(source: str) -> jinja2.Template:
    """Return a template, compiled once."""
    return _ENVIRONMENT.from_string(source)


@dataclass(frozen=True, slots=True)
class Templates:
    """The sources of the templates in `prompts/`."""

    system: str
    screen: str
    declined: str
    subject: str


@dataclass(frozen=True, slots=True)
class Rubric:
    """The instructions of a judge for one stage and task, the same for every subject.

    `groups`: what a screen may name; empty for a judgment. `compares`: asks whether the new turn
    continues a declined one, and nothing else. `answers`: whether the reply gives the
    kind of the answer (high-risk uses, disclosure). `hash` covers the templates and all rendered
    text, but neither nonce nor subject.
    """

    stage: Stage
    system: str
    schema: JSON
    groups: tuple[str, ...]
    clauses: tuple[str, ...]
    domains: tuple[str, ...]
    answers: bool
    explain: bool
    templates: Templates
    hash: str
    compares: bool = False

    @property
    def screens(self) -> bool:
        return bool(self.groups)


def policy_of(settings: Settings, *, floors: bool | None) -> Policy:
    """Return what a task is about: the policy's floors, all the rest, or (None) the whole."""
    if floors is None:
        return settings.policy
    return settings.judged_policies[-1 if floors else 0]


def groups_for(
    settings: Settings, stage: Stage, *, third_party: bool, floors: bool | None = False
) -> tuple[str, ...]:
    """Return the groups that can apply to a subject of this stage, in the order of the policy.

    `third_party`: whether the subject has text that was written outside the conversation.
    `floors`: of the policy's floors, where they are judged apart.
    """
    policy = policy_of(settings, floors=floors)
    sections = [
        section.id
        for section in policy.sections
        if any(stage in clause.stages for clause in section.clauses)
    ]
    planted = third_party and any(stage in clause.stages for clause in policy.integrity)
    answer = stage == "output" and settings.app is not None and not floors
    return (*sections, *[INTEGRITY] * planted, *[ANSWER] * answer)


def has_third_party(subject: Subject) -> bool:
    """Return whether a part to judge was written outside the conversation."""
    return any(part.judged and part.kind in ("third_party", "media") for part in subject.parts)


def make_screen(
    settings: Settings, stage: Stage, templates: Templates, *, floors: bool = False
) -> Rubric:
    """Render the rubric of the screen, with all groups that can apply to any subject.

    The text is the same for requests and answers, so that the provider's cache holds only one.
    `judging.plan` ignores suspected groups that cannot apply to the subject.
    """
    policy = policy_of(settings, floors=floors)
    sections = [section.id for section in policy.sections]
    # Without high-risk uses, the group `answer` is only disclosure, which the screen itself asks.
    answer = settings.app is not None and bool(policy.high_risk)
    groups = (*sections, *[INTEGRITY] * bool(policy.integrity), *[ANSWER] * answer)
    system = compiled(templates.screen).render(
        policy=policy,
        sections=policy.sections,
        integrity=policy.integrity,
        domains=policy.high_risk if answer else (),
    )
    schema = record_schema(
        suspected={"type": "array", "items": word_schema(groups)}, discloses_ai={"type": "boolean"}
    )
    digest = sha256([templates.screen, templates.subject, system, schema])
    return Rubric(stage, system, schema, groups, (), (), True, False, templates, digest)


def make_comparison(settings: Settings, stage: Stage, templates: Templates) -> Rubric:
    """Render the question whether a turn asks again for what was declined before."""
    system = compiled(templates.declined).render(policy=settings.judged_policies[-1])
    schema = record_schema(continues_declined={"type": "boolean"})
    digest = sha256([templates.declined, templates.subject, system, schema])
    return Rubric(stage, system, schema, (), (), (), False, False, templates, digest, compares=True)


def make_rubric(
    settings: Settings,
    stage: Stage,
    templates: Templates,
    *,
    groups: Collection[str] | None = None,
    third_party: bool = True,
    floors: bool | None = False,
) -> Rubric:
    """Render the rubric of some groups, or of all that can apply. `floors`: see `policy_of`.

    It has only clauses that apply at this stage, and asks about high-risk domains only if there is
    an app profile, which gives them a meaning.
    """
    policy = policy_of(settings, floors=floors)
    possible = groups_for(settings, stage, third_party=third_party, floors=floors)
    chosen = [group for group in possible if groups is None or group in groups]
    sections = list(_shown(policy, stage, chosen))
    integrity = _integrity(policy, stage) if INTEGRITY in chosen else ()
    domains = policy.high_risk if ANSWER in chosen else ()
    answers = ANSWER in chosen or (groups is None and not floors)
    shown = [clause for section in sections for clause in section.clauses]
    clauses = tuple(clause.id for clause in (*shown, *integrity))
    system = compiled(templates.system).render(
        stage=stage,
        policy=policy,
        sections=sections,
        exceptions=[
            rule
            for rule in settings.permitted_exceptions
            if not set(rule.applies_to).isdisjoint(clauses)
        ],
        integrity=integrity,
        app=settings.app,
        declared="" if floors else _declared(settings),
        domains=domains,
        answers=answers,
        explain=settings.judge.explain,
    )
    ids = tuple(use.id for use in domains)
    schema = judgment_schema(clauses, ids, answers=answers, explain=settings.judge.explain)
    digest = sha256([templates.system, templates.subject, system, schema])
    return Rubric(
        stage,
        system,
        schema,
        (),
        clauses,
        ids,
        answers,
        settings.judge.explain,
        templates,
        digest,
    )


def _declared(settings: Settings) -> str:
    """Return the words of the profile that its team chose freely, as one line of JSON.

    They are data: a name such as "report nothing" must not read like an instruction.
    """
    app = settings.app
    return "" if app is None else json.dumps({"name": app.name, "organisation": app.organisation})


def _shown(policy: Policy, stage: Stage, groups: Collection[str]) -> Iterator[Section]:
    """Yield the chosen sections, each with the clauses that apply at this stage."""
    for section in policy.sections:
        if section.id in groups:
            clauses = tuple(clause for clause in section.clauses if stage in clause.stages)
            yield section.model_copy(update={"clauses": clauses})


def _integrity(policy: Policy, stage: Stage) -> tuple[Clause, ...]:
    return tuple(clause for clause in policy.integrity if stage in clause.stages)
