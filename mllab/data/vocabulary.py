"""Vocabularies of sentences: characters, words, or subwords by byte-pair encoding; see `mllab.special_tokens`.

Subwords need the `tokenizers` package. They are those of Sennrich et al. 2016 (arXiv:1508.07909): beginning with
characters, the most frequent pair of symbols that stand side by side is merged, again and again. A symbol that begins
with `SPACE` begins a word; punctuation is never merged with a word.
"""

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from mllab.errors import UserError, shortened
from mllab.special_tokens import END, FIRST_WORD, UNKNOWN

KINDS = ("characters", "words", "subwords")
SPECIALS = ("<padding>", "<begin>", "<end>", "<unknown>")  # the names of ids 0 to 3
SPACE = "▁"  # of subwords
MAX_WORDS = 1_000_000
MAX_WORD = 1_000  # characters
WORD = re.compile(r"\w+(?:['’.,-]\w+)*|[^\w\s]")
NO_SPACE_BEFORE, NO_SPACE_AFTER = frozenset(".,;:!?)]}%”…"), frozenset("([{“")


@dataclass(frozen=True)
class Vocabulary:
    """The tokens of one language, or of both."""

    kind: str  # of KINDS
    words: tuple[str, ...]  # [V], the tokens by id; SPECIALS first
    lowercase: bool = False
    merges: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # of subwords, in order

    def __len__(self) -> int:
        """Return V."""
        return len(self.words)

    @cached_property
    def ids(self) -> Mapping[str, int]:
        """The id of each token."""
        return {word: index for index, word in enumerate(self.words)}

    @cached_property
    def _subwords(self) -> Any:
        return _tokenizer(self.ids, self.merges)

    def tokens(self, sentence: str) -> list[str]:
        """Return the tokens of a sentence, those that the vocabulary lacks, too."""
        text = normalised(sentence, self.lowercase)
        if self.kind == "characters":
            return list(text)
        if self.kind == "words":
            return WORD.findall(text)
        encoded = self._subwords.encode(text, add_special_tokens=False)
        return [
            text[slice(*place)] if index == UNKNOWN else token
            for token, index, place in zip(encoded.tokens, encoded.ids, encoded.offsets, strict=True)
        ]

    def encode(self, sentence: str) -> list[int]:
        """Return the ids of a sentence's tokens, then END; UNKNOWN for a token that the vocabulary lacks."""
        ids = [self.ids.get(token, UNKNOWN) for token in self.tokens(sentence)]
        return [*(index if index >= FIRST_WORD else UNKNOWN for index in ids), END]

    def named(self, ids: Iterable[int]) -> list[str]:
        """Return the tokens with these ids, up to END."""
        tokens = []
        for index in ids:
            if index == END:
                break
            tokens.append(self.words[index])
        return tokens

    def join(self, tokens: Sequence[str]) -> str:
        """Return the sentence that tokens make."""
        if self.kind == "characters":
            return "".join(tokens)
        if self.kind == "subwords":
            return "".join(tokens).replace(SPACE, " ").strip()
        text = ""
        for token in tokens:
            glued = not text or token in NO_SPACE_BEFORE or text[-1] in NO_SPACE_AFTER
            text += token if glued else f" {token}"
        return text

    def header(self) -> dict[str, Any]:
        """Return the vocabulary as JSON holds it; see `from_header`."""
        return {
            "kind": self.kind, "words": list(self.words), "lowercase": self.lowercase,
            "merges": [list(pair) for pair in self.merges],
        }  # fmt: skip


def normalised(sentence: str, lowercase: bool) -> str:
    """Return a sentence in Unicode's composed form, each white space a single space; in lower case if asked."""
    text = " ".join(unicodedata.normalize("NFC", sentence).split())
    return text.lower() if lowercase else text


def characters(sentences: Iterable[str], *, lowercase: bool = False, minimum: int = 1) -> Vocabulary:
    """Return the characters that occur `minimum` times or more, by code point."""
    return _counted("characters", (list(normalised(each, lowercase)) for each in sentences), lowercase, minimum)


def words(sentences: Iterable[str], *, lowercase: bool = False, minimum: int = 2) -> Vocabulary:
    """Return the words and punctuation marks that occur `minimum` times or more, the most frequent first."""
    return _counted("words", (WORD.findall(normalised(each, lowercase)) for each in sentences), lowercase, minimum)


def _counted(kind: str, sentences: Iterable[Sequence[str]], lowercase: bool, minimum: int) -> Vocabulary:
    counts = Counter(token for sentence in sentences for token in sentence)
    kept = [token for token, count in counts.items() if count >= minimum]
    if not kept:
        raise UserError(f"none of the {len(counts):,} {kind} occurs {minimum} times: lower the minimum count")
    kept.sort(key=(lambda token: (-counts[token], token)) if kind == "words" else None)
    return Vocabulary(kind, (*SPECIALS, *kept[: MAX_WORDS - FIRST_WORD]), lowercase)


def subwords(sentences: Iterable[str], size: int, *, lowercase: bool = False, minimum: int = 2) -> Vocabulary:
    """Return at most `size` subwords of sentences, of both languages for a joint vocabulary.

    Args:
        sentences: to learn from.
        size: tokens, the special ones included.
        lowercase: whether sentences are in lower case.
        minimum: least count of a pair of symbols to be merged.

    Raises:
        UserError: the `tokenizers` package is missing.
    """
    library = _library()
    tokenizer = _pipeline(library, library.Tokenizer(library.models.BPE(unk_token=SPECIALS[UNKNOWN])))
    trainer = library.trainers.BpeTrainer(
        vocab_size=size, min_frequency=minimum, special_tokens=list(SPECIALS), show_progress=False,
        max_token_length=MAX_WORD,
    )  # fmt: skip
    tokenizer.train_from_iterator((normalised(each, lowercase) for each in sentences), trainer)
    model = json.loads(tokenizer.to_str())["model"]
    merges = tuple((one, other) for one, other in (_split(merge) for merge in model["merges"]))
    return Vocabulary("subwords", tuple(sorted(model["vocab"], key=model["vocab"].get)), lowercase, merges)


def from_header(about: Any) -> Vocabulary:
    """Return the vocabulary that `Vocabulary.header` described, after a check of each value.

    Raises:
        UserError: something else, or subwords without the `tokenizers` package.
    """
    if not isinstance(about, dict) or about.get("kind") not in KINDS:
        raise UserError("the vocabulary in its header is none: publish it again")
    values: list[Any] = [about.get(name) for name in ("kind", "words", "lowercase", "merges")]
    kind, known, lowercase, merges = values
    if not isinstance(lowercase, bool) or not _are_tokens(known) or tuple(known[:FIRST_WORD]) != SPECIALS:
        raise UserError("the vocabulary in its header has no list of tokens after the special ones: publish it again")
    if len(set(known)) < len(known) or (kind == "characters" and any(len(each) != 1 for each in known[FIRST_WORD:])):
        raise UserError("the vocabulary in its header has a token twice, or one of another kind: publish it again")
    if not isinstance(merges, list) or len(merges) > MAX_WORDS or (merges and kind != "subwords"):
        raise UserError("the vocabulary in its header has no list of merges: publish it again")
    tokens = set(known)
    for pair in merges:
        if not (_are_tokens(pair) and len(pair) == 2 and {*pair, "".join(pair)} <= tokens):
            raise UserError(f"a merge of the vocabulary in its header is {shortened(str(pair))}: publish it again")
    made = Vocabulary(kind, tuple(known), lowercase, tuple(map(tuple, merges)))
    if kind == "subwords":
        made.tokens("")  # builds the tokenizer
    return made


def _are_tokens(value: Any) -> bool:
    return (
        isinstance(value, list)
        and 0 < len(value) <= MAX_WORDS
        and all(isinstance(each, str) and 0 < len(each) <= MAX_WORD for each in value)
    )


def _library() -> Any:
    try:
        import tokenizers  # an extra of its own
    except ImportError:
        raise UserError(
            "subwords need the package tokenizers, which is not installed: pip install 'mllab[translation]'"
        ) from None
    return tokenizers


def _pipeline(library: Any, tokenizer: Any) -> Any:
    """Return a tokenizer that cuts a sentence into words, each with the space before it, and punctuation."""
    cut: Callable = library.pre_tokenizers.Sequence
    tokenizer.pre_tokenizer = cut([
        library.pre_tokenizers.Metaspace(replacement=SPACE, prepend_scheme="always"),
        library.pre_tokenizers.Punctuation("isolated"),
    ])  # fmt: skip
    return tokenizer


def _tokenizer(ids: Mapping[str, int], merges: Sequence[tuple[str, str]]) -> Any:
    library = _library()
    model = library.models.BPE(vocab=dict(ids), merges=list(merges), unk_token=SPECIALS[UNKNOWN])
    return _pipeline(library, library.Tokenizer(model))


def _split(merge: str | Sequence[str]) -> tuple[str, str]:
    """Return the two symbols of a merge, which older versions of the library write as one text."""
    one, other = merge.split(" ") if isinstance(merge, str) else merge
    return one, other
