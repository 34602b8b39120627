"""Summarises a text by the sentences in it that say most of what the others say.

That is TextRank with BM25 for likeness: each sentence is a query to all others, and a sentence counts
as much as those that it answers best. Nothing is written anew, so nothing is made up.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence
from typing import Annotated, Literal, Protocol, cast

import bm25s
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, Field

from lightwork import Agent, Msat, TaskRefused, sats

LONGEST_TEXT = 100_000
LONGEST_SENTENCE = 1_000
"""A longer one is a table, a list or no prose: it is never part of a summary."""
MOST_SENTENCES = 1_500
LARGEST_SUMMARY = 20
CHARACTERS_PER_SAT = 5_000

DAMPING = 0.85
ROUNDS = 60
"""After these, rounding is all that still changes."""
DIGITS = 9

Text = Annotated[str, Field(min_length=1, max_length=LONGEST_TEXT, description="prose")]
Wanted = Annotated[int, Field(ge=1, le=LARGEST_SUMMARY, description="how many sentences")]
Language = Literal[
    "english",
    "german",
    "dutch",
    "french",
    "spanish",
    "portuguese",
    "italian",
    "swedish",
    "norwegian",
    "danish",
    "russian",
]

agent = Agent("summarise", description="Says what a text says, in its own words.")


class Sentence(BaseModel):
    """A sentence of the text, word for word; its line breaks are spaces."""

    text: Annotated[str, Field(max_length=LONGEST_SENTENCE)]
    number: int = Field(description="which sentence of the text it is, from 1")


class Summary(BaseModel):
    """The sentences that say most, in the text's own order."""

    sentences: list[Sentence] = Field(max_length=LARGEST_SUMMARY)
    sentences_in_text: int
    words_in_text: int


def by_length(text: str) -> Msat:
    """Five satoshis, and one for each 5000 characters begun."""
    return sats(5 + -(-len(text) // CHARACTERS_PER_SAT))


@agent.task(price=by_length, work_seconds=60, tags=("text", "summary"))
def summarise(text: Text, sentences: Wanted = 3, language: Language = "english") -> Summary:
    """Summarise a text by its own most telling sentences, word for word. The same text, the same summary."""
    if _NO_TEXT.search(text):
        raise TaskRefused("that is no text: it has control characters in it")
    found = split_sentences(text)
    if len(found) > MOST_SENTENCES:
        raise TaskRefused(f"the text has more than {MOST_SENTENCES} sentences; send it in parts")
    words = _words(found, language=language)
    usable = [
        index for index, sentence in enumerate(found) if words[index] and len(sentence) <= LONGEST_SENTENCE
    ]
    if not usable:
        raise TaskRefused(f"there is no sentence of words in it with at most {LONGEST_SENTENCE} characters")
    weights = rank([words[index] for index in usable])
    chosen: dict[tuple[str, ...], int] = {}
    # The first of equals; and what is said twice is told once.
    for place in sorted(range(len(usable)), key=lambda place: (-weights[place], place)):
        if len(chosen) == sentences:
            break
        chosen.setdefault(tuple(words[usable[place]]), usable[place])
    return Summary(
        sentences=[Sentence(text=found[index], number=index + 1) for index in sorted(chosen.values())],
        sentences_in_text=len(found),
        words_in_text=len(text.split()),
    )


_NO_TEXT = re.compile(r"[\x00-\x08\x0e-\x1f\x7f]")
_EMPTY_LINE = re.compile(r"\n[^\S\n]*\n")
_END = re.compile(
    r"[.!?\u2026][\"'\u201d\u2019\u00bb)\]]{0,3} "
    r"(?=[\"'\u201c\u2018\u00ab(\[\u00bf\u00a1]{0,3}[^\W_a-z\u00df-\u00f6\u00f8-\u00ff])"
)
"""A full stop, closed quotes, a space, and then no small letter. Each try is short, whatever the text."""
_NO_END = re.compile(
    r"(?:^|[ (])(?:[A-Z]|Mr|Mrs|Ms|Dr|Prof|St|Jr|Sr|vs|etc|cf|No|Nr|Fig|Vol|pp|e\.g|i\.e|z\.B|d\.h)\. $"
)
_BEFORE_END = 8
"""Characters in which _NO_END finds what it looks for."""


def split_sentences(text: str) -> list[str]:
    """Cut a text at empty lines and at the ends of sentences; abbreviations and initials end none."""
    found: list[str] = []
    for block in _EMPTY_LINE.split("\n".join(text.splitlines())):
        paragraph = " ".join(block.split())
        start = 0
        for end in _END.finditer(paragraph):
            if not _NO_END.search(paragraph[max(start, end.end() - _BEFORE_END) : end.end()]):
                found.append(paragraph[start : end.end() - 1])
                start = end.end()
        found.append(paragraph[start:])
    return [sentence for sentence in found if sentence]


logging.getLogger("bm25s").setLevel(logging.WARNING)  # it tells each step of its own otherwise


class _Index(Protocol):
    def index(self, corpus: Sequence[Sequence[str]], /, *, show_progress: bool) -> None: ...
    def get_scores(self, query: Sequence[str], /) -> NDArray[np.float32]: ...


class _Tokenize(Protocol):
    def __call__(
        self, texts: Sequence[str], /, *, stopwords: str, return_ids: bool, show_progress: bool
    ) -> list[list[str]]: ...


def rank(sentences: Sequence[Sequence[str]]) -> list[float]:
    """Weigh each sentence, a list of one or more words, against all others."""
    bm25 = cast("_Index", bm25s.BM25())
    bm25.index(sentences, show_progress=False)
    likeness = np.array([bm25.get_scores(sentence) for sentence in sentences], dtype=np.float64)
    np.fill_diagonal(likeness, 0)
    sums = likeness.sum(axis=1, keepdims=True)
    # A sentence that shares no word with another speaks for all of them alike.
    shares = np.divide(likeness, sums, out=np.full_like(likeness, 1 / len(likeness)), where=sums > 0)
    weights = np.full(len(likeness), 1 / len(likeness))
    for _ in range(ROUNDS):
        weights = (1 - DAMPING) / len(likeness) + DAMPING * (weights @ shares)
    # Another machine may add in another order: what differs only there counts as equal.
    return [round(float(weight), DIGITS) for weight in weights]


def _words(sentences: Sequence[str], *, language: str) -> list[list[str]]:
    tokenize = cast("_Tokenize", vars(bm25s)["tokenize"])
    return tokenize(sentences, stopwords=language, return_ids=False, show_progress=False)
