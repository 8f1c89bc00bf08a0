"use strict";
// Lists the cases of the report from the JSON in the page. All text of a case is hostile: it only
// ever becomes the text of an element. The address after # holds what is looked for.
(() => {
  const PAGE = 50;
  const data = JSON.parse(document.getElementById("data").textContent);
  const {cases, clauses, sections, runs} = data;
  const letters = runs.length > 1 ? ["A", "B"] : [""];
  const byId = (id) => document.getElementById(id);

  const WORDS = {
    right: "right", missed: "missed", alarm: "false alarm", failed: "no verdict",
    unlabelled: "flagged, not labelled", null: "label unknown", lost: "lost", won: "won", same: "changed",
    violated: "violated", ok: "not violated",
  };
  const say = (word) => WORDS[word] ?? word;

  // --- building elements -------------------------------------------------------------------------

  function el(name, attributes, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes ?? {})) {
      if (value === true) made.setAttribute(key, "");
      else if (value !== false && value != null) made.setAttribute(key, value);
    }
    made.append(...children.flat().filter((child) => child != null && child !== false));
    return made;
  }

  // What one does not see, or what turns text around: shown by its number. Left as they are: line
  // breaks, tabs, and what makes one picture of several (a variation selector, a joiner).
  const UNSEEN = /(?<=\p{Emoji})\uFE0F(?!\uFE0F)|(?<=[\p{Extended_Pictographic}\uFE0F\p{EMod}])\u200D(?=\p{Extended_Pictographic})|\r(?=\n)|([\p{DI}\p{Cc}\p{Cf}\p{Co}\p{Cs}\p{Zl}\p{Zp}\u2800])/gu;

  /** A string as nodes of text, with unseen characters made visible. */
  function shown(text) {
    const nodes = [];
    let from = 0;
    for (const found of text.matchAll(UNSEEN)) {
      const char = found[1];
      if (char === undefined || char === "\n" || char === "\t") continue;
      const number = char.codePointAt(0).toString(16).toUpperCase().padStart(4, "0");
      nodes.push(text.slice(from, found.index), el("span", {class: "unseen"}, `<U+${number}>`));
      from = found.index + char.length;
    }
    nodes.push(text.slice(from));
    return nodes;
  }

  const quoted = (text) => el("q", {dir: "auto"}, shown(text));
  const isolated = (text) => el("span", {class: "isolate", dir: "auto"}, shown(text));

  // --- looking for cases -------------------------------------------------------------------------

  const FIELDS = ["q", "section", "clause", "stage", "outcome", "run", "change", "expected",
    "decided", "slice", "split", "contested"];
  let state = {};
  let found = [];
  let folded = null;

  // As one reads it: without what is unseen, and without the difference of wide or small letters.
  const fold = (text) => text.replace(/\p{DI}/gu, "").normalize("NFKC").toLowerCase();

  function haystack(one) {
    const said = one.said.map((part) => part.text);
    const names = Object.keys(one.labels);
    const judged = one.runs.flatMap((run) => run?.judged ?? []);
    const findings = judged.flatMap((result) => result.findings ?? []);
    const titles = [...names, ...findings.map((finding) => finding.clause)]
      .flatMap((id) => [id, clauses[id]?.[0].title ?? ""]);
    const reasons = findings.flatMap((finding) => [finding.evidence ?? "", finding.reason ?? ""]);
    return fold([one.id, ...titles, ...one.tags ?? [], one.pair ?? "", one.note ?? "",
      one.contested ?? "", ...reasons, ...said].join("\n"));
  }

  /** Whether a run's judgment of a case fits what is looked for; both must fit the same run. */
  function fits(run, wanted) {
    if (run === null) return !wanted.outcome && !wanted.decided;
    const scope = wanted.clause || wanted.section;
    const outcome = scope ? run.about[scope] : run.outcome;
    if (scope && outcome === undefined) return false;
    if (wanted.outcome === "wrong" && !["missed", "alarm"].includes(outcome)) return false;
    if (wanted.outcome && wanted.outcome !== "wrong" && wanted.outcome !== outcome) return false;
    return !wanted.decided || run.decided === wanted.decided;
  }

  function matches(one, wanted, words) {
    if (wanted.stage && one.stage !== wanted.stage) return false;
    if (wanted.split && one.split !== wanted.split) return false;
    if (wanted.expected && one.expected !== wanted.expected) return false;
    if (wanted.contested && (wanted.contested === "yes") !== Boolean(one.contested)) return false;
    if (wanted.slice && !(one.slices ?? []).includes(wanted.slice)) return false;
    if (wanted.change === "repeats" && !one.runs.some((run) => run?.flipped)) return false;
    if (wanted.change === "any" && !one.change) return false;
    if (["lost", "won", "same"].includes(wanted.change) && one.change !== wanted.change) {
      return false;
    }
    if (wanted.section || wanted.clause || wanted.outcome || wanted.decided || wanted.run) {
      const asked = wanted.run ? [one.runs[letters.indexOf(wanted.run)] ?? null] : one.runs;
      if (!asked.some((run) => fits(run, wanted))) return false;
      if (wanted.run && asked[0] === null) return false;
    }
    return words.every((word) => folded.get(one).includes(word));
  }

  function search() {
    const words = fold(state.q ?? "").split(/\s+/).filter(Boolean);
    if (words.length && folded === null) {
      folded = new Map(cases.map((one) => [one, haystack(one)]));
    }
    found = cases.filter((one) => matches(one, state, words));
  }

  // --- the address -------------------------------------------------------------------------------

  /** Take up what the address asks for; false if it only names a place in the page. */
  function readAddress() {
    const text = location.hash.slice(1);
    if (!text.includes("=")) return false;
    const given = new URLSearchParams(text);
    state = {};
    for (const key of [...FIELDS, "case", "page"]) {
      if (given.get(key)) state[key] = given.get(key);
    }
    return true;
  }

  function writeAddress() {
    const kept = Object.entries(state).filter(([key, value]) => value && !(key === "page" && value < 2));
    const text = new URLSearchParams(kept).toString();
    history.replaceState(null, "", text ? `#${text}` : "#cases");
  }

  // --- one case ----------------------------------------------------------------------------------

  const titleOf = (id) => clauses[id]?.[0].title ?? id;

  function facts(one) {
    const rows = [];
    const add = (name, ...value) => rows.push(el("dt", {}, name), el("dd", {}, ...value));
    const labels = Object.entries(one.labels);
    add("Labels", labels.length
      ? labels.map(([id, label], at) => `${at ? "; " : ""}${titleOf(id)} (${id}): ${say(label)}`)
      : {true: "violating; no clause is named", false: "harmless"}[one.violates] ?? "not known");
    add("Should be", one.expected + (one.severity ? `; severity ${one.severity}` : ""));
    add("Stage", `${one.stage === "input" ? "request" : "answer"} (${one.stage}), split ${one.split}`);
    if (one.high_risk) {
      add("High-risk answer", one.high_risk.map((answer) =>
        `${answer.domain}: ${answer.kind}${answer.individual ? ", about one person" : ""}`).join("; "));
    }
    if (one.note) add("Note", isolated(one.note));
    if (one.contested) add("Contested", isolated(one.contested));
    if (one.tags) add("Tags", one.tags.join(", "));
    for (const twin of one.twin ?? []) add("Twin", el("a", {href: address({case: twin})}, twin));
    if (one.app) add("App", isolated(JSON.stringify(one.app)));
    add("Address", el("a", {href: address({case: one.id})}, "of this case"));
    return el("dl", {class: "facts"}, rows);
  }

  const address = (wanted) => `#${new URLSearchParams(wanted)}`;

  function finding(each, open) {
    const said = `${titleOf(each.clause)} (${each.clause}): ${each.grade}, ${each.severity}, at `;
    const words = el("li", {}, said, isolated(each.path));
    if (open && each.evidence) words.append(el("br"), "It quoted ", quoted(each.evidence));
    if (open && each.reason) words.append(el("br"), "Its reason: ", isolated(each.reason));
    return words;
  }

  function judgment(result, at, many, open) {
    const parts = [];
    if (many) parts.push(el("p", {}, el("strong", {}, `Time ${at + 1}: `), result.action));
    if (result.failed) {
      parts.push(el("p", {}, `No verdict: ${result.failed.replace("_", " ")}. `,
        isolated(result.detail ?? "")));
    } else if (!result.findings) {
      parts.push(el("p", {}, "It found nothing."));
    } else {
      parts.push(el("ul", {}, result.findings.map((each) => finding(each, open))));
    }
    for (const answer of result.high_risk ?? []) {
      parts.push(el("p", {}, `High-risk answer, ${answer.domain}: ${answer.kind}`
        + `${answer.individual ? ", about one person" : ""}`));
    }
    const odd = [];
    if (result.discloses_ai) odd.push("the answer says it is an AI's");
    if (result.dropped_quotes) odd.push(`${result.dropped_quotes} quotes were not in the text`);
    if (odd.length) parts.push(el("p", {}, odd.join("; ")));
    if (result.refusals) parts.push(el("p", {}, "A judge model refused: ",
      isolated(result.refusals.join("; "))));
    return parts;
  }

  function verdicts(one, open) {
    return el("div", {class: "runs"}, one.runs.map((run, at) => {
      const name = letters[at] ? `What ${letters[at]} said` : "What the judge said";
      const block = el("div", {class: "run"}, el("h3", {}, name));
      if (run === null) {
        block.append(el("p", {}, "This run did not judge this case."));
        return block;
      }
      const first = run.judged[0];
      const right = run.decided === one.expected ? ", as it should be" : `; should be: ${one.expected}`;
      const took = first.ms === null ? "" : `; took ${first.ms.toLocaleString("en")} ms`;
      block.append(el("p", {}, badge(run.outcome, ""), ` ${run.decided}${right}${took}`));
      run.judged.forEach((result, number) =>
        block.append(...judgment(result, number, run.judged.length > 1, open)));
      return block;
    }));
  }

  function conversation(one) {
    return [el("h3", {tabindex: "-1"}, "What was said"), ...one.said.map((part) => {
      const who = part.who === "answer" ? "assistant: the answer that is judged" : part.who;
      return el("div", {class: part.who === "answer" ? "turn answer" : "turn"},
        el("p", {class: "who"}, isolated(part.kind ? `${who}, ${part.kind}` : who)),
        el("div", {class: part.kind || part.who === "tools" ? "text code" : "text", dir: "auto"},
          shown(part.text)));
    })];
  }

  function rules(one) {
    const flagged = one.runs.flatMap((run) => run?.judged ?? [])
      .flatMap((result) => result.findings ?? []).map((each) => each.clause);
    const ids = [...new Set([...Object.keys(one.labels), ...flagged])].filter((id) => clauses[id]);
    if (!ids.length) return [];
    return [el("h3", {}, "What the policy says"), ...ids.flatMap((id) => clauses[id].map((rule) => {
      const list = (name, items) => items && [el("p", {}, `${name}:`),
        el("ul", {}, items.map((item) => el("li", {}, item)))];
      const more = clauses[id].length > 1 ? `, ${rule.policy}` : "";
      return el("details", {class: "rule"},
        el("summary", {}, `${rule.title} (${id}${more})`),
        el("p", {}, rule.rule),
        list("Counts", rule.counts),
        list("Does not count", rule.does_not_count),
        list("Severity", Object.entries(rule.severity ?? {}).map(([name, text]) => `${name}: ${text}`)),
        rule.floor && el("p", {}, `No setting can loosen this from severity ${rule.floor} on.`));
    }))];
  }

  /** The content of an opened case. `open`: its own text, too, where that is sensitive. */
  function fill(body, one, open) {
    body.replaceChildren(facts(one), verdicts(one, open));
    if (open) {
      body.append(...conversation(one));
    } else {
      const button = el("button", {type: "button"}, "Show what was said");
      button.addEventListener("click", () => {
        fill(body, one, true);
        body.querySelector("h3[tabindex]").focus();
      });
      body.append(el("div", {class: "sensitive"}, el("p", {},
        "This case is about a matter that should not be shown by chance. Its text, and what the "
        + "judge quoted from it, is shown only when you ask for it."), button));
    }
    body.append(...rules(one));
  }

  // --- the list ----------------------------------------------------------------------------------

  const badge = (outcome, letter) =>
    el("span", {class: `badge ${outcome ?? "unknown"}`}, letter ? `${letter}: ${say(outcome)}` : say(outcome));

  function badges(one) {
    const scope = state.clause || state.section;
    const all = one.runs.map((run, at) => {
      if (run === null) return badge("not judged", letters[at]);
      return badge((scope && run.about[scope]) ?? run.outcome, letters[at]);
    });
    if (one.change) all.push(el("span", {class: one.change === "lost" ? "badge lost" : "badge changed"},
      `A to B: ${say(one.change)}`));
    if (one.runs.some((run) => run?.flipped)) {
      all.push(el("span", {class: "badge changed"}, "not the same each time"));
    }
    if (one.contested) all.push(el("span", {class: "badge changed"}, "contested"));
    return all;
  }

  function preview(one) {
    if (one.sensitive) return "[not shown: sensitive]";
    const last = one.said.filter((part) => !part.kind && part.who !== "system").at(-1);
    return shown((last ?? one.said[0]).text.slice(0, 200).replace(/\s+/g, " "));
  }

  function item(one) {
    const about = [...new Set(Object.keys(one.labels).map((id) => clauses[id]?.[0].section))]
      .map((id) => sections[id] ?? id).join(", ");
    const body = el("div", {class: "body"});
    const details = el("details", {class: "case", "data-case": one.id},
      el("summary", {}, badges(one), el("span", {class: "id"}, one.id),
        el("span", {class: "where"}, `${one.stage}${about ? `, ${about}` : ""}`),
        el("span", {class: "preview", dir: "auto"}, preview(one))),
      body);
    details.addEventListener("toggle", () => {
      if (details.open && !body.hasChildNodes()) fill(body, one, !one.sensitive);
    });
    return el("li", {}, details);
  }

  function show() {
    if (state.case) {
      const at = found.findIndex((one) => one.id === state.case);
      if (at >= 0) state.page = Math.floor(at / PAGE) + 1;
    }
    const pages = Math.max(1, Math.ceil(found.length / PAGE));
    const page = Math.min(Math.max(1, Number(state.page) || 1), pages);
    state.page = page;
    const from = (page - 1) * PAGE;
    const part = found.slice(from, from + PAGE);
    byId("list").replaceChildren(...part.map(item));
    const total = cases.length.toLocaleString("en");
    const many = found.length.toLocaleString("en");
    byId("count").textContent = found.length
      ? `${many} of ${total} cases; ${(from + 1).toLocaleString("en")} to ${(from + part.length).toLocaleString("en")} are listed.`
      : `None of ${total} cases.`;
    byId("page").textContent = `Page ${page} of ${pages}`;
    byId("previous").disabled = page === 1;
    byId("next").disabled = page === pages;
    byId("pages").hidden = pages === 1;
    if (state.case) openCase();
  }

  function openCase() {
    const details = [...document.querySelectorAll(".case")]
      .find((each) => each.dataset.case === state.case);
    if (!details) {
      byId("count").textContent = "There is no such case in this report.";
      return;
    }
    details.open = true;
    details.querySelector("summary").focus({preventScroll: true});
    details.scrollIntoView({block: "start"});
  }

  function turn(by) {
    state.page += by;
    delete state.case;
    show();
    writeAddress();
    byId("cases").focus();
    byId("cases").scrollIntoView();
  }

  // --- the form ----------------------------------------------------------------------------------

  function choice(key, name, options) {
    const known = options.map(([value, text]) => el("option", {value}, text));
    const select = el("select", {id: `f-${key}`, name: key}, el("option", {value: ""}, "any"), known);
    return el("div", {}, el("label", {for: `f-${key}`}, name), select);
  }

  function build() {
    const same = (values) => [...new Set(values)].sort().map((value) => [value, value]);
    const judged = cases.flatMap((one) => one.runs).filter(Boolean);
    const outcomes = ["missed", "alarm", "right", "failed", "unlabelled"];
    const changes = [];
    if (cases.some((one) => one.change)) {
      changes.push(["any", "changed from A to B"], ["lost", "lost"], ["won", "won"],
        ["same", "changed, neither lost nor won"]);
    }
    if (judged.some((run) => run.flipped)) changes.push(["repeats", "not the same each time"]);
    const clauseOptions = Object.entries(clauses).map(([id, rules]) => [id, rules[0].title]);
    const form = byId("filters");
    form.append(
      el("div", {class: "wide"}, el("label", {for: "f-q"},
        "Search in ids, text, clauses, tags, notes, quotes and reasons"),
      el("input", {id: "f-q", name: "q", type: "search", autocomplete: "off", spellcheck: "false"})),
      choice("outcome", "How it came out",
        [["wrong", "missed or false alarm"], ...outcomes.map((word) => [word, say(word)])]),
      choice("section", "Section", Object.entries(sections)),
      choice("clause", "Clause", clauseOptions),
      choice("stage", "Stage", [["input", "request"], ["output", "answer"]]),
      choice("expected", "Should be", same(cases.map((one) => one.expected))),
      choice("decided", "Was", same(judged.map((run) => run.decided))));
    if (runs.length > 1) form.append(choice("run", "In run", letters.map((letter) => [letter, letter])));
    if (changes.length) form.append(choice("change", "What changed", changes));
    form.append(
      choice("slice", "Kind of case", same(cases.flatMap((one) => one.slices ?? []))),
      choice("split", "Split", same(cases.map((one) => one.split))),
      choice("contested", "Contested", [["yes", "yes"], ["no", "no"]]),
      el("div", {}, el("button", {type: "reset"}, "Show all cases")));
    form.hidden = false;
    byId("static").hidden = true;
    form.addEventListener("submit", (event) => event.preventDefault());
    form.addEventListener("reset", (event) => {
      event.preventDefault();
      state = {};
      update();
    });
    let waiting = 0;
    form.addEventListener("input", (event) => {
      clearTimeout(waiting);
      waiting = setTimeout(fromForm, event.target.type === "search" ? 150 : 0);
    });
    byId("previous").addEventListener("click", () => turn(-1));
    byId("next").addEventListener("click", () => turn(1));
  }

  function fromForm() {
    state = {};
    for (const [key, value] of new FormData(byId("filters"))) if (value) state[key] = value;
    search();
    show();
    writeAddress();
  }

  /** Show what `state` says, in the form and in the list. */
  function update() {
    for (const key of FIELDS) {
      const field = byId(`f-${key}`);
      if (field) field.value = state[key] ?? "";
    }
    search();
    show();
    writeAddress();
  }

  build();
  const asked = location.hash.includes("=");
  readAddress();
  search();
  show();
  for (const key of FIELDS) if (byId(`f-${key}`)) byId(`f-${key}`).value = state[key] ?? "";
  if (asked && !state.case) byId("cases").scrollIntoView();
  addEventListener("hashchange", () => {
    if (!readAddress()) return;
    update();
    if (!state.case) {
      byId("cases").focus({preventScroll: true});
      byId("cases").scrollIntoView();
    }
  });
})();
