"""`magistrate.yaml`: what it resolves to, and every way in which it can be wrong."""

from __future__ import annotations

import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from magistrate.policy import Policy, builtin_policy, load_policy
from magistrate.settings import (
    DEFAULT_CHAT_DISCLOSURE,
    ActionRow,
    AppProfile,
    ClauseAction,
    Settings,
    SettingsError,
    StreamingSettings,
)

DATA = Path(__file__).parents[1] / "data"
EXAMPLE = """\
version: 1
policy: anthropic-usage-policy@2024-06-06
app:
  name: acme-support
  audience: consumer
  interface: chatbot
  serves_minors: false
  high_risk: [healthcare]
  decides_about_individuals: false
  publishes_automatically: false
  organisation: company
judge: {model: claude-haiku-5-5, deadline_s: 8, on_failure: block}
input_check: concurrent
actions:
  default: {input: block, output: block, from_grade: likely, from_severity: medium}
  misinformation: {output: warn}
on_block: refuse
disclosure: {chat: "You are talking to an AI assistant."}
review: {store: "sqlite:///var/reviews.db", reviewers: [{name: dr.lee, qualified_in: [healthcare]}]}
audit: {content: none}
"""
REVIEW = {
    "store": "sqlite:///r.db",
    "reviewers": [{"name": "lee", "qualified_in": ["healthcare", "sexual_content"]}],
}
PLAIN_APP = {"audience": "internal", "interface": "chatbot"}


def load_text(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "magistrate.yaml"
    path.write_text(text, encoding="utf-8")
    return Settings.load(path)


# Where settings come from


def test_the_example_of_the_documentation_loads(tmp_path: Path) -> None:
    found = load_text(tmp_path, EXAMPLE)
    assert found.app is not None and found.app.name == "acme-support"
    assert found.judge.deadline_s == 8
    assert found.policy is builtin_policy()
    assert found.source == str(tmp_path / "magistrate.yaml")


def test_without_a_file_the_defaults_are_in_force(tmp_path: Path) -> None:
    found = Settings.load(environ={}, cwd=tmp_path)
    assert found.source is None
    assert found.app is None
    assert not found.may_hold
    assert found == Settings.load({})


def test_the_variable_goes_before_the_file_in_the_directory(tmp_path: Path) -> None:
    (tmp_path / "magistrate.yaml").write_text("on_block: raise")
    (tmp_path / "other.yaml").write_text("on_hold: raise")
    assert Settings.load(environ={}, cwd=tmp_path).on_block == "raise"
    found = Settings.load(environ={"MAGISTRATE_CONFIG": "other.yaml"}, cwd=tmp_path)
    assert (found.on_block, found.on_hold) == ("refuse", "raise")
    assert Settings.load(environ={"MAGISTRATE_CONFIG": ""}, cwd=tmp_path).on_block == "raise"


@pytest.mark.parametrize("source", [None, "none.yaml", Path("none.yaml")])
def test_a_named_file_that_is_missing_is_an_error(tmp_path: Path, source: Any) -> None:
    with pytest.raises(SettingsError, match=r"none\.yaml: this file does not exist"):
        Settings.load(source, environ={"MAGISTRATE_CONFIG": "none.yaml"}, cwd=tmp_path)


def test_a_dangling_link_is_not_taken_for_no_file(tmp_path: Path) -> None:
    (tmp_path / "magistrate.yaml").symlink_to(tmp_path / "gone.yaml")
    with pytest.raises(SettingsError, match="does not exist"):
        Settings.load(environ={}, cwd=tmp_path)


def test_a_policy_is_found_relative_to_the_file_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "conf").mkdir()
    shutil.copy(DATA / "house-rules.yaml", tmp_path / "conf" / "house.yaml")
    (tmp_path / "conf" / "m.yaml").write_text("policy: ./house.yaml")
    assert Settings.load("conf/m.yaml", cwd=tmp_path).policy.id == "acme-house-rules"


@pytest.mark.parametrize(
    "policy",
    [DATA / "house-rules.yaml", "house-rules.yaml", load_policy(DATA / "house-rules.yaml")],
)
def test_a_mapping_can_name_or_hold_a_policy(policy: object) -> None:
    assert Settings.load({"policy": policy}, cwd=DATA).policy.id == "acme-house-rules"


def test_a_mapping_can_hold_models() -> None:
    app = AppProfile(audience="business", interface="agent")
    assert Settings.load({"app": app}).app == app


def test_loaded_settings_are_what_load_returns() -> None:
    found = Settings.load({})
    assert Settings.load(found) is found


def test_settings_made_by_hand_are_checked_too() -> None:
    by_hand = Settings(actions={"sexual_content": ActionRow(output="hold")})
    with pytest.raises(
        SettingsError, match=r"actions\.sexual_content\.output: .* `review:` is missing"
    ):
        Settings.load(by_hand)


def test_settings_cannot_be_changed() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Settings.load({}).on_block = "raise"  # type: ignore[misc]


# What they resolve to


@pytest.mark.parametrize(
    ("actions", "clause", "stage", "rule"),
    [
        ({}, "elections.campaigning", "input", ("block", "likely", "medium")),
        (
            {"default": {"output": "warn"}},
            "elections.campaigning",
            "output",
            ("warn", "likely", "medium"),
        ),
        (
            {"default": {"output": "warn"}},
            "elections.campaigning",
            "input",
            ("block", "likely", "medium"),
        ),
        (
            {
                "default": {"output": "allow", "from_grade": "certain"},
                "elections": {"output": "warn"},
            },
            "elections.campaigning",
            "output",
            ("warn", "certain", "medium"),
        ),
        (
            {
                "default": {"from_severity": "low"},
                "elections": {"output": "warn", "from_grade": "possible"},
                "elections.campaigning": {"output": "allow"},
            },
            "elections.campaigning",
            "output",
            ("allow", "possible", "low"),
        ),
        ({}, "integrity.third_party_instructions", "input", ("warn", "likely", "medium")),
        (
            {"default": {"input": "block", "from_grade": "certain"}},
            "integrity.third_party_instructions",
            "input",
            ("warn", "certain", "medium"),
        ),
        (
            {"integrity": {"input": "block"}},
            "integrity.third_party_instructions",
            "input",
            ("block", "likely", "medium"),
        ),
        (
            {
                "integrity": {"input": "block"},
                "integrity.third_party_instructions": {"input": "allow"},
            },
            "integrity.third_party_instructions",
            "input",
            ("allow", "likely", "medium"),
        ),
    ],
)
def test_the_most_specific_row_wins_field_by_field(
    actions: dict[str, Any], clause: str, stage: Any, rule: tuple[Any, Any, Any]
) -> None:
    assert Settings.load({"actions": actions}).clause_action(clause, stage) == ClauseAction(*rule)


def test_a_clause_the_policy_does_not_have_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        Settings.load({}).clause_action("elections.nothing", "input")


@pytest.mark.parametrize(
    ("clause", "severity", "holds"),
    [
        ("child_safety.csam", "low", True),
        ("weapons_regulated_goods.weapons", "medium", False),
        ("weapons_regulated_goods.weapons", "high", True),
        ("weapons_regulated_goods.weapons", "critical", True),
        ("elections.campaigning", "critical", False),
        ("no.clause", "critical", False),
    ],
)
def test_floors_hold_from_their_severity(clause: str, severity: Any, holds: bool) -> None:
    found = Settings.load(
        {"actions": {"default": {"output": "allow", "from_severity": "critical"}}}
    )
    assert found.floor_holds(clause, severity) is holds


def test_a_policy_of_ones_own_can_lower_floors_but_built_in_ones_remain() -> None:
    policy = builtin_policy()
    lower = policy.clauses["weapons_regulated_goods.weapons"].model_copy(update={"floor": "low"})
    section = policy.section_of(lower.id)
    clauses = tuple(lower if clause.id == lower.id else clause for clause in section.clauses)
    section = section.model_copy(update={"clauses": clauses})
    sections = tuple(section if old.id == section.id else old for old in policy.sections)
    found = Settings.load({"policy": policy.model_copy(update={"sections": sections})})
    assert found.floor_holds(lower.id, "low")
    assert found.floor_holds("child_safety.csam", "low")


@pytest.mark.parametrize(
    ("app", "may_hold"),
    [
        ({"audience": "consumer", "interface": "chatbot"}, False),
        ({"audience": "consumer", "interface": "chatbot", "high_risk": ["healthcare"]}, True),
        ({"audience": "business", "interface": "chatbot", "high_risk": ["healthcare"]}, False),
        (
            {
                "audience": "internal",
                "interface": "batch",
                "high_risk": ["healthcare"],
                "decides_about_individuals": True,
            },
            True,
        ),
        ({"audience": "consumer", "interface": "chatbot", "high_risk": ["media"]}, False),
        (
            {
                "audience": "business",
                "interface": "api",
                "high_risk": ["media"],
                "publishes_automatically": True,
            },
            True,
        ),
    ],
)
def test_answers_may_be_held_where_a_declared_use_can_owe_review(
    app: dict[str, Any], may_hold: bool
) -> None:
    review = {**REVIEW, "reviewers": [{"name": "lee", "qualified_in": ["healthcare", "media"]}]}
    found = Settings.load({"app": app, "review": review})
    assert found.may_hold is may_hold
    assert found.release == ("message" if may_hold else "window")


def test_answers_may_be_held_where_an_action_says_so() -> None:
    found = Settings.load({"actions": {"sexual_content": {"output": "hold"}}, "review": REVIEW})
    assert found.may_hold
    assert found.release == "message"


@pytest.mark.parametrize("release", ["window", "message", "shadow"])
def test_the_release_that_was_asked_for_is_in_force(release: str) -> None:
    assert Settings.load({"streaming": {"release": release}}).release == release


@pytest.mark.parametrize(
    ("app", "permitted"),
    [
        (None, []),
        ({"organisation": "company", "authorised": ["back_office"]}, []),
        ({"organisation": "law_enforcement"}, []),
        (
            {"organisation": "law_enforcement", "authorised": ["back_office"]},
            ["criminal_justice_surveillance.back_office"],
        ),
        (
            {"organisation": "law_enforcement", "authorised": ["missing_persons", "back_office"]},
            [
                "criminal_justice_surveillance.back_office",
                "criminal_justice_surveillance.missing_persons",
            ],
        ),
    ],
)
def test_exceptions_are_for_profiles_that_declare_them(
    app: dict[str, Any] | None, permitted: list[str]
) -> None:
    found = Settings.load({"app": PLAIN_APP | app} if app else {})
    assert [exception.id for exception in found.permitted_exceptions] == permitted


def test_on_failure_is_a_word_or_a_mapping() -> None:
    assert Settings.load({"judge": {"on_failure": "block"}}).judge.on_failure.input == "block"
    found = Settings.load({"judge": {"on_failure": {"input": "warn"}}}).judge.on_failure
    assert (found.input, found.output) == ("warn", "block")


def test_defaults_are_the_strict_ones() -> None:
    found = Settings.load({})
    assert found.judge.on_failure.input == found.judge.on_failure.output == "block"
    assert {name: action for name, action in found.on_uninspected if action != "block"} == {
        "encrypted": "allow",
        "remote_tools": "allow",
        "surfaces": {},
    }
    assert found.disclosure.chat == DEFAULT_CHAT_DISCLOSURE
    assert found.audit.content == "none"
    assert found.history == "redact"


# The hash


@pytest.mark.parametrize(
    ("change", "same"),
    [
        ({"version": 1}, True),
        ({"audit": {"content": "all"}}, True),
        ({"digest_key_env": "OTHER"}, True),
        ({"streaming": {"release": "window"}}, True),
        ({"streaming": {"release": "shadow"}}, False),
        ({"app": PLAIN_APP}, False),
        ({"actions": {"elections": {"input": "warn"}}}, False),
        ({"texts": {"block": "No."}}, False),
        ({"disclosure": {"chat": "I am a machine."}}, False),
        ({"judge": {"model": "other"}}, False),
        ({"on_uninspected": {"media": "warn"}}, False),
        ({"policy": DATA / "house-rules.yaml"}, False),
    ],
)
def test_the_hash_changes_with_what_shapes_decisions(change: dict[str, Any], same: bool) -> None:
    found = Settings.load(change).hash
    assert re.fullmatch("[0-9a-f]{64}", found)
    assert (found == Settings.load({}).hash) is same


def test_the_hash_does_not_depend_on_where_the_file_is(tmp_path: Path) -> None:
    assert load_text(tmp_path, "version: 1").hash == Settings.load({}).hash


# What is wrong with a file. Each row: the text, the words the place is at, the path, the message.

APP = "app: {audience: consumer, interface: chatbot, high_risk: [healthcare]}\n"
STORE = 'review: {store: "sqlite:///r.db", reviewers: [{name: lee, qualified_in: [healthcare]}]}\n'

WRONG_VALUES = [
    ("version: 2", "2", "version", "found 2; allowed: 1"),
    ("version: true", "true", "version", "found true; allowed: 1"),
    ("version: 1.0", "1.0", "version", "found 1.0; allowed: 1"),
    ('version: "1"', '"1"', "version", 'found "1"; allowed: 1'),
    ("verison: 1", "verison", "verison", "unknown key 'verison'; allowed here: version, policy"),
    ("verison: 1", "verison", "verison", "did you mean 'version'?"),
    ("source: x", "source", "source", "unknown key 'source'"),
    ("- a\n- b", "- a", "", "found a list; the file must be a mapping"),
    ("just words", "just", "", "found just words; the file must be a mapping"),
    ("", "", "", "the file is empty; write at least `version: 1`"),
    ("# nothing\n", "#", "", "the file is empty"),
    (
        "on_block: refuse\non_block: raise",
        "on_block: raise",
        "on_block",
        "duplicate key 'on_block'",
    ),
    ("on_block: refusal", "refusal", "on_block", "allowed: refuse, raise; did you mean 'refuse'?"),
    ("on_hold: hold", "hold", "on_hold", "allowed: notice, raise"),
    ("history: none", "none", "history", "allowed: redact, send"),
    ("input_check: after", "after", "input_check", "allowed: concurrent, before"),
    ("digest_key_env: 1KEY", "1KEY", "digest_key_env", "name of an environment variable"),
    ("app:", "app", "app", "found nothing; allowed: a value for this key"),
    (
        "app: {}",
        "app",
        "app.audience",
        "this key is missing; allowed: consumer, business, internal",
    ),
    ("app: {audience: consumer}", "app", "app.interface", "missing; allowed: chatbot, agent"),
    ("app: {audiense: consumer}", "audiense", "app.audiense", "did you mean 'audience'?"),
    ("app: consumer", "consumer", "app", "found consumer; allowed: a mapping"),
    ("app: {audience: public}", "public", "app.audience", "allowed: consumer, business, internal"),
    ("app: {serves_minors: yes}", "yes", "app.serves_minors", "did you mean 'true'?"),
    ("app: {serves_minors: Off}", "Off", "app.serves_minors", "did you mean 'false'?"),
    ('app: {serves_minors: "true"}', '"true"', "app.serves_minors", 'found "true"; allowed: true'),
    ("app: {serves_minors: 1}", "1", "app.serves_minors", "found 1; allowed: true or false"),
    ("app: {name: 7}", "7", "app.name", "found 7; allowed: text"),
    ("app: {name: ' '}", "' '", "app.name", "text that is not blank"),
    ("app: {organisation: Police Force}", "Police", "app.organisation", "one word of lowercase"),
    ("app: {authorised: [ok, 3]}", "3", "app.authorised[1]", "found 3; allowed: text"),
    ("app: {authorised: ok}", "ok", "app.authorised", "allowed: a list, such as [ok]"),
    ("judge: {model: ''}", "''", "judge.model", "text that is not blank"),
    ("judge: {deadline_s: 0}", "0", "judge.deadline_s", "greater than 0"),
    (
        "judge: {deadline_s: 601}",
        "601",
        "judge.deadline_s",
        "found 601; allowed: a number of at most",
    ),
    (
        "judge: {deadline_s: 012}",
        "012",
        "judge.deadline_s",
        "found 012; allowed: a number, written",
    ),
    ("judge: {deadline_s: .inf}", ".inf", "judge.deadline_s", "found .inf; allowed: a number"),
    ("judge: {deadline_s: true}", "true", "judge.deadline_s", "found true; allowed: a number"),
    ("judge: {max_tokens: 4_096}", "4_096", "judge.max_tokens", "found 4_096; allowed: a whole"),
    ("judge: {max_tokens: 300.0}", "300.0", "judge.max_tokens", "found 300.0; allowed: a whole"),
    ("judge: {max_tokens: 100}", "100", "judge.max_tokens", "at least 256"),
    ("judge: {concurrency: 0}", "0", "judge.concurrency", "at least 1"),
    ("judge: {effort: lo}", "lo", "judge.effort", "low, medium, high; did you mean 'low'?"),
    ("judge: {on_failure: warn}", "warn", "judge.on_failure", "the word block, or a mapping"),
    ("judge: {on_failure: {input: hold}}", "hold", "judge.on_failure.input", "allow, warn, block"),
    ("judge: {on_failure: {output: allow}}", "allow", "judge.on_failure.output", "never delivered"),
    ("judge: {on_failure: {output: blok}}", "blok", "judge.on_failure.output", "mean 'block'?"),
    ("judge: {on_failure: {inpt: warn}}", "inpt", "judge.on_failure.inpt", "did you mean 'input'?"),
    ("judge: [1]", "[1]", "judge", "found a list; allowed: a mapping"),
    ("actions: {default: warn}", "warn", "actions.default", "found warn; allowed: a mapping"),
    (
        "actions: {fraud_abuse.spam: block}",
        "block",
        "actions.fraud_abuse.spam",
        "found block; allowed: a mapping, such as {input: block, output: block}",
    ),
    (
        "actions: {fraud_abuse.spam: possible}",
        "possible",
        "actions.fraud_abuse.spam",
        "allowed: a mapping, such as {from_grade: possible}",
    ),
    ("judge: claude-x", "claude", "judge", "a mapping (key: value) with keys such as backend"),
    ("review: {reviewers: lee}", "lee", "review.reviewers", "mappings with the keys name, qual"),
    (
        "app:\naudience: internal",
        "audience",
        "audience",
        "belongs under 'app': indent it",
    ),
    ("retain_days: 3", "retain_days", "retain_days", "'retain_days' belongs under 'review'"),
    ("judge: {skip_clear: never}", "skip", "judge.skip_clear", "belongs under 'screen'"),
    ("sections: []", "sections", "sections", "unknown key 'sections'"),
    ("actions: {default: {input: blck}}", "blck", "actions.default.input", "did you mean 'block'?"),
    ("actions: {default: {input: no}}", "no", "actions.default.input", "found no; allowed: allow"),
    ("actions: {default: {input: }}", "input", "actions.default.input", "found nothing"),
    ("actions: {default: {stage: warn}}", "stage", "actions.default.stage", "unknown key 'stage'"),
    ("actions: {default: {from_grade: none}}", "none", "actions.default.from_grade", "unlikely"),
    (
        "actions: {default: {from_severity: hihg}}",
        "hihg",
        "actions.default.from_severity",
        "'high'?",
    ),
    ("texts: {block: ''}", "''", "texts.block", "text that is not blank"),
    ("disclosure: {chat: ' '}", "' '", "disclosure.chat", "text that is not blank"),
    ("disclosure: {chat: null}", "null", "disclosure.chat", "found nothing; allowed: text"),
    ("streaming: {release: windows}", "windows", "streaming.release", "did you mean 'window'?"),
    ("audit: {content: some}", "some", "audit.content", "allowed: none, flagged, all"),
    ("on_uninspected: {media: allow}", "allow", "on_uninspected.media", "without a warning"),
    ("on_uninspected: {encrypted: hold}", "hold", "on_uninspected.encrypted", "allow, warn, block"),
    (
        "on_uninspected: {video: block}",
        "video",
        "on_uninspected.video",
        "allowed here: file, media",
    ),
    ("review: {retain_days: 3}", "review", "review.store", "this key is missing"),
    (
        'review: {store: "reviews.db"}',
        '"reviews',
        "review.store",
        "sqlite:/// and the path of a file",
    ),
    ('review: {store: "sqlite://"}', '"sqlite', "review.store", "sqlite:/// and the path"),
    ('review: {store: "sqlite:///"}', '"sqlite', "review.store", "sqlite:/// and the path"),
    ('review: {store: "sqlite:///:memory:"}', '"sqlite', "review.store", "sqlite:/// and the path"),
    ('review: {store: "sqlite:///a?mode=memory"}', '"sqlite', "review.store", "the path of a file"),
    ('review: {store: "postgresql://h"}', '"post', "review.store", "sqlite:///"),
    ("review: {reviewers: []}", "[]", "review.reviewers", "at least 1 in the list"),
    ("review: {reviewers: [{name: lee}]}", "{name", "review.reviewers[0].qualified_in", "missing"),
    ("review: {retain_days: 0}", "0", "review.retain_days", "at least 1"),
    ("review:", "review", "review", "found nothing"),
    ("policy: nonsense@1", "nonsense", "policy", "allowed: anthropic-usage-policy@2024-06-06"),
    ("policy: anthropic-usage-policy", "anth", "policy", "'anthropic-usage-policy@2024-06-06'?"),
    ("policy: none.yaml", "none", "policy", "none.yaml: this file does not exist"),
    ("policy: [a]", "[a]", "policy", "found a list; allowed: a policy's reference"),
    ("policy:", "policy", "policy", "found nothing; allowed: a policy's reference"),
    ("%YAML 1.1\n---\non_block: no", "%", "", "directive"),
    ("on_block: [", "", "", "not valid YAML"),
    ("on_block: !x refuse", "!x", "on_block", "tags are not allowed"),
]

MISFITS = [
    ("actions: {elction: {}}", "elction", "actions.elction", "did you mean 'elections'?"),
    (
        "actions: {elections.campaining: {}}",
        "elections",
        "actions.elections.campaining",
        "did you mean 'elections.campaigning'?",
    ),
    ("actions: {nothing.like_it: {}}", "nothing", "actions.nothing.like_it", "the clause 'nothing"),
    ("actions: {elections: {input: hold}}", "hold", "actions.elections.input", "only answers"),
    (
        "actions: {sexual_content: {output: hold}}",
        "hold",
        "actions.sexual_content.output",
        "answers can be held (sexual_content), but `review:` is missing",
    ),
    (
        STORE + "actions: {sexual_content: {output: hold}}",
        "hold",
        "actions.sexual_content.output",
        "no reviewer is qualified in sexual_content",
    ),
    (
        STORE + "actions: {elections.campaigning: {output: hold}}",
        "hold",
        "actions.elections.campaigning.output",
        "no reviewer is qualified in elections",
    ),
    (APP, "healthcare", "app.high_risk[0]", "answers can be held (healthcare), but"),
    (
        APP + STORE.replace("healthcare", "legal"),
        "healthcare",
        "app.high_risk[0]",
        "no reviewer is qualified in healthcare",
    ),
    (
        "app: {audience: business, interface: api, decides_about_individuals: true, "
        "high_risk: [finance]}",
        "finance",
        "app.high_risk[0]",
        "answers can be held",
    ),
    (APP.replace("healthcare", "helthcare"), "helth", "app.high_risk[0]", "mean 'healthcare'?"),
    (
        STORE.replace("healthcare", "sexual"),
        "sexual",
        "review.reviewers[0].qualified_in[0]",
        "found 'sexual'; allowed: legal, healthcare",
    ),
    (
        'review: {store: "sqlite:///r.db", reviewers: [{name: lee, qualified_in: [legal]}, '
        "{name: lee, qualified_in: [finance]}]}",
        "lee, qualified_in: [finance]",
        "review.reviewers[1].name",
        "duplicate reviewer 'lee'",
    ),
    (
        APP + STORE + "streaming: {release: window}",
        "window",
        "streaming.release",
        "found window; allowed: message, shadow",
    ),
    (
        "actions: {child_safety.csam: {output: warn}}",
        "warn",
        "actions.child_safety.csam.output",
        "found warn; allowed: block: this clause has a floor",
    ),
    (
        "actions: {child_safety.csam: {input: allow}}",
        "allow",
        "actions.child_safety.csam.input",
        "found allow; allowed: block",
    ),
    (
        "actions: {child_safety.csam: {from_grade: certain}}",
        "certain",
        "actions.child_safety.csam.from_grade",
        "allowed: unlikely, possible, likely",
    ),
    (
        "actions: {child_safety.csam: {from_severity: medium}}",
        "medium",
        "actions.child_safety.csam.from_severity",
        "found medium; allowed: low",
    ),
    (
        "actions: {weapons_regulated_goods.weapons: {from_severity: critical}}",
        "critical",
        "actions.weapons_regulated_goods.weapons.from_severity",
        "found critical; allowed: low, medium, high",
    ),
    (
        "actions: {child_safety: {output: warn}}",
        "warn",
        "actions.child_safety.output",
        "all clauses of this section have floors and cannot be loosened (child_safety.csam,",
    ),
    (
        "actions: {weapons_regulated_goods: {from_severity: critical}}",
        "critical",
        "actions.weapons_regulated_goods.from_severity",
        "found critical; allowed: low, medium, high",
    ),
]


@pytest.mark.parametrize(("text", "at", "path", "words"), WRONG_VALUES + MISFITS)
def test_a_wrong_file_is_refused_with_place_path_and_words(
    tmp_path: Path, text: str, at: str, path: str, words: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        load_text(tmp_path, text)
    before = text[: text.rindex(at)]
    place = (before.count("\n") + 1, len(before) - before.rfind("\n"), path)
    found = [
        problem.message
        for problem in caught.value.problems
        if (problem.line, problem.column, problem.path) == place
    ]
    assert any(words in message for message in found), str(caught.value)
    assert str(tmp_path / "magistrate.yaml") in str(caught.value)


@pytest.mark.parametrize(
    "actions",
    [
        {"default": {"input": "warn", "output": "warn", "from_grade": "certain"}},
        {"default": {"from_severity": "critical"}},
        {"weapons_regulated_goods": {"from_severity": "high"}},
        {"violence_hate": {"output": "warn", "from_severity": "critical"}},
        {"child_safety": {"from_grade": "possible", "from_severity": "low", "input": "block"}},
        {"child_safety.csam": {"from_grade": "unlikely"}},
        {"elections.campaigning": {"input": "allow", "output": "allow"}},
    ],
)
def test_tightening_anything_and_loosening_the_rest_is_allowed(actions: dict[str, Any]) -> None:
    assert Settings.load({"actions": actions}).floor_holds("child_safety.csam", "low")


def test_a_policy_that_leaves_out_floors_is_refused_and_told_how_to_include_them(
    tmp_path: Path,
) -> None:
    text = (DATA / "house-rules.yaml").read_text()
    (tmp_path / "p.yaml").write_text(
        text.replace("include: anthropic-usage-policy@2024-06-06\n", "")
    )
    with pytest.raises(SettingsError) as caught:
        load_text(tmp_path, "version: 1\npolicy: p.yaml")
    (problem,) = caught.value.problems
    assert (problem.line, problem.column, problem.path) == (2, 9, "policy")
    assert "child_safety.csam is missing" in problem.message
    assert "and 10 more" in problem.message
    assert "`include: anthropic-usage-policy@2024-06-06`" in problem.message


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("app: {audiance: internal, interface: api}", "app.audiance"),
        (
            'review: {store: "sqlite:///r.db", reviewers: [{nam: x, qualified_in: [legal]}]}',
            "review.reviewers[0].nam",
        ),
        ('review: {store: "sqlite:///r.db", reviewers: [lee]}', "review.reviewers[0]"),
    ],
)
def test_one_mistake_is_one_problem(tmp_path: Path, text: str, path: str) -> None:
    with pytest.raises(SettingsError) as caught:
        load_text(tmp_path, text)
    assert [problem.path for problem in caught.value.problems] == [path], str(caught.value)


def test_other_keys_that_are_missing_are_still_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_text(tmp_path, "app: {audiance: internal}\nreview: {reviewers: []}")
    paths = [problem.path for problem in caught.value.problems]
    assert paths == ["app.interface", "app.audiance", "review.store", "review.reviewers"]


@pytest.mark.parametrize("source", [3, True, b"magistrate.yaml", ["magistrate.yaml"]])
def test_what_is_no_source_of_settings_is_a_type_error(source: Any) -> None:
    with pytest.raises(TypeError, match="allowed for moderation settings: the path of a file, a"):
        Settings.load(source)


def test_problems_of_a_policy_file_come_with_those_of_the_settings(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("id: p\nversion: 3\ntitle: P\n")
    with pytest.raises(SettingsError) as caught:
        load_text(tmp_path, "policy: p.yaml\non_block: rais\nactions: {default: {input: hold}}")
    places = {(Path(at.file or "").name, at.line, at.path) for at in caught.value.problems}
    assert places == {
        ("p.yaml", 2, "version"),
        ("magistrate.yaml", 2, "on_block"),
        ("magistrate.yaml", 3, "actions.default.input"),
    }


def test_all_problems_of_a_file_come_at_once_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = """\
version: 3
version: 1
app: {audience: consumer, interface: chatbot, high_risk: [healthcare, helthcare], serves_minors: n}
judge: {effort: lo, on_failure: warn}
actions:
  elction: {output: warn}
  child_safety.csam: {output: warn, from_grade: certian}
on_blok: raise
"""
    with pytest.raises(SettingsError) as caught:
        load_text(tmp_path, text)
    assert [(at.line, at.path) for at in caught.value.problems] == [
        (1, "version"),
        (2, "version"),
        (3, "app.high_risk[0]"),
        (3, "app.high_risk[1]"),
        (3, "app.serves_minors"),
        (4, "judge.effort"),
        (4, "judge.on_failure"),
        (6, "actions.elction"),
        (7, "actions.child_safety.csam.output"),
        (7, "actions.child_safety.csam.from_grade"),
        (8, "on_blok"),
    ]
    assert str(caught.value).count("\n\n") == len(caught.value.problems) - 1


def test_what_is_left_out_because_it_is_wrong_is_not_reported_as_missing(tmp_path: Path) -> None:
    with pytest.raises(SettingsError) as caught:
        load_text(tmp_path, APP + STORE.replace("r.db", ""))
    assert [at.path for at in caught.value.problems] == ["review.store"]
    with pytest.raises(SettingsError) as caught:
        load_text(tmp_path, "policy: none.yaml\nactions: {brand: {output: warn}}")
    assert [at.path for at in caught.value.problems] == ["policy"]


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (
            {"on_block": "rais"},
            "on_block: found 'rais'; allowed: refuse, raise; did you mean 'raise'?",
        ),
        (
            {"app": None},
            "app: found nothing; allowed: a value for this key; to use its default, remove the key",
        ),
        ({"policy": 3}, "policy: found 3; allowed: a policy's reference or the path of a file"),
        ({"judge": {"deadline_s": float("nan")}}, "judge.deadline_s: found nan; allowed: a number"),
        ({"judge": {"max_tokens": 10**5000}}, "judge.max_tokens: found a very large number"),
        ({"judge": object()}, "judge: found a object; allowed: a mapping"),
        ({3: 4}, "found the key 3; keys must be text"),
        (
            {"app": PLAIN_APP | {"name": "\ud800"}},
            "app.name: found '\\ud800'; allowed: text that is valid Unicode",
        ),
    ],
)
def test_a_mapping_gets_the_same_errors_without_places(data: Any, line: str) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(data)
    assert any(str(problem).startswith(line) for problem in caught.value.problems), caught.value
    assert {problem.line for problem in caught.value.problems} == {None}


def test_a_release_by_default_is_not_an_explicit_one() -> None:
    found = Settings.load({"app": dict(PLAIN_APP), "streaming": {}})
    assert found.streaming == StreamingSettings()
    assert found.release == "window"


# Whatever it is given, load answers with settings or a SettingsError.

KEYS = [
    "version",
    "policy",
    "app",
    "actions",
    "review",
    "judge",
    "streaming",
    "audience",
    "high_risk",
]
KEYS += ["default", "elections", "child_safety", "input", "output", "from_grade", "reviewers", "<<"]
WORDS = [
    "block",
    "hold",
    "warn",
    "yes",
    "012",
    "healthcare",
    "consumer",
    "chatbot",
    "1",
    ".nan",
    "~",
]
SYNTAX = [
    ":",
    ": ",
    "- ",
    "\n",
    "\n  ",
    "{",
    "}",
    "[",
    "]",
    ",",
    "&a ",
    "*a",
    "!x ",
    "|",
    ">",
    "%YAML 1.1\n",
]
SYNTAX += [
    "---\n",
    "...\n",
    "#",
    "'",
    '"',
    "? ",
    "\t",
    "\x85",
    "\u2028",
    "\ufeff",
    "\x00",
    "é",
    "😀",
]

FRAGMENTS = st.sampled_from(KEYS + WORDS + SYNTAX)
YAML_TEXT = st.one_of(
    st.text(max_size=80), st.lists(FRAGMENTS, max_size=40).map("".join), st.binary(max_size=60)
)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.text(st.characters(categories=["Cs", "Cc"]), max_size=3)
    | st.sampled_from(KEYS + WORDS)
    | st.binary(max_size=3)
)
NESTED = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(KEYS) | st.text(max_size=5) | st.integers(), inner, max_size=5
        )
    ),
    max_leaves=12,
)


def loads_or_refuses(source: Any, cwd: str) -> None:
    try:
        found = Settings.load(source, cwd=cwd)
    except SettingsError as error:
        assert error.problems
        assert str(error)
    else:
        assert isinstance(found.policy, Policy)
        assert found.hash


@settings(max_examples=400, deadline=None)
@given(YAML_TEXT)
def test_no_yaml_text_raises_anything_else(text: str | bytes) -> None:
    raw = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "m.yaml").write_bytes(raw)
        loads_or_refuses("m.yaml", directory)


@pytest.mark.parametrize(
    ("data", "path", "message"),
    [
        ({"[key]": None}, "[key]", "unknown key '[key]'"),
        ({"on_uninspected": {"[key]": "warn"}}, "on_uninspected.[key]", "unknown key '[key]'"),
        ({"actions": {"[key]": {"[key]": "warn"}}}, "actions.[key].[key]", "[key]"),
        (
            {"review": {"reviewers": [{"name": "x", "qualified_in": ["media"], "[key]": 3}]}},
            "review.reviewers[0].[key]",
            "unknown key '[key]'",
        ),
    ],
)
def test_a_key_named_as_the_validator_marks_keys(
    data: dict[str, Any], path: str, message: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings.load(data)
    assert any(p.path == path and message in p.message for p in caught.value.problems)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), NESTED, max_size=6))
def test_no_mapping_raises_anything_else(data: dict[str, Any]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        loads_or_refuses(data, directory)
