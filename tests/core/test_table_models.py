"""Models of tables as files: what is read is what was written, and files that do not fit are refused."""

import contextlib
import json

import numpy as np
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from mllab import conformal, weights
from mllab.data.readers import table
from mllab.errors import UserError
from mllab.learners import storage
from mllab.table_models import encode_table_model, load_table_model
from mllab.validation import folds
from support.mistakes import refused_in_one_line
from support.table_problems import fitted, folds_of, lines, loaded


@pytest.fixture(scope="module")
def regression(tmp_path_factory):
    """A data set of prices, and the plan, params and models of folds of ridge regression on it."""
    data = loaded(tmp_path_factory.mktemp("houses") / "houses.csv", "price", target_transform="log")
    plan, params = fitted(data, "ridge", {"l2": 1.0})
    return data, plan, params, folds_of(data, plan, {"l2": 1.0})


@pytest.fixture(scope="module")
def classifier(tmp_path_factory):
    """A data set of kinds, and the plan and params of nearest neighbours on it."""
    data = loaded(tmp_path_factory.mktemp("kinds") / "kinds.csv", "kind")
    return data, *fitted(data, "nearest_neighbors", {"k": 3}, classes=2, most=4)


def saved(path, data, plan, params, **options):
    path.write_bytes(encode_table_model(plan, params, data.schema, **options))
    return load_table_model(path)


def test_a_regression_is_read_as_it_was_written_with_its_intervals(tmp_path, regression):
    data, plan, params, made = regression
    about = {"dataset": "houses.csv", "criterion": "rmse", "scores": {"rmse": 1.5}}
    model = saved(tmp_path / "a", data, plan, params, folds=made, about=about)
    assert (model.schema, model.about, model.classes) == (data.schema, about, ())
    outputs = np.asarray(storage.rebuild(plan).predict(params, data.columns))
    np.testing.assert_allclose(model.predict(data.columns), outputs, rtol=1e-6)
    np.testing.assert_allclose(model.values(data.columns), data.inverse(outputs), rtol=1e-6)
    by_fold = np.stack([storage.rebuild(plan).predict(each, data.columns) for each in made.params])
    bounds = conformal.cv_plus(by_fold, made.residuals, made.fold, 0.8)
    for bound, expected in zip(model.interval(data.columns, 0.8), bounds, strict=True):
        np.testing.assert_allclose(bound, data.inverse(expected), rtol=1e-5)
    test = data.split.test
    low, high = model.interval(data.columns, 0.9)
    truths = data.inverse(data.targets)
    assert np.mean((low <= truths) & (truths <= high), where=np.isin(np.arange(len(truths)), test)) > 0.7


def test_a_classifier_is_read_as_it_was_written_and_has_no_intervals(tmp_path, classifier):
    data, plan, params = classifier
    model = saved(tmp_path / "a", data, plan, params)
    assert model.classes == data.classes == ("large", "small")
    np.testing.assert_array_equal(model.predict(data.columns), storage.rebuild(plan).predict(params, data.columns))
    assert (
        model.predict(data.columns._replace(numbers=data.columns.numbers[:0], codes=data.columns.codes[:0])).size == 0
    )
    header = weights.read(tmp_path / "a")[1]
    assert (header["kind"], header["task"], header["classes"]) == ("table", "classification", ["large", "small"])
    with refused_in_one_line("no prediction intervals"):
        model.interval(data.columns)


def test_new_rows_are_predicted_as_the_same_rows_of_the_file(tmp_path, regression):
    data, plan, params, _ = regression
    model = saved(tmp_path / "a", data, plan, params)
    new = tmp_path / "new.csv"
    new.write_text("city,other,size\n" + "".join(f"{c},x,{s}\n" for s, c, *_ in (line.split(",") for line in lines())))
    rows = model.schema.read(table.read(new))
    np.testing.assert_allclose(model.values(rows.columns), model.values(data.columns), rtol=1e-6)


def test_what_does_not_fit_is_not_written(regression, classifier):
    data, plan, params, made = regression
    other, its_plan, its_params = classifier
    for call, message in (
        (lambda: encode_table_model(plan, params, other.schema), "returns .* expected numbers"),
        (lambda: encode_table_model(its_plan, its_params, other.schema, folds=made), "this is a classifier"),
        (lambda: encode_table_model(plan["of"], params.params, data.schema), "layout"),
        (lambda: encode_table_model(plan, params, data.schema, about={"plan": 1}), "'plan' is set by the model"),
        (
            lambda: encode_table_model(plan, params, data.schema, folds=made._replace(fold=made.fold + 1)),
            "fold: expected whole numbers",
        ),
    ):
        with refused_in_one_line(message):
            call()


def test_each_row_is_left_out_by_one_of_the_models_of_folds(regression):
    data, plan, _, made = regression
    ids = np.union1d(data.split.train, data.split.validation)
    held_out = folds(ids, 3, seed=0).held_out
    assert (len(made.params), len(made.residuals)) == (3, len(ids))
    for k in range(3):
        rows = held_out.ids[k][held_out.weight[k] > 0]
        outputs = np.asarray(storage.rebuild(plan).predict(made.params[k], data.columns))
        np.testing.assert_allclose(made.residuals[made.fold == k], np.abs(outputs - data.targets)[rows], atol=1e-5)


# ── Hostile files ───────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def parts(tmp_path_factory, regression):
    """The header and the arrays of a file, and a path to write to."""
    data, plan, params, made = regression
    path = tmp_path_factory.mktemp("hostile") / "params.safetensors"
    path.write_bytes(encode_table_model(plan, params, data.schema, folds=made))
    arrays, about = weights.read(path)
    return path, about, arrays


def read_edited(path, about, arrays):
    path.write_bytes(safetensors.numpy.save(arrays, {"mllab": json.dumps(about)}))
    return load_table_model(path)


def place_in(value, keys):
    for key in keys:
        value = value[key]
    return value


EDITS = {  # where in the header, the new value, the message
    "another kind": (("kind",), "image", "holds no model of a table"),
    "no schema": (("schema",), None, "not a schema of a table"),
    "a schema of text": (("schema",), "[]", "not a schema of a table"),
    "no plan": (("plan",), None, "plan of a learner"),
    "another learner": (("plan", "of", "learner"), "os.system", "unknown learner"),
    "another layout": (("plan", "layout", "numbers"), 2, "layout"),
    "no structure": (("structure",), None, "structure of the params"),
    "a class": (("structure", "dict", "params", "class"), "Popen", "unknown class of params"),
    "an array": (("structure", "dict", "residuals"), {"value": 3}, "residuals no arrays|do not use"),
}


@pytest.mark.parametrize(("keys", "value", "message"), EDITS.values(), ids=EDITS)
def test_an_edited_header_is_refused_in_one_line_that_names_the_file(parts, keys, value, message):
    path, about, arrays = parts
    about = json.loads(json.dumps(about))
    place_in(about, keys[:-1])[keys[-1]] = value
    with refused_in_one_line(message) as caught:
        read_edited(path, about, arrays)
    assert str(path) in str(caught.value)


def test_arrays_that_do_not_fit_are_refused(parts, regression):
    (path, about, arrays), columns = parts, regression[0].columns
    for name, array in arrays.items():
        for changed in (array[None], array.astype(bool), array.astype("f8") + np.nan):
            with contextlib.suppress(UserError):
                read_edited(path, about, arrays | {name: np.ascontiguousarray(changed)})
    with refused_in_one_line("params lack the array"):
        read_edited(path, about, {name: array for name, array in arrays.items() if not name.endswith(".w")})
    with refused_in_one_line("do not use the array 'more'"):
        read_edited(path, about, arrays | {"more": np.zeros(1)})
    huge = {name: np.full_like(array, 3e38) if name.endswith(".w") else array for name, array in arrays.items()}
    with refused_in_one_line("not finite"):
        read_edited(path, about, huge).predict(columns)


LEAVES = st.sampled_from([None, True, -1, 2**40, 0.5, "x", [], {}, {"value": 1}, {"array": "none"}, float("nan")])


def every_place(value, keys=()):
    yield keys
    for key, inner in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        yield from every_place(inner, (*keys, key))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_other_header_raises_only_user_errors(parts, data):
    path, about, arrays = parts
    about = json.loads(json.dumps(about))
    about["schema"] = json.loads(about["schema"])
    *keys, last = data.draw(st.sampled_from([keys for keys in every_place(about) if keys]))
    place_in(about, keys)[last] = data.draw(LEAVES)
    if "schema" in about:
        about["schema"] = json.dumps(about["schema"])
    with contextlib.suppress(UserError):
        read_edited(path, about, arrays)
