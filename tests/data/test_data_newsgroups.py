"""20 Newsgroups: posts compared with scikit-learn's, TF-IDF with one by hand; damage of every kind is refused."""

import dataclasses
import gzip
import hashlib
import io
import math
import re
import tarfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.sparse import csr_matrix
from sklearn.cluster import KMeans
from sklearn.datasets import _twenty_newsgroups as published
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.metrics import f1_score, v_measure_score
from sklearn.naive_bayes import MultinomialNB

from mllab.data.files import File, locate
from mllab.data.readers import text
from mllab.data.sets import newsgroups20
from mllab.errors import UserError
from support.mistakes import refused_in_one_line

HEADER = "From: someone@example.org (Some One)\nSubject: Re: something\nLines: 9\n\n"
TOPICS = {"rec.autos": "engine wheel brake road tyre", "sci.space": "orbit moon launch rocket planet"}


def archive(members, *, kind=tarfile.REGTYPE):
    """Return a .tar.gz with these members, content by name; None makes a folder."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as packed:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.type = tarfile.DIRTYPE if content is None else kind
            member.size = len(content or b"") if kind == tarfile.REGTYPE else 0
            member.linkname = "/etc/hostname"
            packed.addfile(member, io.BytesIO(content or b""))
    return buffer.getvalue()


def posts(count=12):
    """Return the members of an archive; the posts of each group have words of one topic."""
    draw = np.random.default_rng(0)
    return {
        f"20news-bydate-{part}/{group}/{1000 * (part == 'test') + number}": (
            HEADER + "some@one wrote:\n> quoted words\n" + " ".join(draw.permutation(words.split())[:4]) + "\n"
        ).encode("latin-1")
        for part in ("test", "train")
        for group, words in TOPICS.items()
        for number in range(count)
    }


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    path = tmp_path_factory.mktemp("newsgroups") / "20news-bydate.tar.gz"
    path.write_bytes(archive({"20news-bydate-train": None, **posts()}))
    return {newsgroups20.FILE: path}


def test_posts_are_in_order_with_their_own_test_rows(files):
    path = files[newsgroups20.FILE]
    read = newsgroups20.read(path)
    assert [(post.part, post.group, post.number) for post in read] == sorted(
        ((part, group, 1000 * (part == "test") + number)
         for part in ("train", "test") for group in TOPICS for number in range(12)),
        key=lambda each: (each[0] == "test", *each[1:]),
    )  # fmt: skip
    data = newsgroups20.load(files, 0)
    assert data.classes == ("rec.autos", "sci.space")
    assert [len(rows) for rows in (data.split.train, data.split.validation, data.split.test)] == [20, 4, 24]
    assert data.split.test.tolist() == list(range(24, 48))
    assert set(data.terms) == set(" ".join(TOPICS.values()).split())  # no word of a header or a quote
    assert data.sha256 == {path.name: hashlib.sha256(path.read_bytes()).hexdigest()}
    labels = KMeans(2, random_state=0).fit(data.inputs[data.split.train]).predict(data.inputs[data.split.test])
    assert v_measure_score(data.targets[data.split.test], labels) == 1


LINES = st.lists(
    st.sampled_from(["", "--", " - ", "a word", "> quoted", "| too", "In article <1>", "x wrote:", "he said: y", "sig"])
)


@given(LINES)
def test_the_same_lines_are_removed_as_by_scikit_learn(lines):
    post = "\n".join(["From: someone", "", *lines])
    expected = published.strip_newsgroup_header(post)
    expected = published.strip_newsgroup_footer(expected)
    assert newsgroups20.strip(post) == published.strip_newsgroup_quoting(expected)


def test_weights_equal_a_tf_idf_by_hand():
    texts = ["red red blue"] * 3 + ["blue green"] * 3 + ["red"] * 2 + ["green Green"] * 6 + ["unseen words"]
    train = np.arange(14)
    encoded = text.encode(texts, train, dimensions=2)
    # More than half of the training texts contain green, and none of them the other words.
    assert encoded.terms == ("blue", "red")
    counts = [sum(term in texts[row].split() for row in train) for term in encoded.terms]
    idf = [math.log(15 / (1 + count)) + 1 for count in counts]
    first = np.array([1 * idf[0], 2 * idf[1]])
    np.testing.assert_allclose(encoded.tfidf[0].toarray()[0], first / np.linalg.norm(first), rtol=1e-6)
    np.testing.assert_array_equal(encoded.inputs[-1], 0)
    np.testing.assert_allclose(np.linalg.norm(encoded.inputs[:8], axis=1), 1, rtol=1e-6)
    # With all directions, inner products equal those of the weights.
    dense = encoded.tfidf.toarray()
    np.testing.assert_allclose(encoded.inputs @ encoded.inputs.T, dense @ dense.T, atol=1e-6)


def test_held_out_texts_do_not_affect_the_encoding():
    texts = ["red red blue", "green grey green", "pink"] * 8 + ["other other red"] * 8
    train = np.arange(24)
    first = text.encode(texts, train, dimensions=2)
    again = text.encode(texts[:24] + ["quite different grey"] * 8, train, dimensions=2)
    assert first.terms == again.terms == ("blue", "green", "grey", "pink", "red")
    np.testing.assert_array_equal(first.inputs[train], again.inputs[train])


def test_all_texts_may_be_training_texts():
    texts = ["red blue"] * 6 + ["green pink"] * 6
    assert text.encode(texts, np.arange(12), dimensions=9).inputs.shape == (12, 4)  # no more dimensions than terms


def test_texts_without_words_in_common_are_refused():
    with pytest.raises(
        UserError, match="no word occurs in at least 5 and at most half of the 3 training texts: add texts"
    ):
        text.encode(["one two", "three", "four"], np.arange(3))


def test_top_terms_are_those_of_the_topic(files):
    data = newsgroups20.load(files, 0)
    rows = data.split.train
    autos, space, empty = text.top_terms(data, rows, data.targets[rows], clusters=3, count=4)
    assert set(autos) < set(TOPICS["rec.autos"].split())
    assert set(space) < set(TOPICS["sci.space"].split())
    assert (len(autos), len(space), empty) == (4, 4, [])


def test_a_term_of_all_clusters_is_a_top_term_of_none(files):
    weights = csr_matrix(np.array([[0.9, 0.4, 0], [0.9, 0.5, 0.1], [0.9, 0, 0.3]], np.float32))
    data = dataclasses.replace(newsgroups20.load(files, 0), tfidf=weights, terms=("common", "one", "two"))
    assert text.top_terms(data, np.arange(3), np.array([0, 0, 1]), clusters=2, count=3) == [["one"], ["two"]]


DAMAGED = {
    "truncated": (lambda: archive(posts())[:-400], "is truncated or damaged"),
    "overwritten": (lambda: archive(posts())[:300] + bytes(300) + archive(posts())[600:], "is truncated or damaged"),
    "not gzipped": (lambda: gzip.decompress(archive(posts())), "is truncated or damaged"),
    "not a tar": (lambda: gzip.compress(b"words " * 500), "is not a tar archive"),
    "empty file": (lambda: b"", "is not a tar archive (empty file)"),
    "no posts": (lambda: archive({"20news-bydate-train": None}), "does not have training and test posts of each group"),
    "one part": (lambda: archive({n: c for n, c in posts().items() if "train" in n}), "does not have training and"),
    "outside": (lambda: archive({"../20news-bydate-train/a/1": b"x"}), "which is not a post of 20 Newsgroups"),
    "another file": (lambda: archive({"README": b"x"}), "'README', which is not a post of 20 Newsgroups"),
    "a link": (lambda: archive({"20news-bydate-train/a/1": b"x"}, kind=tarfile.SYMTYPE), "which is not a post"),
}


@pytest.mark.parametrize(("content", "message"), DAMAGED.values(), ids=DAMAGED.keys())
def test_damaged_and_other_archives_are_refused(tmp_path, content, message):
    path = tmp_path / "20news-bydate.tar.gz"
    path.write_bytes(content())
    with refused_in_one_line(re.escape(message)) as caught:
        newsgroups20.read(path)
    assert str(path) in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]  # nothing was extracted


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*absent.tar.gz: No such file"):
        newsgroups20.read(tmp_path / "absent.tar.gz")


def test_an_archive_packed_again_is_accepted_and_any_other_is_not(tmp_path):
    content = b"packed again"
    (tmp_path / "a.tar.gz").write_bytes(content)
    file = File("a.tar.gz", "http://127.0.0.1:1/none", 1, "0" * 64, hashlib.sha256(content).hexdigest())
    assert locate("some", file, data_dir=tmp_path) == tmp_path / "a.tar.gz"
    (tmp_path / "a.tar.gz").write_bytes(content + b"!")
    with pytest.raises(UserError, match="it has 13 bytes, expected 1"):
        locate("some", file, data_dir=tmp_path)


@pytest.mark.slow
def test_the_real_posts_match_scikit_learns_documentation(data_dir):
    """The figures of scikit-learn's user guide, "The 20 newsgroups text dataset", for four of the groups."""
    path = data_dir / "newsgroups20" / "20news-bydate.tar.gz"
    if not path.is_file():
        pytest.skip(f"no real data set at {path}")
    posts = newsgroups20.read(path)
    assert [sum(post.part == part for post in posts) for part in ("train", "test")] == [11_314, 7_532]
    assert len({post.group for post in posts}) == 20
    four = ("alt.atheism", "talk.religion.misc", "comp.graphics", "sci.space")
    train, test = ([p for p in posts if p.part == part and p.group in four] for part in ("train", "test"))
    vectorizer = TfidfVectorizer()
    vectors = vectorizer.fit_transform([post.text for post in train])
    assert vectors.shape == (2034, 34118)
    assert vectors.nnz / vectors.shape[0] == pytest.approx(159.0132743)
    bayes = MultinomialNB(alpha=0.01).fit(vectors, [post.group for post in train])
    predicted = bayes.predict(vectorizer.transform([post.text for post in test]))
    assert f1_score([post.group for post in test], predicted, average="macro") == pytest.approx(0.88213592)
