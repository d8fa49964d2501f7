"""The measurement of agents of reinforcement learning, and its answer, table and drawings."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from experiments import answers, frame
from experiments.agent_rollout import Rollout
from experiments.agent_training import Plan, Trained, of_parts
from experiments.q_learning_results import Lesson
from experiments.q_learning_results import sections as lesson_sections
from mllab import metrics
from mllab.metrics import Interval, interval
from mllab.report import draw
from mllab.report.report import Bullets, Drawing, Section
from mllab.report.table import BLANK, Table, duration, fixed, share, short, significant
from mllab.report.table import interval as shown

BOOTSTRAP_SEED = 0
THRESHOLDS = 101  # of a performance profile
RANDOM, OPTIMUM = "random actions", "value iteration"


@dataclass(frozen=True)
class Returns:
    """The mean return of each run of an agent on the fresh episodes."""

    name: str
    by_seed: np.ndarray  # [G]; NaN of a run that went non-finite
    interquartile_mean: Interval  # bootstrap interval; NaN if a run went non-finite
    mean: Interval
    validation: np.ndarray = frame.unsaved()  # [G] on the validation episodes, at the end of training

    @classmethod
    def of(cls, name: str, by_seed: np.ndarray, validation: np.ndarray | None = None) -> "Returns":
        """Return the statistics of runs, from their returns on the fresh and on the validation episodes."""
        unknown = Interval(math.nan, math.nan, math.nan, len(by_seed))
        is_whole = bool(np.isfinite(by_seed).all())
        middle = metrics.stratified_bootstrap(by_seed, seed=BOOTSTRAP_SEED) if is_whole else unknown
        return cls(name, by_seed, middle, interval(by_seed), by_seed if validation is None else validation)

    @property
    def is_whole(self) -> bool:
        """Whether all runs stayed finite."""
        return bool(np.isfinite(self.by_seed).all())

    def lead(self, other: "Returns") -> Interval:
        """Return this interquartile mean less another's."""
        return metrics.bootstrap_difference(self.by_seed, other.by_seed, seed=BOOTSTRAP_SEED)

    def is_above(self, other: "Returns") -> bool:
        """Return whether the interquartile mean is clearly above another's; of one seed, whether it is above."""
        lead = self.lead(other)
        return lead.mean > 0 if lead.seeds < 2 else lead.sign > 0


@dataclass(frozen=True)
class AgentScores:
    """One agent: the rate that the tuning seeds chose, and its returns."""

    agent: str
    returns: Returns
    learning_rate: float | None  # None if every rate has a run that went non-finite
    interactions: int  # environment steps of each run
    nonfinite: Mapping[str, int]  # runs that went non-finite, by use: tuning, reported
    validation_by_rate: np.ndarray | None  # [R, K] of the tuning seeds; None where nothing was tuned
    seconds: float = frame.unsaved()  # wall time of the reported runs
    step: np.ndarray = frame.unsaved()  # [E] environment steps
    curve: np.ndarray = frame.unsaved()  # [E, 3] interquartile mean on the validation episodes, low and high

    @classmethod
    def of(cls, trained: Trained, rates: Sequence[float]) -> "AgentScores":
        """Return the scores of a trained agent."""
        contender, tuning, final = trained.contender, trained.tuning, trained.final
        lanes = {"tuning": tuning, "reported": final}
        step, curve, seconds = np.zeros(0), np.zeros((0, 3)), 0.0
        if final is not None:
            step, seconds = trained.steps, final.seconds
            history = final.grid.by_axis(final.result.history.held_out["return"], -1)[:, 0]
            curve = np.stack([Returns.of(contender.name, row).interquartile_mean[:3] for row in history])
        return cls(
            agent=contender.name, returns=Returns.of(contender.name, trained.returns),
            learning_rate=None if trained.best is None else rates[trained.best],
            interactions=contender.agent.interactions * contender.agent.updates,
            nonfinite={use: 0 if each is None else int((~each.is_finite).sum()) for use, each in lanes.items()},
            validation_by_rate=None if tuning is None else tuning.validation, seconds=seconds, step=step, curve=curve,
        )  # fmt: skip


@dataclass(frozen=True)
class Measurement:
    """Scores of all agents in one environment."""

    environment: str
    task: str  # what is to be done there
    seeds: int
    tuning_seeds: int
    validation_episodes: int
    episodes: int
    rates: tuple[float, ...]
    agents: list[AgentScores]  # the highest interquartile mean first
    random: Returns
    optimum: Returns | None  # of the policy that value iteration finds
    left_out: list[str]
    rollout: Rollout | None
    lesson: Lesson | None  # of tabular Q-learning

    @classmethod
    def of(
        cls, plan: Plan, task: str, trained: Sequence[Trained], *, random: np.ndarray, optimum: np.ndarray | None,
        left_out: list[str], rollout: Rollout | None, lesson: Lesson | None,
    ) -> "Measurement":  # fmt: skip
        """Return the measurement of trained agents; `random` and `optimum` are returns in all episodes, [G, N]."""
        scores = [AgentScores.of(each, plan.rates) for each in trained]

        def reference(name: str, returns: np.ndarray) -> Returns:
            validation, fresh = of_parts(plan, returns)
            return Returns.of(name, fresh, validation)

        return cls(
            environment=plan.environment_name, task=task, seeds=plan.seeds, tuning_seeds=plan.tuning_seeds,
            validation_episodes=plan.validation_episodes, episodes=plan.episodes, rates=plan.rates,
            agents=ranked(scores), random=reference(RANDOM, random),
            optimum=None if optimum is None else reference(OPTIMUM, optimum), left_out=left_out, rollout=rollout,
            lesson=lesson,
        )  # fmt: skip

    @property
    def whole(self) -> list[AgentScores]:
        """The agents of which all runs stayed finite, the highest interquartile mean first."""
        return [each for each in self.agents if each.returns.is_whole]

    @property
    def tied(self) -> list[AgentScores]:
        """The winner, and all agents whose interquartile mean is not clearly below its own."""
        whole = self.whole
        return [each for each in whole if each is whole[0] or not whole[0].returns.is_above(each.returns)]

    @property
    def failed(self) -> list[AgentScores]:
        """The agents that are not clearly better than random actions."""
        return [each for each in self.whole if not each.returns.is_above(self.random)]

    @property
    def rows(self) -> list[Returns]:
        """The returns of all rows of the table, from the top."""
        references = [self.random, *([self.optimum] if self.optimum else [])]
        return [each.returns for each in self.agents] + references


def ranked(scores: Sequence[AgentScores]) -> list[AgentScores]:
    """Return scores in the order of their interquartile means, those with non-finite runs last."""
    whole = [each for each in scores if each.returns.is_whole]
    order = sorted(whole, key=lambda each: -each.returns.interquartile_mean.mean)
    return order + [each for each in scores if not each.returns.is_whole]


def middle(values: Interval) -> str:
    """Return the value of an interval: '499', '0.673'."""
    return fixed(values.mean, decimals(values))


def bounds(values: Interval) -> str:
    """Return the bounds of an interval: '461–500', '−121 to −97'."""
    if not math.isfinite(values.high - values.low):
        return BLANK
    low, high = fixed(values.low, decimals(values)), fixed(values.high, decimals(values))
    return f"{low} to {high}" if values.low < 0 else f"{low}–{high}"


def decimals(values: Interval) -> int:
    """Return the decimals at which the largest number of an interval has three significant digits."""
    sizes = [abs(each) for each in values[:3] if math.isfinite(each) and each]
    return min(max(0, 2 - math.floor(math.log10(max(sizes)))), 6) if sizes else 0


def answer(measured: Measurement) -> str:
    """Return the winner with those tied with it, its return beside that of random actions, and who failed."""
    if not measured.whole:
        return "Every agent has a run that went non-finite, so nothing is compared or published: try smaller rates."
    best, tied = measured.whole[0], measured.tied
    value, by = best.returns.interquartile_mean, best.returns.lead(measured.random)
    text = answers.below_baseline(best.returns.is_above(measured.random), by.mean, RANDOM)
    where = f"95% interval {bounds(value)}; " if measured.seeds > 1 else ""
    count = answers.counted(measured.episodes, "fresh episode")
    over = f"({where}{answers.counted(measured.seeds, 'seed')}"
    over = f"{over}, {count} each)" if measured.seeds > 1 else f"on {count} {over})"
    text += (
        f"{best.agent} returns {middle(value)} in {measured.environment} {over} after {best.interactions:,} steps in "
        f"the environment; {RANDOM}: {middle(measured.random.interquartile_mean)}."
    )
    if len(tied) > 1 and measured.seeds > 1:
        names = answers.joined(each.agent for each in tied)
        text += f" {names} are tied: none is clearly below {best.agent}."
    if others := [each.agent for each in measured.failed if each is not best]:
        text += f" {answers.joined(others)} {'are' if len(others) > 1 else 'is'} no better than {RANDOM}."
    return text


def result_table(measured: Measurement) -> Table:
    """Return a row for each agent, then what they are compared with."""
    rows: list[list[object]] = []
    by_name = {each.agent: each for each in measured.agents}
    for place, each in enumerate(measured.rows):
        agent = by_name.get(each.name)
        above = improvement(each, measured.rows[place + 1]) if agent is not None else BLANK
        value, scores = each.interquartile_mean, [significant(None)] * 3
        if agent is not None:
            scores = [significant(agent.learning_rate), f"{agent.interactions:,}", duration(agent.seconds)]
        rate, steps, seconds = scores
        rows.append([each.name, rate, middle(value), bounds(value), shown(each.mean), above, steps, seconds])
    is_compared = measured.seeds > 1 and len(measured.whole) > 1
    marked = [measured.agents.index(each) for each in measured.tied] if is_compared else []
    caption = (
        f"returns on {answers.counted(measured.episodes, 'fresh episode')} of the policy at the end of training, "
        f"without exploration; IQM: interquartile mean of {answers.counted(measured.seeds, 'seed')}; intervals of it "
        "and of P (that a run is above one of the next row) by bootstrap, of the mean by Student's t; time: training "
        f"all reported runs side by side; {RANDOM}: the baseline"
    )
    if marked:
        caption = f"* highest IQM{' and those tied with it' * (len(marked) > 1)}; {caption}"
    columns = ["agent", "rate", "IQM", "95% interval", "mean", "P(above next)", "steps", "time"]
    return Table(columns, rows, marked, caption)


def improvement(first: Returns, second: Returns) -> str:
    """Return the probability that a run of the first is above one of the second: '93% (81–100%)'."""
    if not (first.is_whole and second.is_whole) or len(first.by_seed) < 2:
        return BLANK
    values = metrics.probability_of_improvement(first.by_seed, second.by_seed, seed=BOOTSTRAP_SEED)
    return f"{share(values.mean, 0)} ({fixed(100 * values.low, 0)}–{fixed(100 * values.high, 0)}%)"


def remarks(measured: Measurement) -> list[str]:
    """Return agents that were left out, failed or went non-finite, and rates at the edge of their grid."""
    lines = [*measured.left_out]
    for each in measured.failed:
        values = f"{middle(each.returns.interquartile_mean)} against {middle(measured.random.interquartile_mean)}"
        lines.append(f"{each.agent} failed: no better than {RANDOM}, an IQM of {values}")
    for each in measured.agents:
        for use, count in each.nonfinite.items():
            if count:
                lines.append(f"{each.agent}: {answers.counted(count, f'{use} run')} went non-finite")
        if each.learning_rate is not None and len(measured.rates) > 1:
            edge = {measured.rates[0]: "smallest", measured.rates[-1]: "greatest"}.get(each.learning_rate)
            if edge:
                lines.append(f"{each.agent}: the chosen rate {short(each.learning_rate)} is the {edge} of the grid")
    return lines


def sections(measured: Measurement) -> list[Section]:
    """Return learning curves, the performance profile, the rollout, the lesson, and remarks."""
    drawn = [each for each in measured.agents if len(each.step)]
    rollout = measured.rollout
    picture = None
    if rollout is not None and rollout.picture is not None:
        alt = f"An episode of {rollout.agent} in {measured.environment}, which returns {short(rollout.value)}"
        picture = Drawing("rollout", rollout.picture, alt)
    return [
        Section("Remarks", [Bullets(remarks(measured))]),
        Section("The winner plays", [picture]),
        Section("Learning", [learning_curves(measured, drawn), rates(measured)]),
        Section("All runs", [profile(measured)]),
        *(lesson_sections(measured.lesson) if measured.lesson else ()),
    ]


def learning_curves(measured: Measurement, drawn: Sequence[AgentScores]) -> Drawing | None:
    """Draw the interquartile mean on the validation episodes against the steps in the environment."""
    if not drawn:
        return None
    series = [draw.Series.of_intervals(each.agent, each.step, each.curve) for each in drawn]
    span = np.array([0.0, max(each.step[-1] for each in drawn)])
    for reference in measured.rows[len(measured.agents) :]:
        level = float(metrics.interquartile_mean(reference.validation))
        series.append(draw.Series(reference.name, span, np.full(2, level)))
    figure = draw.curves(
        series, title=f"Return in {measured.environment} during training", x_label="steps in the environment",
        y_label=f"return on {answers.counted(measured.validation_episodes, 'validation episode')}", markers=False,
        integer_x=True, whole=True,
        bands=f"Lines: interquartile means of {answers.counted(measured.seeds, 'seed')}"
        + ("; bands: 95% bootstrap intervals." if measured.seeds > 1 else "."),
        note="Policies without exploration; the table has fresh episodes at the end.",
    )  # fmt: skip
    return Drawing("learning", figure, "Return against the steps in the environment, a curve for each agent")


def rates(measured: Measurement) -> Drawing | None:
    """Draw the return of the tuning seeds against the learning rate."""
    tuned = [each for each in measured.agents if each.validation_by_rate is not None]
    if not tuned:
        return None
    x = np.array(measured.rates)
    series = []
    for each in tuned:
        values = np.asarray(each.validation_by_rate)
        nonfinite = np.isnan(values).sum(axis=1).astype(float)
        bands, best = metrics.bands(values), each.learning_rate
        series.append(draw.Series.of_intervals(each.agent, x, bands, best=best, nonfinite=nonfinite))
    figure = draw.against_rate(
        series, title="The learning rate that each agent trains best with", y_label="return on validation episodes",
        over=answers.counted(measured.tuning_seeds, "tuning seed"),
    )  # fmt: skip
    return Drawing("rates", figure, "Return at the end of training against the learning rate, a curve for each agent")


def profile(measured: Measurement) -> Drawing | None:
    """Draw the share of runs above each return."""
    whole = [each for each in measured.rows if each.is_whole]
    values = np.concatenate([each.by_seed for each in whole])
    if measured.seeds < 2 or values.min() == values.max():
        return None
    margin = 0.02 * (values.max() - values.min())
    thresholds = np.linspace(values.min() - margin, values.max() + margin, THRESHOLDS)
    series = []
    for each in whole:
        shares = metrics.performance_profile(each.by_seed, thresholds, seed=BOOTSTRAP_SEED)
        series.append(draw.Series.of_intervals(each.name, thresholds, shares, scale=100, limits=(0, 100)))
    figure = draw.curves(
        series, title="Share of runs that return more", x_label="return on the fresh episodes",
        y_label="runs above it (%)", markers=False,
        bands=f"Each line falls at the returns of {measured.seeds} runs; bands: 95% bootstrap intervals.",
    )  # fmt: skip
    return Drawing("profile", figure, "Share of runs with a higher return, against the return, a line for each agent")


def facts(measured: Measurement, precision: str, flags: Sequence[str]) -> dict[str, str | list[str]]:
    """Return how the agents were trained and judged."""
    tuned = (
        f"chosen by the mean return on {answers.counted(measured.validation_episodes, 'episode')} after training, over "
        f"{answers.counted(measured.tuning_seeds, 'seed')} other than those reported"
        if len(measured.rates) > 1
        else "set, not tuned"
    )
    return {
        "environment": f"{measured.environment}: {measured.task}",
        "learning rate": tuned,
        "policy": "the one at the end of training, never the best of several scores",
        "episodes": "the same starts and the same chance for every agent and seed; those reported play no part before",
        "ranking": "by IQM (Agarwal et al. 2021, arXiv:2108.13264); tied: the 95% bootstrap interval of the "
        "difference of the IQMs includes 0",
        "precision": precision,
        "flags": [line for line in flags if line.isprintable()],
    }
