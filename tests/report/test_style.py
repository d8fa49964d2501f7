import subprocess
import sys

import pytest

from mllab.models.table import MODELS
from mllab.optimizers import OPTIMIZERS
from mllab.report import style

ADAMS = ["adam", "adamw", "nadam", "schedule_free_adam", "muon", "lion", "sgd"]


@pytest.mark.parametrize("table", [style.OPTIMIZERS, style.MODELS])
def test_every_name_of_a_table_has_a_distinct_look(table):
    looks = list(table.values())
    assert len({one.marker for one in looks}) == len(looks)
    assert len({(one.colour, one.dash) for one in looks}) == len(looks)
    assert {one.colour for one in looks} <= {
        "#000000", "#E69F00", "#56B4E9", "#009E73", "#0072B2", "#D55E00", "#CC79A7",
    }  # fmt: skip
    assert len({one.colour for one in looks[:4]}) == 4


def test_optimizers_that_are_compared_most_differ_in_colour():
    assert len({style.style(name).colour for name in ADAMS}) == len(ADAMS)


def test_the_styles_of_the_first_optimizers_and_the_split_are_fixed():
    assert style.style("adam") == ("#D55E00", (0, None), "D")
    assert style.style("sgd") == ("#000000", (0, None), "o")
    assert style.style("knn").colour == "#000000"
    assert style.style("training") == ("#0072B2", (0, (5, 1.6)), "s")
    assert style.style("validation") == ("#D55E00", (0, None), "o")


def test_an_unknown_name_has_the_same_style_in_every_process_and_none_of_the_tables():
    mine = style.style("my_optimizer")
    command = "from mllab.report.style import style; print(style('my_optimizer'))"
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(mine)
    fixed = {(one.colour, one.dash) for table in (style.OPTIMIZERS, style.MODELS) for one in table.values()}
    assert (mine.colour, mine.dash) not in fixed


def test_every_optimizer_and_every_model_has_a_style():
    assert set(OPTIMIZERS) <= set(style.OPTIMIZERS)
    assert set(MODELS) <= set(style.MODELS)


def test_classes_are_distinct_in_colour_and_marker():
    first = [style.class_style(index) for index in range(49)]
    assert len({(one.colour, one.marker) for one in first}) == 49
    assert len({one.colour for one in first[:7]}) == len({one.marker for one in first[:7]}) == 7
    assert style.class_style(49) == style.class_style(0)
