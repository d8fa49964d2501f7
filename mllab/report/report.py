"""The grammar of all reports: a question, an answer, one table, sections of text, tables and drawings, and facts.

An experiment makes a `Report`; `mllab.report.page` adds what every page has.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mllab.report.table import Table

MAX_LISTED = 8  # statements or lines of a fact; more are folded


@dataclass(frozen=True)
class Drawing:
    """A figure of the page, written to figures/<name>.svg too."""

    name: str
    figure: Any  # a matplotlib Figure or a `draw.Animation`, as `mllab.report.draw` makes them
    alt: str  # a description for those who cannot see it
    caption: str = ""


@dataclass(frozen=True)
class Bullets:
    """Short statements, one a line; empty ones are left out, and of many the page folds all but the first."""

    items: Sequence[str]


@dataclass(frozen=True)
class Audio:
    """A sound of the page, which the reader starts; the page holds it whole, so keep it short."""

    wave: bytes  # a WAV file
    alt: str  # a description for those who cannot hear it
    caption: str = ""


@dataclass(frozen=True)
class Alignment:
    """A translation of the page: where the reader points at a target word, its source words light up."""

    source: Sequence[str]  # S words
    target: Sequence[str]  # T words
    weights: Sequence[Sequence[float]]  # [T][S] of the source words for each target word, in [0, 1]
    caption: str = ""


Block = str | Table | Drawing | Audio | Alignment | Bullets  # text is a paragraph


@dataclass(frozen=True)
class Section:
    """A heading and the blocks below it, in order; empty ones (None, "", no bullets) are left out."""

    heading: str
    blocks: Sequence[Block | None]


@dataclass(frozen=True)
class Report:
    """The results of an experiment; sections without blocks and empty facts are left out."""

    title: str
    question: str
    answer: str
    table: Table  # the result: below the answer on the page, above it on the terminal
    sections: Sequence[Section] = ()
    facts: Mapping[str, str | Sequence[str]] = field(default_factory=dict)  # how it was run; a line or several each
    remarks: Sequence[str] = ()  # lines below the table on the terminal: diverged lanes, edges of grids
    tables: Sequence[Table] = ()  # further tables for the terminal

    @property
    def drawings(self) -> list[Drawing]:
        """The drawings of all sections, in order."""
        return [block for section in self.sections for block in section.blocks if isinstance(block, Drawing)]


@dataclass(frozen=True)
class Environment:
    """What a run depends on beside its settings: environment.json."""

    versions: Mapping[str, str]  # of Python and the packages
    devices: Mapping[str, Any]  # count, kind, platform
    machine: str
    cpu: str
    xla_flags: str
    git_commit: str | None
    data: Mapping[str, str]  # sha256 of each file read, by name


@dataclass(frozen=True)
class Provenance:
    """How a report came about."""

    command: str  # that repeats the run
    environment: Environment
    seconds: Mapping[str, float]  # wall time of each part, and `total`
    sources: Sequence[str] = ()  # citations and licences of the data


def fold(items: Sequence[str]) -> tuple[Sequence[str], Sequence[str]]:
    """Return the items to show and those to fold: none of MAX_LISTED, nor a single one more."""
    items = [item for item in items if item]
    count = MAX_LISTED if len(items) > MAX_LISTED + 1 else len(items)
    return items[:count], items[count:]
