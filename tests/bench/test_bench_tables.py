"""Benchmarks on stored tables: mllab's choice on the KEEL tables, and deep ensembles on published splits."""

import numpy as np
import pytest
from scipy import stats
from threadpoolctl import threadpool_limits

from experiments.bench import harness, keel, keel_tables, published_scores, published_splits
from experiments.bench.harness import Sample
from experiments.bench.published_scores import Result
from mllab.errors import UserError


def test_the_folder_of_tables_is_looked_for_in_the_environment_too(tmp_path, monkeypatch):
    monkeypatch.setenv("MLLAB_DATA", str(tmp_path))
    with pytest.raises(UserError, match=r"no folder .*keel: give its parent"):
        harness.data_folder(None, "keel")
    (tmp_path / "keel").mkdir()
    assert harness.data_folder(None, "keel") == harness.data_folder(str(tmp_path), "keel") == tmp_path / "keel"
    monkeypatch.delenv("MLLAB_DATA")
    with pytest.raises(UserError, match="--data_dir"):
        harness.data_folder(None, "keel")


# ── KEEL ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def searched(choice, seconds=1.0, **theirs):
    """Samples of a table on which the choice has an accuracy on both folds, and scikit-learn's models theirs."""
    ours = {
        "seconds": seconds, "first_seconds": 9.0, "cpu_seconds": 2.0, "chosen": ["svm", "trees"],
        "model_seconds": {"svm": 0.4, "mlp": 0.6},
        "scores": {keel_tables.OURS: [choice, choice], "svm": [1.0, 1.0]},
    }  # fmt: skip
    theirs = {name: [each - 0.25, each + 0.25] for name, each in theirs.items()}
    return {"mllab": [Sample(9.0, ours)], "sklearn": [Sample(1.0, {"seconds": 1.0, "scores": theirs})]}


def test_ranks_are_those_of_scipy_and_the_mean_rank_is_judged():
    tables = {"a": searched(0.5, x=0.5, y=0.25, z=0.75), "b": searched(0.75, x=0.5, y=0.625, z=0.25)}
    expected = [stats.rankdata([-0.5, -0.5, -0.25, -0.75]), stats.rankdata([-0.75, -0.5, -0.625, -0.25])]
    table = keel_tables.ranks(tables)
    np.testing.assert_array_equal([row[1:] for row in table.rows[:2]], expected)
    assert table.rows[2] == ["mean rank", "1.75", "2.75", "3.00", "2.50"]
    assert table.rows[-1][1] == "yes"
    assert keel_tables.ranks({"a": tables["a"]}).rows[-1][1] == "no"
    assert [row[-1] for row in keel_tables.accuracies(tables).rows] == ["z", ""]


@pytest.mark.parametrize(("seconds", "met"), [(30.0, "yes"), (30.1, "no")])
def test_a_search_is_judged_by_its_seconds_once_compiled(seconds, met):
    (row,) = keel_tables.searches({"a": searched(0.5, seconds, x=0.5)}).rows
    assert row[1:] == ["9.0", f"{seconds:.1f}", keel_tables.MOST_SECONDS, met, "2.0", "mlp 0.6", "svm 1, trees 1"]


@pytest.fixture
def keel_folder(tmp_path):
    draw = np.random.default_rng(0)
    (tmp_path / "keel").mkdir()
    lines = ["x1,x2,x3,class"]
    for row in range(100):  # boosted trees have leaves of 20 rows
        label = row % 2
        number = draw.normal(4 * label)
        lines.append(f"{number:.3f},{draw.normal():.3f},{'rgb'[draw.integers(3)]},class {label}")
    (tmp_path / "keel" / "iris.csv").write_text("\n".join(lines))
    return tmp_path


def test_the_peers_of_the_search_see_the_same_folds(keel_folder):
    settings = keel.Settings.make({"data_dir": str(keel_folder), "tables": ["iris"], "folds": 2, "inner_folds": 2})
    ((name, problem),) = keel.problems(settings)
    assert name == "iris"
    assert problem["categories"].tolist() == [3]
    with threadpool_limits(1):  # threads that wait for each other make boosted trees slow on a busy machine
        report = harness.solved(keel.sklearn(problem))
    assert {len(each) for each in report["scores"].values()} == {2}
    assert min(map(np.mean, report["scores"].values())) > 0.8


@pytest.mark.slow
def test_mllab_chooses_by_inner_folds(keel_folder, capfd):
    models = ["constant", "softmax", "svm"]
    measured = keel.run(data_dir=str(keel_folder), tables=["iris"], models=models, folds=2, inner_folds=2)
    report = measured["iris"]["mllab"][0].report
    chosen = [report["scores"][name][k] for k, name in enumerate(report["chosen"])]
    assert report["scores"][keel_tables.OURS] == chosen
    assert set(report["chosen"]) <= {"softmax", "svm"}
    assert min(chosen) > 0.9
    assert not report["left_out"]
    assert "mean rank" in capfd.readouterr().out


# ── Published splits ────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_variance_of_the_density_is_recovered():
    draw = np.random.default_rng(0)
    spread = draw.gamma(1.0, size=40_000)
    errors = draw.normal(size=40_000) * np.sqrt(0.3 + 2.0 * spread)
    np.testing.assert_allclose(published_scores.density_variance(errors, spread), [0.3, 2.0], rtol=0.05)


def test_scores_are_judged_within_one_published_standard_error():
    published = published_splits.CASES["yacht"].published

    def result(rmse, likelihood):
        errors = np.ones((1, 2))
        return Result(published, np.full(2, rmse), np.full(2, likelihood), errors, errors, 1.0)

    edge = result(published.rmse + published.rmse_error, published.log_likelihood - published.log_likelihood_error)
    worse = result(edge.rmse[0] + 1e-6, edge.log_likelihood[0] - 1e-6)
    for measured, met in ((edge, "yes"), (worse, "no")):
        (row,) = published_scores.scores({"yacht": measured}).rows
        assert [row[4], row[7]] == [met, met]


def test_protocols_that_see_test_rows_look_better():
    inner = np.array([[1.0, 4.0], [4.0, 1.0], [2.0, 2.0]])  # mean squared errors of three settings on two splits
    test = np.array([[4.0, 1.0], [1.0, 9.0], [1.0, 1.0]])
    published = published_splits.CASES["yacht"].published
    table = published_scores.protocols({"yacht": Result(published, np.ones(2), np.ones(2), inner, test, 1.0)})
    # Inside: settings 0 and 1, RMSE 2 and 3. Of equal mean inner errors the third is least. By test rows: the third.
    assert [row[2] for row in table.rows] == ["2.500 ± 0.500", "1.000 ± 0.000", "1.000 ± 0.000", "1.000 ± 0.000"]
    likelihoods = -0.5 * (np.log(2 * np.pi * inner) + test / inner)
    assert table.rows[3][4].startswith(f"{likelihoods.max(axis=0).mean():.3f}".replace("-", "−"))
    assert table.rows[0][3] is None


@pytest.mark.slow
def test_published_splits_are_measured_end_to_end(tmp_path, capfd):
    folder, draw = tmp_path / published_splits.FOLDER, np.random.default_rng(0)
    folder.mkdir()
    inputs = draw.normal(size=(60, 3))
    rows = np.column_stack([inputs, 20 + 10 * inputs[:, 0] + draw.normal(size=60)])
    lines = ["a,b,c,resistance", *(",".join(f"{value:.4f}" for value in row) for row in rows)]
    (folder / "yacht.csv").write_text("\n".join(lines))
    (folder / "yacht.test_rows.txt").write_text("0 1 2 3 4 5 6 7\n8 9 10 11 12 13 14 15\n16 17 18\n")
    result = published_splits.run(data_dir=str(tmp_path), sets=["yacht"], splits=2, members=2, steps=60)["yacht"]
    assert result.test.shape == result.inner.shape == (16, 2)
    # In the target's unit: noise 1, and the targets vary by 10.
    assert (result.rmse < 6).all()
    assert (result.log_likelihood > -6).all()
    assert (result.log_likelihood < -0.9).all()
    assert "for each split, by its test rows" in capfd.readouterr().out
