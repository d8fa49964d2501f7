"""20 Newsgroups: some 19,000 posts of 1993 to twenty groups of Usenet, the later 40% of each for reporting."""

import gzip
import hashlib
import io
import re
import tarfile
import zlib
from pathlib import Path
from typing import NamedTuple

import numpy as np

from mllab.data import text
from mllab.data.dataset import Split
from mllab.data.split import stratified
from mllab.errors import UserError

# PART/GROUP/NUMBER, as 20news-bydate-train/sci.space/59848
MEMBER = re.compile(r"(?:\./)?20news-bydate-(train|test)/([^/]+)/(\d+)")
QUOTED = re.compile(r"writes in|writes:|wrote:|says:|said:|^In article|^Quoted from|^\||^>")


class Post(NamedTuple):
    """One post as it was sent."""

    part: str  # "train" or "test"
    group: str
    number: int
    text: str  # headers, a blank line, what was written


def newsgroups(path: Path, split_seed: int) -> text.Documents:
    """Read the posts, without their headers, signatures and quotes, which would give the group away.

    Inputs are TF-IDF of the words, reduced to 100 directions (see `text.encode`). Test rows are the set's own.
    Validation rows are a sixth of its training rows, by class; the words and directions are those of the other five.

    Raises:
        UserError: see `read`.
    """
    posts = read(path)
    groups = tuple(sorted({post.group for post in posts}))
    targets = np.array([groups.index(post.group) for post in posts], np.int32)
    known = sum(post.part == "train" for post in posts)
    chosen = stratified(targets[:known], split_seed, (5 / 6, 1 / 6, 0), classes=groups)
    split = Split(chosen.train, chosen.validation, test=np.arange(known, len(posts), dtype=np.int32))
    encoded = text.encode([stripped(post.text) for post in posts], split.train)
    silent = int((encoded.tfidf.getnnz(axis=1) == 0).sum())
    return text.Documents(
        name="newsgroups20",
        task="classification",
        inputs=encoded.inputs,
        targets=targets,
        split=split,
        features=tuple(f"direction {rank}" for rank in range(1, encoded.inputs.shape[1] + 1)),
        classes=groups,
        target="newsgroup",
        sha256={path.name: hashlib.sha256(path.read_bytes()).hexdigest()},
        notes=(
            "headers, signatures and quoted lines were cut off",
            f"{len(encoded.terms):,} words of the training posts by TF-IDF, reduced to {encoded.inputs.shape[1]} "
            "directions by truncated SVD, each post of length 1",
            f"{silent:,} of the {len(posts):,} posts have none of these words, and inputs of 0",
        ),
        tfidf=encoded.tfidf,
        terms=encoded.terms,
    )


def read(path: Path) -> list[Post]:
    """Return the posts of a .tar.gz, those for training first, by group and number; nothing is unpacked to disk.

    Raises:
        UserError: a file that is damaged, cut short or holds anything else.
    """
    posts = []
    try:
        with tarfile.open(fileobj=io.BytesIO(_unpacked(path)), mode="r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                named, content = MEMBER.fullmatch(member.name), archive.extractfile(member) if member.isreg() else None
                if named is None or content is None:
                    raise UserError(f"{path} holds {member.name!r}, which is no post of 20 Newsgroups: get it again")
                part, group, number = named.groups()
                posts.append(Post(part, group, int(number), content.read().decode("latin-1")))
    except tarfile.TarError as error:
        raise UserError(f"{path} holds no archive ({error}): get it again") from None
    parts = {part: {post.group for post in posts if post.part == part} for part in ("train", "test")}
    if not posts or parts["train"] != parts["test"]:
        raise UserError(f"{path} does not hold posts of each group for training and for testing: get it again")
    return sorted(posts, key=lambda post: (post.part == "test", post.group, post.number))


def _unpacked(path: Path) -> bytes:
    """Return what the gzipped file holds; whole and checked, since tarfile takes damage further in for the end."""
    try:
        return gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path} is cut short or damaged ({error}): get it again") from None
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from None


def stripped(post: str) -> str:
    """Return what the sender wrote: no headers, no signature, no quoted lines; scikit-learn's rules of thumb.

    Headers end at the first blank line. A signature is what follows the last line that is blank or of hyphens alone. A
    quoted line begins with > or |, or announces a quote ("... wrote:").
    """
    body = post.partition("\n\n")[2]
    lines = body.strip().split("\n")
    breaks = [place for place, line in enumerate(lines) if not line.strip().strip("-")]
    if breaks and breaks[-1] > 0:
        body = "\n".join(lines[: breaks[-1]])
    return "\n".join(line for line in body.split("\n") if not QUOTED.search(line))
