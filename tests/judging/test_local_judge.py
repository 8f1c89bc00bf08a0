"""The local judge: what it makes of scores, what it refuses, and that its files are up to date."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import textwrap
from importlib.machinery import SourceFileLoader
from pathlib import Path
from types import ModuleType

import anyio
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from magistrate.config.diagnostics import SettingsError
from magistrate.core.offline import OfflineDecision
from magistrate.evals.cases import Case, Dataset
from magistrate.evals.labels import for_case
from magistrate.judging import local, local_model
from magistrate.judging.local import LocalJudge, is_english, is_plain, middle
from magistrate.judging.local_answers import discloses_ai, high_risk
from magistrate.judging.local_model import (
    BUCKETS,
    HEADER,
    OVERLAP,
    PIECE,
    WEIGHTS,
    LocalModel,
    load_model,
    ngrams,
    pieces,
    read_model,
    said,
)
from magistrate.policy import Policy, builtin_policy
from magistrate.settings import Settings
from magistrate.verdicts import GRADES, SEVERITIES, Finding, Unavailable, Verdict
from magistrate.wire.parts import Part, Subject
from own_cases import own_cases

ROOT = Path(__file__).parents[2]
FOLDER = Path(local_model.__file__).parent
TRAIN = "run scripts/train-local-judge, then benchmarks/local_judge.py --write"


@pytest.fixture(scope="module")
def cases() -> Dataset:
    return own_cases()


@pytest.fixture(scope="module")
def judge() -> LocalJudge:
    return LocalJudge()


def script(name: str, path: str) -> ModuleType:
    loader = SourceFileLoader(name, str(ROOT / path))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    loader.exec_module(module)
    return module


def request(*texts: str, kind: str = "text") -> Subject:
    parts = (Part(f"messages[{i}].content", "user", kind, t) for i, t in enumerate(texts))  # type: ignore[arg-type]
    return Subject("input", tuple(parts))


def answer(text: str, question: str = "And?") -> Subject:
    return Subject(
        "output",
        (
            Part("messages[0].content", "user", "text", question, judged=False),
            Part("response.content[0]", "assistant", "text", text),
        ),
    )


def verdict_of(judge: LocalJudge, subject: Subject, settings: Settings | None = None) -> Verdict:
    outcome = judge.judge(subject, settings or Settings(), None, 60.0)
    assert isinstance(outcome, Verdict), outcome
    return outcome


# --- what it makes of scores: a model whose weights are known -------------------------------------

SECTIONS = ["fraud_abuse", "elections", "integrity"]
CLAUSES = [
    "fraud_abuse.fake_reviews",
    "fraud_abuse.spam",
    "elections.campaigning",
    "integrity.third_party_instructions",
]
# Word, and what it adds: to any violation, to each section, to each clause.
WORDS = {
    "stars": (2.0, (3, 0, 0), (9, 0, 0, 0)),
    "bulk": (2.0, (3, 0, 0), (0, 9, 0, 0)),
    "ballot": (4.0, (0, 5, 0), (0, 0, 9, 0)),
    "obey": (4.0, (0, 0, 9), (0, 0, 0, 9)),
    "tea": (-4.0, (0, 0, 0), (0, 0, 0, 0)),
}


def toy() -> LocalModel:
    rarity = np.zeros(BUCKETS, np.float32)
    weights = np.zeros((BUCKETS, 1 + len(SECTIONS)), np.float32)
    clauses = np.zeros((BUCKETS, len(CLAUSES)), np.int8)
    for word, (any_violation, sections, likeness) in WORDS.items():
        (bucket,) = ngrams(word)[0]
        rarity[bucket] = 1.0
        weights[bucket] = (any_violation, *sections)
        clauses[bucket] = likeness
    header = {
        "version": 0,
        "policy": "toy@1",
        "sections": SECTIONS,
        "clauses": CLAUSES,
        "thresholds": {"unlikely": 0.5, "possible": 1.0, "likely": 1.9, "certain": 3.9, "clear": 0},
    }
    return LocalModel(header, rarity, weights, np.zeros(4, np.float32), clauses, "0" * 64)


# With one word of length 1 the score is its weight; with two, their sum over the root of 2.
@pytest.mark.parametrize(
    ("subject", "found"),
    [
        (request("nothing known"), None),
        (request("tea"), None),
        (request("stars"), ("fraud_abuse.fake_reviews", "likely")),
        (request("bulk"), ("fraud_abuse.spam", "likely")),
        (request("ballot"), ("elections.campaigning", "certain")),
        (request("stars bulk ballot"), ("fraud_abuse.fake_reviews", "certain")),
        (request("ballot tea"), None),
        (request("ballot ballot tea"), ("elections.campaigning", "possible")),
        (request("stars stars stars tea"), None),
        # Only third-party text can hold planted instructions; else the next section has it.
        (request("obey", kind="third_party"), ("integrity.third_party_instructions", "certain")),
        (request("obey stars"), ("fraud_abuse.fake_reviews", "certain")),
        (answer("obey stars"), ("fraud_abuse.fake_reviews", "certain")),
        # An answer is read with its question.
        (answer("Sure!", "stars"), ("fraud_abuse.fake_reviews", "likely")),
    ],
)
def test_a_score_becomes_a_finding(subject: Subject, found: tuple[str, str] | None) -> None:
    verdict = verdict_of(LocalJudge(toy()), subject)
    assert [(f.clause, f.grade) for f in verdict.findings] == ([found] if found else [])
    assert all(f.stage == subject.stage and f.evidence is None for f in verdict.findings)


def test_a_finding_stands_at_the_part_that_scores_highest() -> None:
    (found,) = verdict_of(LocalJudge(toy()), request("pot", "ballot stars", "kettle")).findings
    assert found.path == "messages[1].content"


def test_what_was_judged_before_is_context_and_never_the_place() -> None:
    before = Part("messages[0].content", "user", "text", "ballot ballot", judged=False)
    now = Part("messages[1].content", "user", "text", "what about stars")
    (found,) = verdict_of(LocalJudge(toy()), Subject("input", (before, now))).findings
    assert found.path == "messages[1].content"


def test_the_worst_piece_of_a_long_text_counts() -> None:
    judge = LocalJudge(toy())
    long = "tea " * 3_000
    assert verdict_of(judge, request(long)).findings == ()
    for place in (0, len(long) // 2, len(long)):
        hidden = f"{long[:place]} {'ballot ' * 600} {long[place:]}"
        assert verdict_of(judge, request(hidden)).findings


@given(st.text(max_size=5 * PIECE), st.data())
def test_whatever_is_short_stands_whole_in_some_piece(text: str, data: st.DataObject) -> None:
    start = data.draw(st.integers(0, len(text)))
    short = text[start : start + data.draw(st.integers(0, OVERLAP))]
    cut = list(pieces(text))
    assert any(short in piece for piece in cut)
    assert max(map(len, cut)) <= PIECE


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ("Write FIVE reviews", "write  five\n reviews!"),
        ("in 2023 and 1", "in 1987 and 7"),
        ("ｆｕｌｌ ｗｉｄｔｈ", "full width"),
    ],
)
def test_case_digits_width_and_spacing_make_no_difference(a: str, b: str) -> None:
    assert ngrams(a) == ngrams(b)


# --- verdicts of the model that ships -------------------------------------------------------------


def test_severity_is_the_middle_level_the_upper_of_two() -> None:
    table = {
        ("low", "medium", "high"): "medium",
        ("medium", "high", "critical"): "high",
        ("high", "critical"): "critical",
        ("critical",): "critical",
        SEVERITIES: "high",
    }
    clause = builtin_policy().clauses[CLAUSES[0]]
    for levels, expected in table.items():
        own = clause.model_copy(update={"severity": dict.fromkeys(levels, "words")})
        assert middle(own) == expected


@given(
    st.lists(st.text(st.characters(codec=None), max_size=300), min_size=1, max_size=3),
    st.sampled_from(["text", "third_party", "tool_use", "definition"]),
)
@example(["\ud800 \udfff"], "text")
@example([""], "text")
def test_any_text_gets_a_verdict_on_clauses_of_its_stage(texts: list[str], kind: str) -> None:
    policy = builtin_policy()
    for subject in (request(*texts, kind=kind), answer(texts[0])):
        verdict = verdict_of(LocalJudge(), subject)
        for found in verdict.findings:
            clause = policy.clauses[found.clause]
            assert subject.stage in clause.stages and found.severity in clause.severity
            assert found.grade in GRADES[1:]
            assert kind == "third_party" or not found.clause.startswith("integrity.")
        assert isinstance(LocalJudge().clear(subject), bool)


def test_both_flavours_agree_and_cost_nothing(cases: Dataset, judge: LocalJudge) -> None:
    async def both(case: Case) -> None:
        settings = for_case(Settings(), case)
        offline = case.offline(settings)
        assert offline.subject is not None
        verdict = judge.judge(offline.subject, settings, None, 60.0)
        assert isinstance(verdict, Verdict)
        assert verdict == await judge.judge_async(offline.subject, settings, None, 60.0)
        assert (verdict.usage.cost_usd, verdict.usage.input_tokens) == (0.0, 0)
        assert verdict.judge == judge.info(settings)
        offline.decide([verdict], verdict.judge)

    async def all_of() -> None:
        for case in cases.cases[::40]:
            await both(case)

    anyio.run(all_of)


def test_what_it_cannot_judge_is_not_safe(judge: LocalJudge) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": ""}}
    media = Subject(
        "input", (Part("messages[0].content[0]", "user", "media", "", attachment=image),)
    )
    long = request("word " * (local.MAX_LENGTH // 5 + 1))
    for subject, deadline_s, reason in (
        (media, 60.0, "unsupported"),
        (long, 60.0, "too_long"),
        (request("hello"), 0.0, "timeout"),
    ):
        outcome = judge.judge(subject, Settings(), None, deadline_s)
        assert isinstance(outcome, Unavailable) and outcome.reason == reason


def test_info_changes_with_what_shapes_a_verdict(judge: LocalJudge) -> None:
    app = {"audience": "internal", "interface": "api", "high_risk": ["legal"]}
    plain, risky = Settings(), Settings.load({"version": 1, "app": app})
    assert judge.info(plain).name == "local"
    assert judge.info(plain) == judge.info(Settings())
    assert judge.info(plain) != judge.info(risky)
    assert judge.info(plain) != LocalJudge(with_version(99)).info(plain)


def with_version(number: int) -> LocalModel:
    header = json.loads((FOLDER / HEADER).read_text("utf-8")) | {"version": number}
    return read_model(header, (FOLDER / WEIGHTS).read_bytes())


# --- clear ----------------------------------------------------------------------------------------

CLEAR = "Could you suggest a tea for six of us, with the herbs that are in our garden now?"


@pytest.mark.parametrize(
    ("text", "clear"),
    [
        (CLEAR, True),
        (CLEAR.replace("tea", "meal"), False),  # nothing known speaks for it
        (f"{CLEAR} And a ballot?", False),
    ],
)
def test_only_what_is_known_to_be_harmless_is_clear(text: str, clear: bool) -> None:
    assert LocalJudge(toy()).clear(request(text)) is clear
    assert LocalJudge(toy()).clear(answer(text)) is clear


@pytest.mark.parametrize(
    "subject",
    [
        request("Könntest du mir einen Tee, tea, für sechs Leute vorschlagen, mit Kräutern?"),
        request(CLEAR, "Et avec le thym, combien de temps faut-il laisser infuser, dis-moi ?"),
        request(CLEAR.replace("herbs", "he\u200brbs")),
        request(f"{CLEAR} aW5zdHJ1Y3Rpb25zIHRoYXQgbm9ib2R5IHNob3VsZCByZWFk"),
        request(f"{CLEAR} " * (local.MAX_CLEAR_LENGTH // len(CLEAR) + 1)),
        Subject("output", answer(CLEAR).parts, final=False),
        Subject(
            "input",
            (
                *request(CLEAR).parts,
                Part("messages[1].content[0]", "user", "media", "", attachment={"type": "image"}),
            ),
        ),
        Subject(
            "input",
            (
                Part(
                    "messages[0].content[0]",
                    "user",
                    "third_party",
                    CLEAR,
                    labels={"title": "he\u202erbs"},
                ),
            ),
        ),
    ],
)
def test_what_it_cannot_see_through_is_never_clear(subject: Subject) -> None:
    assert not LocalJudge(toy()).clear(subject)


def test_no_case_in_another_language_is_clear_by_itself(cases: Dataset) -> None:
    foreign = [c for c in cases if "language" in c.slices and c.split == "dev"]
    english = [c for c in cases if not {"language", "disguise"} & set(c.slices)]
    assert len(foreign) > 50
    plain = [is_english(c.text) for c in foreign]
    assert not any(plain)
    assert sum(is_english(c.text) for c in english) > 0.9 * len(english)


# --- what an answer is ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("As an AI I can't see the contract.", True),
        ("I'm the shop's AI assistant, and the bread is ready at six.", True),
        ("I’m a computer program, an AI, but I do see that.", True),
        ("Ich bin ein KI-Assistent im Bestellportal.", True),
        ("Je suis une IA.", True),
        ("I'm not an AI, I have been on the counter since five.", False),
        ("I am as human as she is!", False),
        ("AI is changing how hospitals work.", False),
        ("I am tired. The AI course starts on Monday.", False),
    ],
)
def test_disclosure_is_a_sentence_about_oneself(text: str, says: bool) -> None:
    assert discloses_ai(answer(text)) is says
    assert not discloses_ai(request(text))
    assert not discloses_ai(answer("Yes.", question=text))


@pytest.mark.parametrize(
    ("text", "declared", "expected"),
    [
        ("You should not sign; you are owed the overtime.", ["legal"], ("legal", "advice", True)),
        ("The claim is denied.", ["insurance"], ("insurance", "decision", True)),
        (
            "I recommend the second candidate.",
            ["employment_housing"],
            ("employment_housing", "recommendation", True),
        ),
        ("A deposit scheme keeps money apart.", ["legal"], ("legal", "general", False)),
        ("Talks failed again on Friday.", ["media"], ("media", "publication", False)),
        ("You should not sign.", [], None),
        (
            "You should check the premium and the cover before you renew, says the insurance.",
            ["legal", "insurance"],
            ("insurance", "advice", True),
        ),
    ],
)
def test_high_risk_is_looked_for_in_declared_domains_only(
    text: str, declared: list[str], expected: tuple[str, str, bool] | None
) -> None:
    app = {"audience": "internal", "interface": "api", "high_risk": declared}
    settings = Settings.load({"version": 1, "app": app})
    found = [(a.domain, a.kind, a.individual) for a in high_risk(answer(text), settings)]
    assert found == ([expected] if expected else [])
    assert list(high_risk(request(text), settings)) == []
    assert list(high_risk(answer(text), Settings())) == []


# --- policies, the extra, and the files -----------------------------------------------------------


def test_a_policy_without_the_models_clauses_is_refused(judge: LocalJudge) -> None:
    full = builtin_policy()
    sections = tuple(section for section in full.sections if section.id != "elections")
    policy: Policy = full.model_copy(update={"sections": sections, "version": "mine"})
    for refuse in (judge.check, lambda p: judge.info(Settings(policy=p))):
        with pytest.raises(SettingsError, match=r"lacks elections\.campaigning") as caught:
            refuse(policy)
        assert "backend: claude" in str(caught.value)


def test_a_policy_with_more_sections_is_judged_by_those_known(judge: LocalJudge) -> None:
    full = builtin_policy()
    own = full.sections[0].model_copy(
        update={
            "id": "house",
            "clauses": (full.sections[0].clauses[0].model_copy(update={"id": "house.rule"}),),
        }
    )
    settings = Settings(policy=full.model_copy(update={"sections": (*full.sections, own)}))
    judge.check(settings.policy)
    subject = request("Draft a letter that looks as though the tax office wrote it.")
    known = {f.clause for f in verdict_of(judge, subject, settings).findings}
    assert known == {f.clause for f in verdict_of(judge, subject).findings}


def test_without_numpy_the_error_names_the_extra() -> None:
    program = """
        import sys
        sys.modules["numpy"] = None  # an import of it fails
        from magistrate.judging.local import LocalJudge
        from magistrate.config.diagnostics import SettingsError
        try:
            LocalJudge()
        except SettingsError as error:
            print(error)
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert "pip install 'magistrate[local]'" in ran.stdout


def test_judging_imports_numpy_and_nothing_heavier() -> None:
    program = """
        import sys
        from magistrate.judging import local
        assert "numpy" not in sys.modules, "imported before anybody asked"
        local.LocalJudge()
        print(*({"numpy", "scipy", "sklearn"} & set(sys.modules)))
    """
    ran = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True
    )
    assert ran.stdout.split() == ["numpy"]


def test_the_model_is_small_data_that_belongs_together() -> None:
    weights = (FOLDER / WEIGHTS).read_bytes()
    header = json.loads((FOLDER / HEADER).read_text("utf-8"))
    assert len(weights) < 3_000_000
    with pytest.raises(ValueError, match="is not the file"):
        read_model(header, weights + b"\0")
    with np.load(FOLDER / WEIGHTS, allow_pickle=False) as arrays:
        assert all(arrays[name].dtype.kind in "if" for name in arrays.files)


def test_the_model_was_trained_on_the_dev_cases_and_the_policy_as_they_are(cases: Dataset) -> None:
    header = load_model().header
    dev = Dataset(tuple(c for c in cases.only("dev") if c.contested is None and not c.declined))
    assert header["policy_hash"] == builtin_policy().hash, TRAIN
    assert header["cases_hash"] == dev.hash, TRAIN
    assert (header["cases"], header["violating"]) == (len(dev), sum(not c.benign for c in dev))
    ids = builtin_policy().clauses
    assert [id.partition(".")[0] for id in ids] == [
        builtin_policy().section_of(id).id for id in ids
    ]


def test_the_card_is_about_the_test_cases_as_they_are(cases: Dataset) -> None:
    test = Dataset(tuple(c for c in cases.only("test") if c.contested is None))
    card = (ROOT / "docs" / "local-judge.md").read_text("utf-8")
    assert test.hash[:16] in card, TRAIN
    assert load_model().name in card, TRAIN


@pytest.mark.slow
def test_the_numbers_of_the_card_are_those_measured() -> None:
    benchmark = script("benchmark_local_judge", "benchmarks/local_judge.py")
    card = (ROOT / "docs" / "local-judge.md").read_text("utf-8")
    _, _, rest = card.partition(benchmark.BEGIN)
    assert rest.partition(benchmark.END)[0].strip() == benchmark.card(), TRAIN


@pytest.mark.slow
def test_training_again_looks_at_dev_only_and_gives_the_same_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = script("train_local_judge", "scripts/train-local-judge")
    seen: list[Case] = []
    rows = training.case_rows
    monkeypatch.setattr(training, "case_rows", lambda cases: seen.extend(cases) or rows(cases))
    monkeypatch.setattr(training, "FOLDER", tmp_path)
    training.main()
    assert {case.split for case in seen} == {"dev"}
    # Of the same cases; the last digit of a weight may be another with another BLAS.
    made, kept = (json.loads((at / HEADER).read_text("utf-8")) for at in (tmp_path, FOLDER))
    for key in ("policy_hash", "cases_hash", "cases", "violating", "sections", "clauses"):
        assert made[key] == kept[key], TRAIN
    assert made["thresholds"] == pytest.approx(kept["thresholds"], abs=0.02), TRAIN
    with np.load(tmp_path / WEIGHTS) as new, np.load(FOLDER / WEIGHTS) as old:
        assert set(new) == set(old)
        for name in old:
            steps = 2 if old[name].dtype == np.int8 else 0.02
            away = np.abs(new[name].astype(float) - old[name].astype(float))
            assert away.max() <= steps, (name, TRAIN)


def test_said_is_what_is_judged_after_the_end_of_what_was_said_before() -> None:
    subject = Subject(
        "input",
        (
            Part("system", "system", "text", "early " * 1_000, judged=False),
            Part("messages[0].content", "user", "text", "the question", judged=False),
            Part(
                "messages[1].content[0]",
                "user",
                "third_party",
                "the page",
                labels={"title": "the title", "tool_use_id": "toolu_1"},
            ),
        ),
    )
    text = said(subject)
    assert text.endswith("the question\nthe title\nthe page")
    assert len(text) < local_model.CONTEXT + 100 and "toolu_1" not in text
    assert is_plain(subject) is is_english("the page")


def test_findings_are_what_the_decision_takes() -> None:
    (found,) = verdict_of(LocalJudge(toy()), request("ballot")).findings
    assert isinstance(found, Finding)
    settings = Settings()
    offline = OfflineDecision.of(
        settings, "input", {"messages": [{"role": "user", "content": "ballot"}]}, {}
    )
    decided = offline.decide([verdict_of(LocalJudge(toy()), request("ballot"))], found_by())
    assert decided.action == "block"


def found_by():
    return LocalJudge(toy()).info(Settings())
