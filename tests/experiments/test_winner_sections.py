"""Looking into a model of a table: what is computed against scikit-learn, and what each section shows."""

import numpy as np
import pytest
from sklearn import metrics as sk

from experiments import frame
from experiments.winner import HeldOut, InputColumn, Target, look
from experiments.winner_sections import sections
from mllab.criteria import CRITERIA
from mllab.models.preprocessing import Columns
from mllab.report.report import Drawing
from mllab.report.table import Table
from support.figures import NASTY, drawn

DRAW = np.random.default_rng(0)
ROWS = 200
NUMBERS = DRAW.normal(size=(ROWS, 4)).astype(np.float32)
NUMBERS[:9, 0] = np.nan
CODES = DRAW.integers(-1, 3, (ROWS, 1)).astype(np.int32)
COLUMNS = Columns(NUMBERS, CODES)
INPUTS = (
    InputColumn("idle", numbers=(1,)),
    InputColumn("weight", numbers=(0,), offset=70.0, scale=8.0),
    InputColumn("sold", numbers=(2, 3), is_date=True, offset=18000.0, scale=100.0),
    InputColumn(NASTY[0], codes=(0,), categories=(NASTY[3], NASTY[5], "c")),
)
FILE_ROWS = np.arange(ROWS) + 1002


def signal(columns):
    return 2 * np.nan_to_num(columns.numbers[:, 0]) + 0.3 * columns.numbers[:, 2] + 0.5 * columns.codes[:, 0]


def classifier(classes):
    """A model of log-probabilities that grow with the signal, and labels drawn from it."""

    def predict(columns):
        logits = signal(columns)[:, None] * np.linspace(-0.5, 0.5, classes)
        return (logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))).astype(np.float32)

    shares = np.exp(predict(COLUMNS)).cumsum(axis=1)
    return predict, (DRAW.random((ROWS, 1)) > shares[:, :-1]).sum(axis=1).astype(np.int32)


def regressor(columns):
    return signal(columns).astype(np.float32)


VALUES = (signal(COLUMNS) + DRAW.normal(0, 0.5, ROWS)).astype(np.float32)
DOLLARS = Target("price", unit="dollars", inverse=lambda values: 1000 + 100 * values)


def dollars(values):
    return 1000 + 100 * values


def looked_at(classes=0, names="abcdef", criterion=None, **options):
    if classes:
        predict, targets = classifier(classes)
        target, criterion = Target("label", classes=tuple(names[:classes])), criterion or "accuracy"
    else:
        predict, targets, target, criterion = regressor, VALUES, DOLLARS, criterion or "rmse"
    held_out = HeldOut(COLUMNS, targets, FILE_ROWS)
    made = look("ridge", predict, held_out, INPUTS, target, CRITERIA[criterion], targets, repeats=3, **options)
    return made, np.asarray(predict(COLUMNS)), targets


def test_a_binary_classifier_is_scored_as_scikit_learn_does():
    made, outputs, targets = looked_at(2)
    probabilities = np.exp(outputs)
    scores = made.scored[0].scores
    assert made.scored[0].name == "ridge"
    assert scores["accuracy"].mean == pytest.approx(sk.accuracy_score(targets, outputs.argmax(axis=1)))
    assert scores["log_loss"].mean == pytest.approx(sk.log_loss(targets, probabilities), rel=1e-5)
    assert scores["brier"].mean == pytest.approx(2 * sk.brier_score_loss(targets, probabilities[:, 1]), rel=1e-5)
    assert all(one.low < one.mean < one.high for one in scores.values())
    share = (targets.sum() + 1) / (ROWS + 2)
    baseline = sk.log_loss(targets, np.tile([1 - share, share], (ROWS, 1)))
    assert made.scored[1].scores["log_loss"].mean == pytest.approx(baseline, rel=1e-5)
    assert made.importance[0].column == "weight"
    assert made.importance[0].drop.sign == 1
    idle = next(each for each in made.importance if each.column == "idle")
    assert idle.drop[:3] == (0, 0, 0)
    assert sum(each.observed.seeds for each in made.calibration.bins) == ROWS
    np.testing.assert_array_equal(made.confusion, sk.confusion_matrix(targets, outputs.argmax(axis=1)))


def test_the_worst_rows_are_named_by_their_row_in_the_file_with_values_in_their_unit():
    made, outputs, targets = looked_at(2)
    wrong = np.flatnonzero(outputs.argmax(axis=1) != targets)
    worst = wrong[np.argsort(outputs[wrong, targets[wrong]], kind="stable")][:10]
    assert [each.file_row for each in made.most_wrong] == (worst + 1002).tolist()
    first, row = made.most_wrong[0], worst[0]
    assert (first.truth, first.prediction) == ("ab"[targets[row]], "ab"[1 - targets[row]])
    assert first.probability == pytest.approx(np.exp(outputs[row].max()))
    assert made.importance[0].column == "weight"
    weight = 70 + 8 * NUMBERS[row, 0]
    assert first.values[0] == ("missing" if np.isnan(weight) else f"{weight:.4g}")
    assert INPUTS[1].text(COLUMNS, 0) == "missing"
    assert INPUTS[2].text(Columns(np.zeros((1, 4)), CODES), 0) == "2019-04-14"
    assert INPUTS[3].text(Columns(NUMBERS, np.array([[2], [-1]])), 0) == "c"


def test_a_regression_is_reported_in_the_unit_of_the_target():
    made, outputs, targets = looked_at()
    truths, predictions = dollars(targets), dollars(outputs)
    scores = made.scored[0].scores
    assert scores["rmse"].mean == pytest.approx(sk.root_mean_squared_error(truths, predictions), rel=1e-4)
    assert scores["mae"].mean == pytest.approx(sk.mean_absolute_error(truths, predictions), rel=1e-4)
    assert scores["rmse"].low < scores["rmse"].mean < scores["rmse"].high
    worst = np.argsort(-np.abs(truths - predictions))[:10]
    assert [each.file_row for each in made.most_wrong] == (worst + 1002).tolist()
    assert made.most_wrong[0].truth == pytest.approx(truths[worst[0]], rel=1e-5)
    assert made.importance[0].drop.mean > 50  # dollars
    response = next(each for each in made.responses if each.column == "weight")
    assert min(response.x) > 40  # in its own unit
    np.testing.assert_allclose(response.mean[:, 0], np.sort(response.mean[:, 0]))
    assert "sold" not in [each.column for each in made.responses]  # a date in several parts
    assert len(frame.to_json(made)["importance"]) == 4


def blocks_of(made):
    return {section.heading: section.blocks for section in sections(made)}


def drawings_of(made):
    every = (block for blocks in blocks_of(made).values() for block in blocks)
    return {block.name: block for block in every if isinstance(block, Drawing)}


@pytest.mark.parametrize("classes", [2, 3])
def test_every_part_of_a_classifier_is_shown_with_legible_names(tmp_path, classes):
    made, _, _ = looked_at(classes, NASTY[3:], max_rows=60)
    assert (made.rows, made.explained_rows) == (ROWS, 60)
    drawings = drawings_of(made)
    assert list(drawings) == ["importance", "dependence", "calibration", "confusion"]
    texts = {name: " ".join(drawn(each.figure, tmp_path / f"{name}.svg")[0]) for name, each in drawings.items()}
    assert all(each.alt for each in drawings.values())
    assert "Shuffling weight lowers the accuracy most, by" in texts["importance"]
    assert "<script>aler" in texts["importance"]
    assert "points" in texts["importance"]
    assert ("predicted class" if classes == 3 else "Ünïcødé") in texts["calibration"]
    assert "line break" in texts["dependence"]
    tables = [block for blocks in blocks_of(made).values() for block in blocks if isinstance(block, Table)]
    assert [row[0] for row in tables[0].rows] == ["ridge", "class frequencies"]
    assert len(tables) == 2 + (classes == 3) + 1
    assert len(tables[-1].rows) == 10
    assert all("\n" not in str(cell) for each in tables for row in each.rows for cell in row)


def test_every_part_of_a_regression_is_shown_with_units(tmp_path):
    made, _, _ = looked_at()
    drawings = drawings_of(made)
    assert list(drawings) == ["importance", "dependence", "predicted", "residuals"]
    texts = {name: " ".join(drawn(each.figure, tmp_path / f"{name}.svg")[0]) for name, each in drawings.items()}
    assert "rise of the RMSE (dollars)" in texts["importance"]
    assert "truth less prediction (dollars)" in texts["residuals"]
    assert "price (dollars)" in texts["predicted"]
    (scores, *_), (worst,) = blocks_of(made)["Residuals"], blocks_of(made)["The rows with the largest errors"]
    assert list(scores.columns) == ["predictions by", "RMSE (dollars)", "mean absolute error (dollars)"]
    assert list(worst.columns)[:4] == ["row", "truth", "prediction", "truth less prediction"]


def test_a_perfect_classifier_has_no_wrong_rows_and_no_importance_without_a_spread():
    targets = (NUMBERS[:, 1] > 0).astype(np.int32)

    def predict(columns):
        return np.where(columns.numbers[:, 1:2] > 0, [-9.0, -1e-4], [-1e-4, -9.0]).astype(np.float32)

    held_out = HeldOut(COLUMNS, targets, FILE_ROWS)
    made = look("tree", predict, held_out, INPUTS, Target("y", ("a", "b")), CRITERIA["log_loss"], targets, repeats=2)
    blocks = blocks_of(made)
    assert blocks["The rows with the largest errors"] == ["None: all 200 held-out rows are predicted correctly."]
    assert made.importance[0].column == "idle"
    assert "rise of the log loss (nats)" in str(drawings_of(made)["importance"].figure.axes[0].get_xlabel())
