"""Clauses: what to do with which targets."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import Literal

from voxicon.asking.lexicon import Lexicon
from voxicon.asking.phrases import MODIFIER_STARTS, NOUN_STARTS, Phrases, Tokens
from voxicon.asking.reading import read
from voxicon.asking.request import Action, Clause, Condition, Request, Target
from voxicon.core.concepts import Vocabulary
from voxicon.errors import UnknownClass, UsageError


def parse(text: str, vocabulary: Vocabulary) -> Request:
    """What a request in plain English asks for.

    The same text and vocabulary always give the same request, and every word either has a meaning or is listed in
    `Request.ignored`. Conditions belong to the target before them, "if any" to the whole clause.

    Raises:
        UnknownClass: A word is not known or no class fits; the message names the nearest words.
        UsageError: The words are known but do not make a request, or could mean two things.
    """
    lexicon = _lexicon(vocabulary)
    reading = read(text, lexicon)
    clauses = _Clauses(Tokens(reading.tokens), lexicon).read()
    return Request(clauses, reading.ignored, reading.corrected)


@lru_cache(maxsize=4)
def _lexicon(vocabulary: Vocabulary) -> Lexicon:
    return Lexicon(vocabulary)


@dataclass
class _Draft:
    """A clause while it is read."""

    actions: list[Action | Literal["show"]] = field(default_factory=list)
    targets: list[Target] = field(default_factory=list)
    quantities: list[str] = field(default_factory=list)
    without: list[Target] = field(default_factory=list)
    if_any: bool = False
    same: bool = False
    separator: str = ""
    """What stands between the last target and the next: "and", "comma", "join" or nothing."""
    derived: bool = False
    """The targets are some of those of the clause before."""
    placed: bool = False
    """The last target ends with a place, to which a noun after "and" could belong too."""
    paired: bool = False
    """The last target is a lesion that "and" joins to another: what follows could be said of both."""
    ended: bool = False

    @property
    def has_object(self) -> bool:
        return bool(self.targets or self.same)


class _Clauses:
    def __init__(self, tokens: Tokens, lexicon: Lexicon) -> None:
        self.tokens = tokens
        self.lexicon = lexicon
        self.phrases = Phrases(tokens, lexicon)
        self.clauses: list[Clause] = []

    def read(self) -> tuple[Clause, ...]:
        while True:
            while self.tokens.accept("stop", "then", "and", "comma"):
                pass
            if self.tokens.peek().kind == "end":
                break
            draft = _Draft()
            while not draft.ended:
                self._step(draft)
            self._finish(draft)
        if not self.clauses:
            raise UsageError("request: found only words of courtesy; expected something to do; name an organ or tumor")
        return tuple(self.clauses)

    def _step(self, draft: _Draft) -> None:
        token = self.tokens.peek()
        if token.kind in ("end", "stop", "then"):
            draft.ended = True
        elif token.kind in MODIFIER_STARTS or self._is_size_first():
            self._modifier(draft)
        elif token.kind in NOUN_STARTS:
            self._target(draft)
        elif token.kind == "negated":
            raise UsageError(
                "request: found a word of negation; expected what to do; name what to leave out by 'except ...'"
            )
        else:
            steps = {
                "and": self._separator,
                "comma": self._separator,
                "join": self._join,
                "action": self._action,
                "quantity": self._quantity,
                "pronoun": self._pronoun,
                "except": self._except,
                "if_any": self._if_any,
            }
            if token.kind not in steps:
                raise UsageError(f"request: found {token.text!r} where it has no meaning; say it in other words")
            steps[token.kind](draft)

    def _if_any(self, draft: _Draft) -> None:
        self.tokens.take()
        draft.if_any = True

    def _separator(self, draft: _Draft) -> None:
        kind = self.tokens.take().kind
        while more := self.tokens.accept("and", "comma"):
            kind = "comma" if "comma" in (kind, more.kind) else "and"
        follows, second = self.tokens.peek(), self.tokens.peek(1)
        if follows.kind == "action":
            whole_report = draft.actions == ["report"] and not draft.quantities
            draft.ended = draft.has_object or whole_report
        elif follows.kind == "quantity" and second.kind in ("of", *NOUN_STARTS):
            draft.ended = draft.has_object and bool(draft.quantities)
        draft.separator = kind

    def _join(self, draft: _Draft) -> None:
        token = self.tokens.take()
        if draft.actions[:1] != ["compare"] or not draft.has_object:
            raise UsageError(f"request: found {token.text!r}; expected it only in 'compare ... with ...'; use 'and'")
        draft.separator = "join"

    def _action(self, draft: _Draft) -> None:
        token = self.tokens.peek()
        if token.value in draft.actions:
            self.tokens.take()
        elif draft.has_object and draft.actions:
            draft.ended = True
        else:
            self.tokens.take()
            draft.actions.append(token.value)
            self.tokens.accept("of")

    def _quantity(self, draft: _Draft) -> None:
        token = self.tokens.take()
        if token.value not in draft.quantities:
            draft.quantities.append(token.value)
        if not draft.targets:
            self.tokens.accept("of")

    def _pronoun(self, draft: _Draft) -> None:
        self.tokens.take()
        follows = self.tokens.peek().kind
        if follows in ("noun", "adjective", "side", "part"):
            return
        if draft.targets:
            raise UsageError("request: found a pronoun beside a name; expected one of them; name every target")
        draft.same = True

    def _target(self, draft: _Draft) -> None:
        if self._rank_alone(draft):
            return
        if draft.targets and not draft.separator:
            raise UsageError(
                f"request: found {self.tokens.peek().text!r} right after {draft.targets[-1].said!r}; "
                "expected 'and' or a comma between; add it"
            )
        if draft.same:
            raise UsageError("request: found a name beside a pronoun; expected one of them; name every target")
        before = draft.targets[-1] if draft.targets else None
        new = self.phrases.target()
        draft.paired = False
        placed, draft.placed = draft.placed, False
        if before is not None and draft.separator == "and":
            self._check_shared(before, new[0], placed)
            draft.paired = self._is_lesion(before) and self._is_lesion(new[0])
        draft.paired = draft.paired or len(new) > 1
        draft.targets.extend(new)
        draft.separator = ""

    def _rank_alone(self, draft: _Draft) -> bool:
        """Read "the largest" or "the 2 largest ones": of what the clause before was about."""
        count = self.tokens.peek().value if self.tokens.peek().kind == "number" else None
        rank, behind = self.tokens.peek(count is not None), self.tokens.peek(1 + (count is not None))
        if rank.kind != "rank" or (behind.kind in NOUN_STARTS and behind.text != "one"):
            return False
        if behind.kind == "of" and self.tokens.peek(2 + (count is not None)).kind in NOUN_STARTS:
            return False
        for _ in range(1 + (count is not None) + (behind.text == "one")):
            self.tokens.take()
        if not draft.targets:
            self.tokens.accept("of")
            self.tokens.accept("pronoun")
        condition = Condition(rank.value, self.phrases.whole(count))
        if draft.targets:
            draft.targets[-1] = self.phrases.with_condition(draft.targets[-1], condition)
        else:
            draft.targets = [self.phrases.with_condition(target, condition) for target in self._targets_before()]
            draft.derived = True
        return True

    def _check_shared(self, before: Target, new: Target, placed: bool) -> None:
        if placed or (before.place is not None and before.place.part):
            where = before.in_plain_words()
            raise UsageError(
                f"request: found 'and {new.said}' after '{where}'; expected to know which 'and' belongs to; "
                "write a comma before a new target, or two sentences"
            )
        family = self.lexicon.family_of(new.classes[0])
        if family is None or any(self.lexicon.family_of(name) for name in before.classes):
            return
        own = [c for c in family.classes if set(self.lexicon.vocabulary[c].parents).intersection(before.classes)]
        if own:
            other = self.lexicon.vocabulary[own[0]].display_name
            raise UsageError(
                f"request: found '{before.said} and {new.said}', which can mean {before.said} or {other}; "
                f"expected one of them; write '{new.said}, {before.said}' or '{other} and {new.said}'"
            )

    def _is_lesion(self, target: Target) -> bool:
        return self.lexicon.family_of(target.classes[0]) is not None

    def _is_size_first(self) -> bool:
        kinds = [self.tokens.peek(ahead).kind for ahead in range(3)]
        return kinds == ["number", "unit", "comparison after"]

    def _modifier(self, draft: _Draft) -> None:
        if draft.without:
            raise UsageError(
                f"request: found {self.tokens.peek().text!r} after 'except'; expected whole classes there; "
                "put places and sizes before 'except'"
            )
        if not draft.targets and draft.same:
            draft.targets, draft.same, draft.derived = list(self._targets_before()), False, True
        elif not draft.targets:
            raise UsageError(
                f"request: found {self.tokens.peek().text!r} before any target; expected what it is about first; "
                "name the organ or tumor before its place or size"
            )
        target = draft.targets[-1]
        draft.placed = self.tokens.peek().kind != "comparison" and not self._is_size_first()
        if draft.paired:
            raise UsageError(
                f"request: found {self.tokens.peek().text!r} behind lesions joined by 'and'; expected to know whether "
                "it is said of all of them; say each in its own sentence"
            )
        if self._is_size_first():
            value, unit = self.phrases.size()
            condition = Condition(self.tokens.take().value, value, unit)
            draft.targets[-1] = self.phrases.with_condition(target, condition)
        else:
            draft.targets[-1] = self.phrases.modified(target)
        draft.separator = ""

    def _except(self, draft: _Draft) -> None:
        self.tokens.take()
        while True:
            for excluded in self.phrases.target():
                if excluded.place or excluded.conditions:
                    raise UsageError(
                        f"request: found 'except {excluded.in_plain_words()}'; expected whole classes after 'except'; "
                        "name classes only"
                    )
                draft.without.append(excluded)
            ahead = 0
            while self.tokens.peek(ahead).kind in ("and", "comma", "except"):
                ahead += 1
            if not ahead or self.tokens.peek(ahead).kind not in NOUN_STARTS:
                return
            for _ in range(ahead):
                self.tokens.take()

    def _targets_before(self) -> tuple[Target, ...]:
        if not self.clauses or not self.clauses[-1].targets:
            raise UsageError("request: found no name of what is meant; expected an organ or tumor; name it")
        return self.clauses[-1].targets

    def _finish(self, draft: _Draft) -> None:
        if not draft.actions:
            before = self.clauses[-1].action if self.clauses else "segment"
            draft.actions = ["measure"] if draft.quantities else [before]
        # "Show me" is said of pictures and of numbers.
        shown: Action = "measure" if draft.quantities else "segment"
        actions: list[Action] = [shown if action == "show" else action for action in draft.actions]
        for at, action in enumerate(dict.fromkeys(actions)):
            self.clauses.append(self._clause(action, draft, first=at == 0))

    def _clause(self, action: Action, draft: _Draft, *, first: bool) -> Clause:
        same = draft.same or (not draft.targets and not (action == "report" and not draft.quantities))
        targets = self._targets_before() if same else tuple(draft.targets)
        # "Segment and measure the liver": the second verb is about the same thing as the first.
        if not first and targets:
            targets, same = self._targets_before(), True
        if draft.without and not targets:
            raise UsageError("request: found 'except' without a target; expected what it is left out of; name it")
        # What "the same" leaves out stays left out; here too when only some of the same are meant.
        inherited = self.clauses[-1].without if same or draft.derived else ()
        if draft.without and first:
            targets, same = self._left(targets, draft.without), False
        quantities = tuple(sorted(draft.quantities)) if action in ("measure", "compare", "report") else ()
        if (
            draft.quantities
            and not quantities
            and not {"measure", "compare", "report", "show"}.intersection(draft.actions)
        ):
            raise UsageError(
                f"request: found {draft.quantities[0]!r} with {action!r}; expected it with measure; write 'measure ...'"
            )
        if action == "measure":
            quantities = quantities or ("size",)
        if action == "compare" and sum(len(target.classes) for target in targets) < 2:
            raise UsageError(f"request: found {targets[0].said!r} to compare; expected two or more; name the other")
        without = (*inherited, *draft.without) if first else inherited
        return Clause(action, targets, quantities, without, draft.if_any, same)

    def _left(self, targets: tuple[Target, ...], without: list[Target]) -> tuple[Target, ...]:
        for excluded in without:
            named = {name for target in targets for name in target.classes}
            concepts = [self.lexicon.vocabulary[name] for name in excluded.classes]
            if not any(c.name in named or c.kind != "organ" or named.intersection(c.parents) for c in concepts):
                raise UsageError(
                    f"request: found 'except {excluded.said}', which is no part of {targets[0].said}; "
                    "expected a part of what was asked for; leave it out"
                )
        gone = self.lexicon.with_parts(name for excluded in without for name in excluded.classes)
        left = tuple(replace(t, classes=tuple(name for name in t.classes if name not in gone)) for t in targets)
        if not all(target.classes for target in left):
            raise UnknownClass("request: found that 'except' leaves nothing of a target; expected something to remain")
        return left
