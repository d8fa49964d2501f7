"""Wording that answers and captions of all experiments share: ties, baselines, and numbers of seeds.

One convention for intervals: over several seeds a mean is shown as `0.972 ± 0.007`, over one as `0.972`, and the number
of seeds is named beside it: `(3 seeds)`, `(1 seed)`. One seed has no interval, and is no comparison.
"""

from collections.abc import Iterable, Sequence

from mllab.metrics import Interval, Ranking
from mllab.report.table import points
from mllab.tasks import Baseline

LAST_ROW = "last row: the baseline, a constant prediction"


def joined(names: Iterable[object]) -> str:
    """Return names as a list in a sentence: 'a', 'a and b', 'a, b and c'."""
    *most, last = map(str, names)
    return f"{', '.join(most)} and {last}" if most else last


def ranges(values: Iterable[int]) -> str:
    """Return whole numbers in a sentence, three or more consecutive ones as a range: '1 to 4, 7 and 9'."""
    groups: list[list[int]] = []
    for value in sorted(values):
        if groups and value == groups[-1][-1] + 1:
            groups[-1].append(value)
        else:
            groups.append([value])
    texts = [[f"{each[0]} to {each[-1]}"] if len(each) > 2 else list(map(str, each)) for each in groups]
    return joined(text for each in texts for text in each)


def counted(count: int, noun: str) -> str:
    """Return a number of things: '1 seed', '3 seeds'."""
    return f"{count:,} {noun}" + "s" * (count != 1)


def over(count: int, noun: str, rest: str = "", comparison: bool = False) -> str:
    """Return what the intervals of a table are over: '± 95% interval over 3 seeds, one split'; '1 seed: no interval'.

    Args:
        count: number of seeds, draws, ...
        noun: its name.
        rest: what follows where there are several.
        comparison: whether the table compares something, which one seed does not allow.
    """
    if count > 1:
        return f"± 95% interval over {counted(count, noun)}{rest}"
    return f"{counted(count, noun)}: no interval" + ", no comparison" * comparison


def tie(names: Sequence[object], leader: object, score: str, over: str) -> str:
    """Return in a sentence that several are tied: none of their scores is clearly below the highest, the leader's."""
    return f"{joined(names)} are tied: on the same {over}, none is clearly below the highest {score}, that of {leader}."


def marks(standing: Ranking | None, score: str, noun: str = "seed") -> str:
    """Return what the marked rows of a table are; empty if there are none."""
    if standing is None or not standing.marked:
        return ""
    if not standing.is_compared:
        return f"* highest {score}"
    others = " and those tied with it" if len(standing.tied) > 1 else f", clearly above all others on the same {noun}s"
    return f"* highest {score}{others}"


def difference(by: Interval, noun: str, unit: str = "") -> str:
    """Return a difference in points, and whether it is clear: '+3.1 ± 0.5', '+0.2 ± 0.4 (not clear)', '+3 (1 draw)'."""
    note = f" ({counted(by.seeds, noun)})" if by.seeds < 2 else " (not clear)" if by.sign == 0 else ""
    return points(by) + unit + note


def constant_row(baseline: Baseline) -> str:
    """Return the name of the baseline's row in a table: 'most frequent class'."""
    return baseline.name.removeprefix("the ")


def below_baseline(is_better: bool | None, by: float, baseline: str) -> str:
    """Return the words that begin an answer whose result is not clearly better than its baseline; empty otherwise.

    Args:
        is_better: whether it is.
        by: the mean score less the baseline's.
        baseline: what that is.
    """
    if is_better is not False:
        return ""
    return f"{'Not clearly' if by > 0 else 'No'} better than {baseline}: "
