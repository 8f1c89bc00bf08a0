"""A matcher of regular expressions that counts its steps, for tests of how their work grows.

What `re` does within one call no profiler of Python sees, and seconds prove nothing. This one walks
the tree that `re` itself parses a pattern to, tries what `re` tries in the same order, and counts
each character that is compared and each alternative that is begun. It knows none of the shortcuts
of `re`, so that it counts at least what `re` does, up to a factor.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from functools import cache
from re import _constants as c
from re import _parser
from typing import Any

Then = Callable[[int], int]  # goes on from a place; where the match ended, or -1
Try = Callable[[int, Then], int]

_CATEGORIES = {
    c.CATEGORY_DIGIT: r"\d", c.CATEGORY_NOT_DIGIT: r"\D", c.CATEGORY_SPACE: r"\s",
    c.CATEGORY_NOT_SPACE: r"\S", c.CATEGORY_WORD: r"\w", c.CATEGORY_NOT_WORD: r"\W",
}  # fmt: skip


class Steps:
    """A pattern, and how many steps its searches have taken so far."""

    def __init__(self, pattern: re.Pattern[Any]) -> None:
        self.flags = pattern.flags
        self.text = ""
        self.count = 0
        self.groups: dict[int, tuple[int, int]] = {}
        self._try = self._row(list(_parser.parse(pattern.pattern, pattern.flags)))

    def finditer(self, text: str) -> Iterator[tuple[int, int]]:
        """The spans that `pattern.finditer(text)` finds."""
        self.text = text
        start = 0
        while start <= len(text):
            self.count += 1
            self.groups = {}
            end = self._try(start, lambda at: at)
            if end >= 0:
                yield start, end
            start = max(end, start + 1) if end != start else start + 1

    def fullmatch(self, text: str) -> bool:
        """Whether `pattern.fullmatch(text)` does match."""
        self.text = text
        self.groups = {}
        return self._try(0, lambda at: at if at == len(text) else -1) >= 0

    def _row(self, nodes: list[Any]) -> Try:
        tries = [self._node(op, value) for op, value in nodes]

        def at_index(index: int, at: int, then: Then) -> int:
            if index == len(tries):
                return then(at)
            return tries[index](at, lambda after: at_index(index + 1, after, then))

        if len(tries) == 1:
            return tries[0]
        return lambda at, then: at_index(0, at, then)

    def _node(self, op: Any, value: Any) -> Try:
        match op:
            case c.LITERAL | c.NOT_LITERAL | c.IN | c.ANY:
                return self._char(self.fits(op, value))
            case c.BRANCH:
                tries = [self._row(list(row)) for row in value[1]]

                def branch(at: int, then: Then) -> int:
                    for each in tries:
                        self.count += 1
                        if (end := each(at, then)) >= 0:
                            return end
                    return -1

                return branch
            case c.SUBPATTERN:
                return self._group(value[0], self._row(list(value[3])))
            case c.ATOMIC_GROUP:
                return self._atomic(self._row(list(value)))
            case c.MAX_REPEAT | c.POSSESSIVE_REPEAT:
                return self._repeat(*value, possessive=op is c.POSSESSIVE_REPEAT)
            case c.ASSERT | c.ASSERT_NOT:
                back = value[1].getwidth()[0] if value[0] < 0 else 0
                inner, wanted = self._row(list(value[1])), op is c.ASSERT

                def look(at: int, then: Then) -> int:
                    self.count += 1
                    found = at >= back and inner(at - back, lambda end: end) >= 0
                    return then(at) if found == wanted else -1

                return look
            case c.AT:
                return self._place(value)
            case c.GROUPREF:

                def again(at: int, then: Then) -> int:
                    first, last = self.groups[value]
                    said = self.text[first:last]
                    self.count += len(said)
                    return then(at + len(said)) if self.text.startswith(said, at) else -1

                return again
            case _:
                raise NotImplementedError(op)

    def fits(self, op: Any, value: Any) -> Callable[[str], bool]:
        """Whether a character is one that a node of one character matches."""
        folds = self.flags & re.IGNORECASE
        kept = self.flags & re.ASCII
        if not self.flags & re.UNICODE:
            kept = re.ASCII  # a pattern of bytes

        def one(char: str, item: Any, known: Any) -> bool:
            match item:
                case c.LITERAL:
                    return ord(char) == known
                case c.NOT_LITERAL:
                    return ord(char) != known
                case c.RANGE:
                    return known[0] <= ord(char) <= known[1]
                case c.CATEGORY:
                    return re.match(_CATEGORIES[known], char, kept) is not None
                case c.ANY:
                    return char != "\n" or bool(self.flags & re.DOTALL)
                case _:
                    raise NotImplementedError(item)

        items = list(value) if op is c.IN else [(op, value)]
        negated = items[0][0] is c.NEGATE

        @cache
        def fits(char: str) -> bool:
            forms = {char, char.lower(), char.upper()} if folds else {char}
            forms = {form for form in forms if len(form) == 1}
            found = any(one(form, *item) for form in forms for item in items[negated:])
            return found != negated

        return fits

    def _char(self, fits: Callable[[str], bool]) -> Try:
        def char(at: int, then: Then) -> int:
            self.count += 1
            return then(at + 1) if at < len(self.text) and fits(self.text[at]) else -1

        return char

    def _group(self, number: int | None, inner: Try) -> Try:
        if number is None:
            return inner

        def group(at: int, then: Then) -> int:
            def after(end: int) -> int:
                before = self.groups.get(number)
                self.groups[number] = (at, end)
                if (found := then(end)) < 0 and before is not None:
                    self.groups[number] = before
                return found

            return inner(at, after)

        return group

    def _atomic(self, inner: Try) -> Try:
        def atomic(at: int, then: Then) -> int:
            end = inner(at, lambda end: end)
            return then(end) if end >= 0 else -1

        return atomic

    def _repeat(self, least: int, most: int, inner: Any, *, possessive: bool) -> Try:
        nodes = list(inner)
        limit = 10**9 if most is c.MAXREPEAT else most
        if len(nodes) == 1 and nodes[0][0] in (c.LITERAL, c.NOT_LITERAL, c.IN, c.ANY):
            return self._row_of_chars(self.fits(*nodes[0]), least, limit, possessive)
        body = self._row(nodes)
        if possessive:

            def whole(at: int, then: Then) -> int:
                times = 0
                while times < limit and (end := body(at, lambda end: end)) >= 0:
                    times += 1
                    if end == at:
                        break
                    at = end
                return then(at) if times >= least else -1

            return whole

        def more(at: int, times: int, then: Then) -> int:
            self.count += 1
            if times < limit:
                end = body(at, lambda after: more(after, times + 1, then) if after > at else -1)
                if end >= 0:
                    return end
            return then(at) if times >= least else -1

        return lambda at, then: more(at, 0, then)

    def _row_of_chars(
        self, fits: Callable[[str], bool], least: int, most: int, possessive: bool
    ) -> Try:
        def row(at: int, then: Then) -> int:
            end = at
            stop = min(len(self.text), at + most)
            while end < stop and fits(self.text[end]):
                end += 1
            self.count += end - at + 1
            if possessive:
                return then(end) if end - at >= least else -1
            while end - at >= least:
                self.count += 1
                if (found := then(end)) >= 0:
                    return found
                end -= 1
            return -1

        return row

    def _place(self, kind: Any) -> Try:
        def holds(at: int) -> bool:
            text = self.text
            match kind:
                case c.AT_BEGINNING | c.AT_BEGINNING_STRING:
                    return at == 0
                case c.AT_END_STRING:
                    return at == len(text)
                case c.AT_END:
                    return at == len(text) or text[at:] == "\n"
                case c.AT_BOUNDARY:
                    around = [text[i : i + 1] if i >= 0 else "" for i in (at - 1, at)]
                    before, after = (re.match(r"\w", char) is not None for char in around)
                    return before != after
                case _:
                    raise NotImplementedError(kind)

        def place(at: int, then: Then) -> int:
            self.count += 1
            return then(at) if holds(at) else -1

        return place


# --- texts that a pattern almost matches ----------------------------------------------------------


def members(pattern: re.Pattern[Any]) -> list[str]:
    """A few texts that a pattern matches, apart from what it looks at around them."""
    tree = list(_parser.parse(pattern.pattern, pattern.flags))
    found = ["".join(_sample(tree, extra, pick, {})) for extra in (0, 1) for pick in (0, -1)]
    return list(dict.fromkeys(found))


def bodies(pattern: re.Pattern[Any]) -> list[str]:
    """Of each repeat in a pattern, a text that is one round of it."""
    tree = list(_parser.parse(pattern.pattern, pattern.flags))
    return list(dict.fromkeys("".join(_sample(list(body), 1, 0, {})) for body in _repeated(tree)))


def _repeated(nodes: list[Any]) -> Iterator[Any]:
    for op, value in nodes:
        match op:
            case c.MAX_REPEAT | c.POSSESSIVE_REPEAT:
                yield value[2]
                yield from _repeated(list(value[2]))
            case c.SUBPATTERN:
                yield from _repeated(list(value[3]))
            case c.BRANCH:
                for row in value[1]:
                    yield from _repeated(list(row))
            case c.ATOMIC_GROUP:
                yield from _repeated(list(value))
            case c.ASSERT | c.ASSERT_NOT:
                yield from _repeated(list(value[1]))
            case _:
                pass


def _sample(nodes: list[Any], extra: int, pick: int, groups: dict[int, str]) -> Iterator[str]:
    for op, value in nodes:
        match op:
            case c.LITERAL:
                yield chr(value)
            case c.NOT_LITERAL | c.ANY:
                yield "x"
            case c.IN:
                yield _one_of(value, pick)
            case c.BRANCH:
                yield from _sample(list(value[1][pick]), extra, pick, groups)
            case c.SUBPATTERN:
                said = "".join(_sample(list(value[3]), extra, pick, groups))
                groups[value[0]] = said
                yield said
            case c.ATOMIC_GROUP:
                yield from _sample(list(value), extra, pick, groups)
            case c.MAX_REPEAT | c.POSSESSIVE_REPEAT:
                times = value[0] + (extra if value[1] > value[0] else 0)
                yield "".join(_sample(list(value[2]), extra, pick, groups)) * times
            case c.GROUPREF:
                yield groups.get(value, "")
            case _:  # a condition
                pass


def _one_of(items: Any, pick: int) -> str:
    if items[0][0] is c.NEGATE:
        fits = Steps(re.compile("")).fits(c.IN, items)
        return next(char for char in "a;é0 \n" if fits(char))
    op, value = items[pick]
    match op:
        case c.LITERAL:
            return chr(value)
        case c.RANGE:
            return chr(value[0])
        case _:
            return next(char for char in "a0 ;" if re.match(_CATEGORIES[value], char))
