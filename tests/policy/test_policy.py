"""Policies: the built-in one counted, the schema of files, `include`, and floors."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from magistrate.config.diagnostics import SettingsError
from magistrate.policy import (
    DEFAULT_POLICY,
    Example,
    Policy,
    PolicyException,
    builtin_policy,
    builtin_refs,
    load_policy,
    loosened_floors,
    required_floors,
)
from magistrate.policy.app_profile import AppProfile, holds

DATA = Path(__file__).parents[1] / "data"
CLAUSES = {
    "child_safety": 6,
    "critical_infrastructure": 3,
    "violence_hate": 4,
    "privacy_identity": 5,
    "weapons_regulated_goods": 2,
    "psychological_harm": 9,
    "misinformation": 6,
    "elections": 5,
    "criminal_justice_surveillance": 7,
    "fraud_abuse": 11,
    "platform_abuse": 6,
    "sexual_content": 4,
}


def test_the_built_in_policy_has_every_section_and_prohibition_of_its_source() -> None:
    policy = builtin_policy()
    assert {section.id: len(section.clauses) for section in policy.sections} == CLAUSES
    assert list(CLAUSES) == [section.id for section in policy.sections]
    assert sum(CLAUSES.values()) == 68


def test_the_built_in_policy_refers_to_its_source_in_order() -> None:
    policy = builtin_policy()
    assert policy.source is not None
    assert policy.source.url == "https://www.anthropic.com/legal/aup"
    assert str(policy.source.effective) == "2024-06-06"
    for number, section in enumerate(policy.sections, 1):
        assert section.source is not None and section.source.section == number
        places = [
            clause.source and (clause.source.section, clause.source.item)
            for clause in section.clauses
        ]
        assert places == [(number, item) for item in range(1, len(section.clauses) + 1)]


def test_the_built_in_policy_has_two_exceptions_seven_uses_and_two_disclosure_rules() -> None:
    policy = builtin_policy()
    exceptions = [rule for section in policy.sections for rule in section.exceptions]
    assert [rule.id for rule in exceptions] == [
        "criminal_justice_surveillance.back_office",
        "criminal_justice_surveillance.missing_persons",
    ]
    assert len(policy.high_risk) == 7
    assert {use.requirements for use in policy.high_risk} == {("human_review", "disclosure")}
    assert [use.source and use.source.item for use in policy.high_risk] == list(range(1, 8))
    assert {use.source and use.source.section for use in policy.high_risk} == {13}
    places = [rule.source and (rule.source.section, rule.source.item) for rule in policy.disclosure]
    assert places == [(14, 1), (14, 2)]


def test_the_built_in_policy_names_clauses_after_their_section() -> None:
    policy = builtin_policy()
    for group in policy.groups:
        for clause in group.clauses:
            assert re.fullmatch(r"[a-z0-9_]+\.[a-z0-9_]+", clause.id)
            assert clause.id.startswith(f"{group.id}.")
            assert policy.section_of(clause.id) == group
    assert len(policy.clauses) == 68 + len(policy.integrity)


def test_the_built_in_policy_says_for_every_clause_what_the_judge_must_know() -> None:
    for clause in builtin_policy().clauses.values():
        assert 1 <= len(clause.counts) <= 4, clause.id
        assert 1 <= len(clause.does_not_count) <= 5, clause.id
        assert 1 <= len(clause.examples) <= 2, clause.id
        assert clause.severity, clause.id


def test_the_built_in_policy_puts_a_floor_under_all_child_safety() -> None:
    floors = required_floors()
    child_safety = [id for id in builtin_policy().clauses if id.startswith("child_safety.")]
    assert [floors[id] for id in child_safety] == ["low"] * 6
    assert set(floors) > set(child_safety)


def test_integrity_clauses_are_no_prohibitions_of_the_source() -> None:
    for clause in builtin_policy().integrity:
        assert clause.source is None
        assert clause.action == "warn"


def test_the_built_in_policy_is_read_once() -> None:
    assert builtin_refs() == (DEFAULT_POLICY,)
    assert load_policy(DEFAULT_POLICY) is builtin_policy()
    assert builtin_policy().ref == DEFAULT_POLICY


def test_an_unknown_built_in_policy_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        builtin_policy("../../etc/passwd")


def test_the_hash_is_of_the_rules_and_not_of_the_layout(tmp_path: Path) -> None:
    text = (DATA / "house-rules.yaml").read_text()
    path = tmp_path / "same.yaml"
    path.write_text("# another comment\n" + text.replace('"3"', "'3'"))
    other = tmp_path / "other.yaml"
    other.write_text(text.replace("disparages", "mocks"))
    policy = load_policy(DATA / "house-rules.yaml")
    assert re.fullmatch("[0-9a-f]{64}", policy.hash)
    assert load_policy(path).hash == policy.hash
    assert load_policy(other).hash != policy.hash
    assert policy.hash != builtin_policy().hash


def test_a_changed_copy_has_its_own_hash_and_clauses() -> None:
    policy = load_policy(DATA / "house-rules.yaml")
    assert policy.hash and policy.clauses
    copy = policy.model_copy(update={"sections": policy.sections[:1]})
    assert copy.hash != policy.hash
    assert "brand.competitors" not in copy.clauses


def test_an_included_policy_comes_first_and_what_the_file_gives_replaces_its_parts() -> None:
    policy, included = load_policy(DATA / "house-rules.yaml"), builtin_policy()
    assert policy.ref == "acme-house-rules@3"
    assert policy.sections[:-1] == included.sections
    assert policy.sections[-1].id == "brand"
    assert [rule.id for rule in policy.disclosure] == ["everyone"]
    assert policy.high_risk == included.high_risk
    assert policy.integrity == included.integrity
    assert loosened_floors(policy) == {}


def test_an_empty_list_replaces_an_included_part(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(HEAD + f"include: {DEFAULT_POLICY}\nhigh_risk: []\n")
    assert load_policy(path).high_risk == ()


HEAD = "id: p\nversion: '1'\ntitle: P\n"
CLAUSE = "id: s.a, title: A, rule: R., stages: [input], severity: {low: x}"
SECTION = HEAD + "sections:\n  - id: s\n    title: S\n    clauses:\n      - {" + CLAUSE + "}\n"


@pytest.mark.parametrize(
    ("text", "at", "path", "words"),
    [
        ("id: p\ntitle: P\nsections: []", "id: p", "version", "this key is missing"),
        (SECTION.replace("'1'", "1"), "1\ntitle", "version", "found 1; allowed: text"),
        (SECTION.replace("id: p", "id: P!"), "P!", "id", "lowercase letters, digits and hyphens"),
        (HEAD, "id: p", "sections", "at least one section"),
        (HEAD + "include: other@1", "other@1", "include", f"allowed: {DEFAULT_POLICY}"),
        (SECTION.replace("s.a", "other.a"), "other.a", "sections[0].clauses[0].id", "must be s.a"),
        (SECTION.replace("s.a", "a"), "a, title", "sections[0].clauses[0].id", "section.name"),
        (SECTION.replace("id: s\n", "id: default\n"), "default", "sections[0].id", "reserved word"),
        (
            SECTION.replace("id: s\n", "id: integrity\n"),
            "integrity",
            "sections[0].id",
            "reserved word",
        ),
        (
            SECTION.replace("low: x", "lo: x"),
            "lo: x",
            "sections[0].clauses[0].severity.lo",
            "'low'?",
        ),
        (SECTION.replace("low: x", ""), "{}", "sections[0].clauses[0].severity", "at least one of"),
        (SECTION.replace("[input]", "[]"), "[]", "sections[0].clauses[0].stages", "at least 1"),
        (
            SECTION.replace("[input]", "[in]"),
            "in]",
            "sections[0].clauses[0].stages[0]",
            "input, output",
        ),
        (
            SECTION.replace("[input]", "[input, input]"),
            "[input, ",
            "sections[0].clauses[0].stages",
            "once",
        ),
        (SECTION.replace("R.", "''"), "'', stages", "sections[0].clauses[0].rule", "not blank"),
        (
            SECTION.replace("low: x}", "low: x}, floor: lwo"),
            "lwo",
            "sections[0].clauses[0].floor",
            "did you mean 'low'?",
        ),
        (
            SECTION.replace("low: x}", "low: x}, floor: low, evidence: account"),
            "low, evid",
            "sections[0].clauses[0].floor",
            "cannot have a floor",
        ),
        (
            SECTION.replace("low: x}", "low: x}, action: warn"),
            "warn}",
            "sections[0].clauses[0].action",
            "in the settings",
        ),
        (
            SECTION + "      - {" + CLAUSE + "}\n",
            "s.a",
            "sections[0].clauses[1].id",
            "'s.a' is used twice",
        ),
        (
            SECTION + "    exceptions:\n      - {id: s.e, title: E, rule: R., applies_to: [s.b], "
            "requires: {organisation: dealer}}\n",
            "s.b",
            "sections[0].exceptions[0].applies_to[0]",
            "found 's.b'; allowed: s.a",
        ),
        (
            SECTION + "    exceptions:\n      - {id: s.a, title: E, rule: R., applies_to: [s.a], "
            "requires: {organisation: dealer}}\n",
            "s.a, title: E",
            "sections[0].exceptions[0].id",
            "used twice",
        ),
        (
            SECTION + "disclosure:\n  - {id: d, title: D, rule: R., when: {interface: [chatbt]}}",
            "chatbt",
            "disclosure[0].when.interface[0]",
            "did you mean 'chatbot'?",
        ),
        (
            SECTION + "disclosure:\n  - {id: d, title: D, rule: R., when: {serves_minor: true}}",
            "serves_minor:",
            "disclosure[0].when.serves_minor",
            "did you mean 'serves_minors'?",
        ),
        (
            SECTION + "disclosure:\n  - {id: d, title: D, rule: R., when: {serves_minors: 'yes'}}",
            "'yes'",
            "disclosure[0].when.serves_minors[0]",
            "true, false",
        ),
        (
            SECTION + "disclosure:\n  - {id: d, title: D, rule: R., when: {organisation: true}}",
            "true}",
            "disclosure[0].when.organisation[0]",
            "allowed: a word",
        ),
        (
            SECTION + "disclosure:\n  - {id: d, title: D, rule: R., when: {organisation: [3]}}",
            "3]",
            "disclosure[0].when.organisation[0]",
            "a word, or true or false",
        ),
        (
            SECTION + "disclosure:\n  - {id: s, title: D, rule: R., when: {organisation: x}}",
            "s, title: D",
            "disclosure[0].id",
            "used twice",
        ),
        (
            SECTION + "high_risk:\n  - {id: s, title: D, rule: R., requirements: [disclosure]}",
            "s, title: D",
            "high_risk[0].id",
            "used twice",
        ),
        (
            SECTION + "high_risk:\n  - {id: u, title: D, rule: R., requirements: [review]}",
            "review]",
            "high_risk[0].requirements[0]",
            "human_review, disclosure",
        ),
        (
            SECTION
            + "integrity:\n  - {"
            + CLAUSE.replace("s.a", "integrity.a")
            + ", action: hold}",
            "hold}",
            "integrity[0].action",
            "allow, warn, block",
        ),
        (
            SECTION + "source: {name: N, effective: 2024-13-01}",
            "2024-13",
            "source.effective",
            "found 2024-13-01; allowed: a date",
        ),
        (
            HEAD + f"include: {DEFAULT_POLICY}\nsections:\n  - id: elections\n    title: E\n"
            "    clauses: [{" + CLAUSE.replace("s.a", "elections.a") + "}]",
            "elections\n",
            "sections[0].id",
            "already has a section 'elections'",
        ),
    ],
)
def test_a_wrong_policy_file_is_refused_with_the_place(
    tmp_path: Path, text: str, at: str, path: str, words: str
) -> None:
    file = tmp_path / "p.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        load_policy(file)
    before = text[: text.rindex(at)]
    place = (before.count("\n") + 1, len(before) - before.rfind("\n"), path)
    found = {(wrong.line, wrong.column, wrong.path): wrong for wrong in caught.value.problems}
    assert place in found, str(caught.value)
    assert words in found[place].message


def test_a_policy_file_is_found_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text(SECTION)
    assert load_policy("p.yaml", tmp_path).ref == "p@1"


def test_severity_levels_are_kept_in_ascending_order(tmp_path: Path) -> None:
    path = tmp_path / "p.yaml"
    path.write_text(SECTION.replace("low: x", "critical: z, low: x"))
    assert list(load_policy(path).clauses["s.a"].severity) == ["low", "critical"]


def weakened(**change: Any) -> Policy:
    policy = builtin_policy()
    clause = policy.clauses["child_safety.csam"].model_copy(update=change)
    section = policy.sections[0]
    section = section.model_copy(update={"clauses": (clause, *section.clauses[1:])})
    return policy.model_copy(update={"sections": (section, *policy.sections[1:])})


CSAM = builtin_policy().clauses["child_safety.csam"]


def excused(clause: str) -> Policy:
    policy = builtin_policy()
    exception = PolicyException(
        id="child_safety.art",
        title="Art",
        rule="Galleries may.",
        applies_to=(clause,),
        requires={"authorised": ("art",)},
    )
    section = policy.sections[0].model_copy(update={"exceptions": (exception,)})
    return policy.model_copy(update={"sections": (section, *policy.sections[1:])})


@pytest.mark.parametrize(
    ("policy", "how"),
    [
        (weakened(floor="high"), "has the floor high instead of low"),
        (weakened(floor=None), "has the floor none instead of low"),
        (weakened(evidence="account"), "has evidence: account"),
        (weakened(stages=("output",)), "is not judged at the stage input"),
        (weakened(id="child_safety.other"), "is missing"),
        (weakened(rule="Be nice."), "has a different rule"),
        (weakened(counts=("Nothing",)), "has a different list of what counts"),
        (weakened(counts=(*CSAM.counts, "Never report this")), "list of what counts"),
        (weakened(title="Never report this"), "has a different title"),
        (
            weakened(examples=(Example(violates="Nothing", does_not="All of this"),)),
            "has a different list of examples",
        ),
        (weakened(does_not_count=CSAM.does_not_count[:1]), "list of what does not count"),
        (weakened(does_not_count=("Anything in fiction",)), "what does not count"),
        (weakened(severity={"critical": "Never"}), "has a different text of a severity"),
        (excused("child_safety.csam"), "has the exception child_safety.art"),
    ],
)
def test_a_floor_can_be_loosened_in_no_way(policy: Policy, how: str) -> None:
    assert how in loosened_floors(policy)["child_safety.csam"]


@pytest.mark.parametrize(
    "policy",
    [
        weakened(floor="low"),
        excused("elections.campaigning"),
    ],
)
def test_a_clause_with_a_floor_can_be_made_stricter(policy: Policy) -> None:
    assert loosened_floors(policy) == {}


def test_facts_hold_if_the_profile_has_one_of_the_values_of_each() -> None:
    app = AppProfile(
        audience="business", interface="agent", organisation="dealer", authorised=("resale",)
    )
    assert holds({"interface": ("chatbot", "agent"), "audience": ("business",)}, app)
    assert holds({"organisation": ("dealer",), "authorised": ("repair", "resale")}, app)
    assert not holds({"interface": ("chatbot",), "audience": ("business",)}, app)
    assert not holds({"authorised": ("repair",)}, app)
    assert not holds({"serves_minors": (True,)}, app)
    assert not holds({"unknown": (True,)}, app)
    assert not holds({}, None)
