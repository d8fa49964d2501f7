"""Parallel text to translate: sets known by name, or files of your own; pairs of sentences with a split."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from mllab.data.files import File, locate
from mllab.data.readers import content, parallel
from mllab.data.sets import dates
from mllab.errors import UserError, shortened, unknown
from mllab.folders import expand

PARTS = ("train", "validation", "test")
SHARES = (0.9, 0.05, 0.05)  # of the distinct target sentences, where a set brings no split of its own
MOST = 2_000  # sentences in a validation or test part that is drawn here
TABLE_ENDINGS = (".tsv", ".tsv.gz", ".txt", ".txt.gz")

Pair = tuple[str, str]  # source and target


@dataclass(frozen=True)
class Pairs:
    """Parallel text."""

    name: str
    parts: Mapping[str, list[Pair]]  # train, validation and test
    source: str = "source"  # language
    target: str = "target"
    tokens: str = "subwords"  # that suit it: characters or subwords
    groups: Sequence[str] = ()  # of each test pair; empty for one group
    skipped: int = 0  # pairs with an empty side
    licence: str = ""
    citation: str = ""
    sha256: Mapping[str, str] | None = None  # of the files, by name

    def __repr__(self) -> str:
        """Return the name and the numbers of pairs."""
        return f"Pairs({self.name}: {', '.join(f'{len(pairs):,} {part}' for part, pairs in self.parts.items())})"


class Entry(NamedTuple):
    """Parallel text known by name."""

    licence: str
    citation: str
    languages: tuple[str, ...]  # the default source and target first; a generated set has one direction
    folder: str = ""  # where its files stand, below the folders where data sets stand
    files: Mapping[str, File] = {}  # by name


_MULTI30K = "https://raw.githubusercontent.com/multi30k/dataset/a3d2e0d26b56f3846f66a952536ffed4e401d05a/data/task1/raw"
_PARTS_OF_MULTI30K = {"train": "train", "validation": "val", "test": "test_2016_flickr"}


def _multi30k(*published: tuple[str, int, str]) -> dict[str, File]:
    return {name: File(name, f"{_MULTI30K}/{name}", size, sha256) for name, size, sha256 in published}


PAIRS: Mapping[str, Entry] = {
    "dates": Entry(
        licence="",
        citation="generated: dates in 69 styles of 8 languages, to write in ISO form; 16 styles are held out",
        languages=("date", "iso"),
    ),
    "multi30k": Entry(
        licence="no open one: from Flickr30k, for non-commercial research and education",
        citation="D. Elliott, S. Frank, K. Sima'an and L. Specia, Multi30K: multilingual English-German image "
        "descriptions, 2016 (arXiv:1605.00459); French by D. Elliott et al., 2017 (arXiv:1710.07177); task 1, test2016",
        languages=("de", "en", "fr"),
        folder="multi30k",
        files=_multi30k(
            ("train.de.gz", 637_044, "726e39b2fa9eb9ffb6dc763fb35a179f80fae06ffc5d28b6ace5faa883de28a6"),
            ("train.en.gz", 568_929, "d79cfa999dd4c51d2cb42499b6796d5a882c3a8a961923c25a898c90f8bbd56f"),
            ("train.fr.gz", 604_242, "622e75069e9f4c577425c4f277116ce66e63a2401c0a2312d90073cb12379a3c"),
            ("val.de.gz", 24_681, "f0cba2f995189cf5770f29a8a9a537a3ad3f51657ad873405082ff6863a5e75a"),
            ("val.en.gz", 21_650, "14f7d25ddd868909a9213e361768460edcacdd6ab9d1e77b92560dc10c10dc28"),
            ("val.fr.gz", 23_001, "ca3106f1a72390591d25f6c45cb4cd39dec4cd3f123e099748a3ce5256c160e9"),
            ("test_2016_flickr.de.gz", 22_890, "9204244e408ccb38d2a55cfcd344df15005fc42a07a6e55ca6c52b6ababb8cc8"),
            ("test_2016_flickr.en.gz", 21_077, "611d361c6334bc7246101d48097c13cf5c4413c5befc793cc629934359d532d9"),
            ("test_2016_flickr.fr.gz", 22_310, "6d326e188d259fb1d04ac19eae3af956559b3a0b93d7635e56c90987c40c8b90"),
        ),
    ),
    "tatoeba": Entry(
        licence="CC BY 2.0 (attribution: www.manythings.org/anki and tatoeba.org)",
        citation="sentences of tatoeba.org in French and English, as manythings.org/anki exported them in 2017; split "
        "by English sentence",
        languages=("fr", "en"),
        folder="tatoeba_fra_eng",
        files={
            "fra-eng.zip": File(
                "fra-eng.zip",
                "https://raw.githubusercontent.com/genimind/seq2seq/4f3f8eb0adde54fcc8b89394336b002e7961244c/fra-eng.zip",
                2_951_390,
                "16c4f7d0df9e7c5e6c54cdb0447f3f4a18a55052ff5e2e0b27dd4a06c0e49d04",
            )
        },
    ),
}  # fmt: skip


def load(
    name_or_path: str | Path,
    *,
    source: str | None = None,
    target: str | None = None,
    data_dir: str | Path | None = None,
    split_seed: int = 0,
    download: bool = True,
    progress: Callable[[int, int], None] | None = None,
) -> Pairs:
    """Load parallel text by name, or files of your own by path.

    Text without a split of its own is split by distinct English sentence (of a set known by name) or by distinct target
    sentence (of your own), so that none is in two parts.

    Args:
        name_or_path: a name in `PAIRS`; the path of a tab-separated file (.tsv or .txt, plain or gzipped: SOURCE, a
            tab, TARGET); or two paths of paired lines, separated by a comma: SOURCE_FILE,TARGET_FILE.
        source: language to translate from, of a set known by name; a name for pages, of your own.
        target: language to translate to.
        data_dir: the folder to look for files in first; see `files.locate`.
        split_seed: seed of the split, where a set brings none of its own.
        download: whether missing files may be downloaded.
        progress: called during a download with the bytes downloaded and the bytes in total of the current file.

    Raises:
        UserError: an unknown name or language, a missing, damaged or malformed file, or too few sentences to split.
    """
    name = str(name_or_path)
    if name not in PAIRS:
        return _load_own(name, source or "source", target or "target", split_seed)
    entry = PAIRS[name]
    first, second = _languages(name, entry, source, target)

    def path(file: str) -> Path:
        return locate(entry.folder, entry.files[file], data_dir=data_dir, download=download, progress=progress)

    origin: dict[str, Any] = {"source": first, "target": second, "licence": entry.licence, "citation": entry.citation}
    if name == "dates":
        parts, groups = dates.dates()
        digest = hashlib.sha256("\n".join("\t".join(pair) for each in parts.values() for pair in each).encode())
        return Pairs(name, parts, tokens="characters", groups=groups, sha256={name: digest.hexdigest()}, **origin)
    if name == "multi30k":
        files = {part: [f"{stem}.{each}.gz" for each in (first, second)] for part, stem in _PARTS_OF_MULTI30K.items()}
        read = {part: parallel.read_paired(*map(path, names)) for part, names in files.items()}
        digests = {file: entry.files[file].sha256 for names in files.values() for file in names}
        skipped = sum(each.skipped for each in read.values())
        return Pairs(
            name, {part: each.pairs for part, each in read.items()}, skipped=skipped, sha256=digests, **origin
        )  # fmt: skip
    file = next(iter(entry.files))
    english, skipped = parallel.read_member(path(file), "fra.txt")  # English first
    parts = split([(french, sentence) for sentence, french in english], split_seed, 1, name)
    if first == "en":
        parts = {part: [(sentence, french) for french, sentence in each] for part, each in parts.items()}
    return Pairs(name, parts, skipped=skipped, sha256={file: entry.files[file].sha256}, **origin)


def split(pairs: Sequence[Pair], seed: int, side: int, name: str) -> dict[str, list[Pair]]:
    """Return the parts of pairs, such that no sentence of one side (0: source, 1: target) is in two parts.

    SHARES of the distinct sentences are drawn, for validation and test MOST at most. A pair that occurs twice is kept
    once; of the pairs that share a sentence of the validation or test part, the first.

    Raises:
        UserError: fewer than three distinct sentences.
    """
    distinct = list(dict.fromkeys(pair[side] for pair in pairs))
    if len(distinct) < len(PARTS):
        raise UserError(
            f"{name} has {len(distinct)} distinct {('source', 'target')[side]} sentences: give three or more, to "
            "train, to choose and to report"
        )
    order = np.random.default_rng(seed).permutation(len(distinct))
    held = [max(1, min(int(share * len(distinct)), MOST)) for share in SHARES[1:]]
    part_of = dict.fromkeys(distinct, "train")
    for place, index in enumerate(order[: sum(held)]):
        part_of[distinct[index]] = PARTS[1 + int(place >= held[0])]
    parts: dict[str, list[Pair]] = {part: [] for part in PARTS}
    held_sentences = set()
    for pair in dict.fromkeys(pairs):
        sentence = pair[side]
        part = part_of[sentence]
        if part == "train" or sentence not in held_sentences:
            parts[part].append(pair)
            held_sentences.add(sentence)
    return parts


def _languages(name: str, entry: Entry, source: str | None, target: str | None) -> tuple[str, str]:
    """Return the source and the target language of a set known by name; the one that is not given follows."""
    known = entry.languages
    for each in (source, target):
        if each is not None and each not in known:
            raise unknown(f"language of {name}", each, known)
    rest = [each for each in known if each not in (source, target)]
    first = source or (known[0] if target != known[0] else rest[0])
    second = target or next(each for each in (known[1], *rest) if each != first)
    if first == second:
        raise UserError(f"source and target of {name} are both {first!r}: give two languages of {', '.join(known)}")
    if name == "dates" and (first, second) != known:
        raise UserError("dates are translated from date to iso: leave --source and --target out")
    return first, second


def _load_own(name: str, source: str, target: str, split_seed: int) -> Pairs:
    """Return parallel text of the user's own files."""
    whole = expand(name)
    files = [whole] if content.kind(whole) else [expand(each.strip()) for each in name.split(",")]
    if len(files) > 2:
        raise UserError(
            f"{shortened(name)}: {len(files)} files; give one of tab-separated pairs, or two of paired lines"
        )
    for path in files:
        if not content.kind(path):
            if len(files) == 1 and path.name == name and not name.lower().endswith(TABLE_ENDINGS):  # as likely a name
                raise unknown("parallel text", name, [*PAIRS, "FILE.tsv", "SOURCE_FILE,TARGET_FILE"])
            raise UserError(f"no file {path}: check the path")
    read = parallel.read_table(files[0]) if len(files) == 1 else parallel.read_paired(files[0], files[1])
    title = ",".join(path.name for path in files)
    return Pairs(
        title, split(read.pairs, split_seed, 1, title), source, target, skipped=read.skipped,
        sha256={path.name: hashlib.sha256(content.read(path)).hexdigest() for path in files},
    )  # fmt: skip
