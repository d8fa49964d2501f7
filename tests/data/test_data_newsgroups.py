"""Posts from an archive: against scikit-learn's own reading, a TF-IDF by hand, and damage of every kind."""

import dataclasses
import gzip
import hashlib
import io
import math
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

from mllab.data import catalog, newsgroups, text
from mllab.errors import UserError

HEADER = "From: someone@example.org (Some One)\nSubject: Re: something\nLines: 9\n\n"
TOPICS = {"rec.autos": "engine wheel brake road tyre", "sci.space": "orbit moon launch rocket planet"}


def archive(members, *, kind=tarfile.REGTYPE):
    """The bytes of a .tar.gz with these members, content by name; a folder where the content is None."""
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
    """Members of an archive: each group's posts say words of its own topic."""
    draw = np.random.default_rng(0)
    return {
        f"20news-bydate-{part}/{group}/{1000 * (part == 'test') + number}": (
            HEADER + "some@one wrote:\n> quoted nonsense\n" + " ".join(draw.permutation(words.split())[:4]) + "\n"
        ).encode("latin-1")
        for part in ("test", "train")
        for group, words in TOPICS.items()
        for number in range(count)
    }


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("newsgroups") / "20news-bydate.tar.gz"
    path.write_bytes(archive({"20news-bydate-train": None, **posts()}))
    return path


def test_posts_come_in_order_with_the_sets_own_test_rows(small):
    read = newsgroups.read(small)
    assert [(post.part, post.group, post.number) for post in read] == sorted(
        ((part, group, 1000 * (part == "test") + number)
         for part in ("train", "test") for group in TOPICS for number in range(12)),
        key=lambda each: (each[0] == "test", *each[1:]),
    )  # fmt: skip
    data = newsgroups.newsgroups(small, 0)
    assert data.classes == ("rec.autos", "sci.space")
    assert [len(rows) for rows in (data.split.train, data.split.validation, data.split.test)] == [20, 4, 24]
    assert data.split.test.tolist() == list(range(24, 48))
    assert set(data.terms) == set(" ".join(TOPICS.values()).split())  # and no word of a header or a quote
    assert data.sha256 == {small.name: hashlib.sha256(small.read_bytes()).hexdigest()}
    labels = KMeans(2, random_state=0).fit(data.inputs[data.split.train]).predict(data.inputs[data.split.test])
    assert v_measure_score(data.targets[data.split.test], labels) == 1


LINES = st.lists(
    st.sampled_from(["", "--", " - ", "a word", "> quoted", "| too", "In article <1>", "x wrote:", "he said: y", "sig"])
)


@given(LINES)
def test_what_is_cut_off_is_what_scikit_learn_cuts_off(lines):
    post = "\n".join(["From: someone", "", *lines])
    expected = published.strip_newsgroup_header(post)
    expected = published.strip_newsgroup_footer(expected)
    assert newsgroups.stripped(post) == published.strip_newsgroup_quoting(expected)


def test_weights_are_those_of_a_tf_idf_by_hand():
    texts = ["red red blue"] * 3 + ["blue green"] * 3 + ["red"] * 2 + ["green Green"] * 6 + ["unseen words"]
    train = np.arange(14)
    encoded = text.encode(texts, train, dimensions=2)
    assert encoded.terms == (
        "blue",
        "red",
    )  # green stands in more than half of them, and no training text has the others
    having = [sum(term in texts[row].split() for row in train) for term in encoded.terms]
    idf = [math.log(15 / (1 + count)) + 1 for count in having]
    first = np.array([1 * idf[0], 2 * idf[1]])
    np.testing.assert_allclose(encoded.tfidf[0].toarray()[0], first / np.linalg.norm(first), rtol=1e-6)
    np.testing.assert_array_equal(encoded.inputs[-1], 0)
    np.testing.assert_allclose(np.linalg.norm(encoded.inputs[:8], axis=1), 1, rtol=1e-6)
    # All directions kept: products are those of the weights themselves.
    dense = encoded.tfidf.toarray()
    np.testing.assert_allclose(encoded.inputs @ encoded.inputs.T, dense @ dense.T, atol=1e-6)


def test_nothing_is_learned_from_rows_held_out():
    texts = ["red red blue", "green grey green", "pink"] * 8 + ["other other red"] * 8
    train = np.arange(24)
    first = text.encode(texts, train, dimensions=2)
    again = text.encode(texts[:24] + ["quite different grey"] * 8, train, dimensions=2)
    assert first.terms == again.terms == ("blue", "green", "grey", "pink", "red")
    np.testing.assert_array_equal(first.inputs[train], again.inputs[train])


def test_every_text_may_be_for_training():
    texts = ["red blue"] * 6 + ["green pink"] * 6
    assert text.encode(texts, np.arange(12), dimensions=9).inputs.shape == (12, 4)  # no more directions than terms


def test_texts_without_words_in_common_are_refused():
    with pytest.raises(UserError, match="no word stands in 5 of the 3 training texts"):
        text.encode(["one two", "three", "four"], np.arange(3))


def test_top_terms_are_those_that_stand_out(small):
    data = newsgroups.newsgroups(small, 0)
    rows = data.split.train
    autos, space, empty = text.top_terms(data, rows, data.targets[rows], clusters=3, count=4)
    assert set(autos) < set(TOPICS["rec.autos"].split())
    assert set(space) < set(TOPICS["sci.space"].split())
    assert (len(autos), len(space), empty) == (4, 4, [])


def test_a_term_of_all_clusters_stands_out_in_none(small):
    weights = csr_matrix(np.array([[0.9, 0.4, 0], [0.9, 0.5, 0.1], [0.9, 0, 0.3]], np.float32))
    data = dataclasses.replace(newsgroups.newsgroups(small, 0), tfidf=weights, terms=("common", "one", "two"))
    assert text.top_terms(data, np.arange(3), np.array([0, 0, 1]), clusters=2, count=3) == [["one"], ["two"]]


DAMAGED = {
    "cut short": (lambda: archive(posts())[:-400], "is cut short or damaged"),
    "flipped bytes": (lambda: archive(posts())[:300] + bytes(300) + archive(posts())[600:], "is cut short or damaged"),
    "not gzipped": (lambda: gzip.decompress(archive(posts())), "is cut short or damaged"),
    "no tar": (lambda: gzip.compress(b"words " * 500), "holds no archive"),
    "empty file": (lambda: b"", "holds no archive (empty file)"),
    "no posts": (lambda: archive({"20news-bydate-train": None}), "does not hold posts of each group"),
    "one part": (lambda: archive({n: c for n, c in posts().items() if "train" in n}), "does not hold posts of each"),
    "leaving its folder": (lambda: archive({"../20news-bydate-train/a/1": b"x"}), "which is no post of 20 Newsgroups"),
    "another file": (lambda: archive({"README": b"x"}), "'README', which is no post of 20 Newsgroups"),
    "a link": (lambda: archive({"20news-bydate-train/a/1": b"x"}, kind=tarfile.SYMTYPE), "which is no post"),
}


@pytest.mark.parametrize(("content", "says"), DAMAGED.values(), ids=DAMAGED.keys())
def test_what_is_no_such_archive_is_refused_in_one_line(tmp_path, content, says):
    path = tmp_path / "20news-bydate.tar.gz"
    path.write_bytes(content())
    with pytest.raises(UserError) as caught:
        newsgroups.read(path)
    assert says in str(caught.value)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(tmp_path.iterdir()) == [path]  # nothing was unpacked


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*absent.tar.gz: No such file"):
        newsgroups.read(tmp_path / "absent.tar.gz")


def test_an_archive_packed_anew_is_taken_and_any_other_is_not(tmp_path):
    content = b"packed anew"
    (tmp_path / "a.tar.gz").write_bytes(content)
    file = catalog.File("a.tar.gz", "http://127.0.0.1:1/none", 1, "0" * 64, hashlib.sha256(content).hexdigest())
    assert catalog.locate("some", file, data_dir=tmp_path) == tmp_path / "a.tar.gz"
    (tmp_path / "a.tar.gz").write_bytes(content + b"!")
    with pytest.raises(UserError, match="it has 12 bytes where 1 belong"):
        catalog.locate("some", file, data_dir=tmp_path)


def test_the_real_posts_are_as_scikit_learn_documents_them(data_dir):
    """The figures of its user guide, "The 20 newsgroups text dataset", for four of the groups."""
    path = data_dir / "newsgroups20" / "20news-bydate.tar.gz"
    if not path.is_file():
        pytest.skip(f"no real data set at {path}")
    every = newsgroups.read(path)
    assert [sum(post.part == part for post in every) for part in ("train", "test")] == [11_314, 7_532]
    assert len({post.group for post in every}) == 20
    four = ("alt.atheism", "talk.religion.misc", "comp.graphics", "sci.space")
    train, test = ([p for p in every if p.part == part and p.group in four] for part in ("train", "test"))
    weigh = TfidfVectorizer()
    vectors = weigh.fit_transform([post.text for post in train])
    assert vectors.shape == (2034, 34118)
    assert vectors.nnz / vectors.shape[0] == pytest.approx(159.0132743)
    bayes = MultinomialNB(alpha=0.01).fit(vectors, [post.group for post in train])
    predicted = bayes.predict(weigh.transform([post.text for post in test]))
    assert f1_score([post.group for post in test], predicted, average="macro") == pytest.approx(0.88213592)
