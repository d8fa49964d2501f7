"""20 Newsgroups: about 19,000 posts of 1993 to twenty Usenet groups; the later 40% of each group are test rows."""

import hashlib
import io
import re
import tarfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from mllab import tasks
from mllab.data.readers import content
from mllab.data.split import with_own_test_rows
from mllab.errors import UserError

if TYPE_CHECKING:
    from mllab.data.readers.text import Documents

FILE = "20news-bydate.tar.gz"
# PART/GROUP/NUMBER, such as 20news-bydate-train/sci.space/59848
MEMBER = re.compile(r"(?:\./)?20news-bydate-(train|test)/([^/]+)/(\d+)")
QUOTED = re.compile(r"writes in|writes:|wrote:|says:|said:|^In article|^Quoted from|^\||^>")


class Post(NamedTuple):
    """A post as it was sent."""

    part: str  # "train" or "test"
    group: str
    number: int
    text: str  # headers, a blank line, and the body


def load(files: Mapping[str, Path], split_seed: int) -> "Documents":
    """Read the posts without headers, signatures and quotes, which would reveal the group.

    Inputs are TF-IDF weights reduced to 100 directions (see `readers.text.encode`), fitted to the training rows. A
    sixth of the posts that are not test rows, stratified by group, is for validation.

    Raises:
        UserError: scikit-learn is not installed; or see `read`.
    """
    try:
        from mllab.data.readers import text  # imports scikit-learn, which takes a second
    except ImportError:
        raise UserError(
            "newsgroups20 needs scikit-learn, which is not installed: pip install 'mllab[experiments]'"
        ) from None
    path = files[FILE]
    packed = content.read(path)
    posts = read(path)
    groups = tuple(sorted({post.group for post in posts}))
    targets = np.array([groups.index(post.group) for post in posts], np.int32)
    split = with_own_test_rows(targets, sum(post.part == "train" for post in posts), split_seed, groups)
    encoded = text.encode([strip(post.text) for post in posts], split.train)
    empty = int((encoded.tfidf.getnnz(axis=1) == 0).sum())
    return text.Documents(
        name="newsgroups20",
        task=tasks.CLASSIFICATION.name,
        inputs=encoded.inputs,
        targets=targets,
        split=split,
        features=tuple(f"direction {rank}" for rank in range(1, encoded.inputs.shape[1] + 1)),
        classes=groups,
        target="newsgroup",
        sha256={path.name: hashlib.sha256(packed).hexdigest()},
        notes=(
            "removed headers, signatures and quoted lines",
            f"weighted {len(encoded.terms):,} words of the training posts by TF-IDF and reduced them to "
            f"{encoded.inputs.shape[1]} directions by truncated SVD, each post scaled to length 1",
            f"{empty:,} of the {len(posts):,} posts have none of these words, and zeros as inputs",
        ),
        tfidf=encoded.tfidf,
        terms=encoded.terms,
    )


def read(path: Path) -> list[Post]:
    """Return the posts of a .tar.gz, training posts first, by group and number; nothing is extracted to disk.

    Raises:
        UserError: the file is damaged or truncated, or is another archive.
    """
    posts = []
    # Decompressed as a whole and verified, since tarfile treats damage in the middle as the end of the archive.
    unpacked = io.BytesIO(content.unpack(path, content.read(path)))
    try:
        with tarfile.open(fileobj=unpacked, mode="r:") as archive:
            for member in archive:
                if member.isdir():
                    continue
                match, body = MEMBER.fullmatch(member.name), archive.extractfile(member) if member.isreg() else None
                if match is None or body is None:
                    raise UserError(
                        f"{path} holds {member.name!r}, which is not a post of 20 Newsgroups: replace the file"
                    )
                part, group, number = match.groups()
                posts.append(Post(part, group, int(number), body.read().decode("latin-1")))
    except tarfile.TarError as error:
        raise UserError(f"{path} is not a tar archive ({error}): replace the file") from None
    groups = {part: {post.group for post in posts if post.part == part} for part in ("train", "test")}
    if not posts or groups["train"] != groups["test"]:
        raise UserError(f"{path} does not have training and test posts of each group: replace the file")
    return sorted(posts, key=lambda post: (post.part == "test", post.group, post.number))


def strip(post: str) -> str:
    """Return a post without headers, signature and quoted lines, by the rules of scikit-learn.

    Headers end at the first blank line. A signature is everything after the last line that is blank or has only
    hyphens. A quoted line starts with > or |, or introduces a quotation ("... wrote:").
    """
    body = post.partition("\n\n")[2]
    lines = body.strip().split("\n")
    breaks = [place for place, line in enumerate(lines) if not line.strip().strip("-")]
    if breaks and breaks[-1] > 0:
        body = "\n".join(lines[: breaks[-1]])
    return "\n".join(line for line in body.split("\n") if not QUOTED.search(line))
