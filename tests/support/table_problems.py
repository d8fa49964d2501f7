"""A small table in a CSV file, and models fitted to it."""

import jax
import numpy as np

from mllab.data.readers import table
from mllab.learners import storage
from mllab.table_models import fold_models
from mllab.types import Rows
from mllab.validation import folds

KEY = jax.random.key(0)
HEAD = "size,city,price,kind"
CITIES = ("Oslo", "Rome", "Lima")


def lines(count=60, seed=0):
    """Rows of size, city, price and kind: the price grows with the size, the kind says whether that is above 0."""
    draw = np.random.default_rng(seed)
    size, city = draw.normal(size=count), draw.integers(0, 3, count)
    price = 100 + 20 * size + 5 * city + draw.normal(size=count)
    kinds = np.where(size > 0, "large", "small")
    return [f"{s:.4f},{CITIES[c]},{p:.3f},{k}" for s, c, p, k in zip(size, city, price, kinds, strict=True)]


def loaded(path, target, **options):
    """Write the table to a CSV file, and read it as a data set with this target."""
    path.write_text("\n".join([HEAD, *lines()]) + "\n")
    drop = ("kind",) if target == "price" else ("price",)
    return table.load(path, target, split_seed=0, options=table.Options(drop=drop, **options))


def fitted(data, learner, hyper, **arguments):
    """The plan of a learner of the table's columns, and its params, fitted to all rows but the test rows."""
    plan = storage.plan("preprocessed", of=storage.plan(learner, **arguments), layout=data.schema.layout)
    ids = np.union1d(data.split.train, data.split.validation)
    examples = {"inputs": data.columns, "targets": data.targets}
    return plan, storage.rebuild(plan).fit(hyper, KEY, examples, Rows(ids, np.ones(len(ids), np.float32)))


def folds_of(data, plan, hyper, count=3):
    """The models of a cross-validation on all rows but the test rows."""
    ids = np.union1d(data.split.train, data.split.validation)
    examples = {"inputs": data.columns, "targets": data.targets}
    return fold_models(storage.rebuild(plan), hyper, KEY, examples, folds(ids, count, seed=0))
