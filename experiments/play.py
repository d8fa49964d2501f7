r"""Let a published agent play episodes in its environment again.

  python -m experiments.play --params=runs/reinforcement/TIME/params.safetensors
  python -m experiments.play --params=FILE --episodes=5 --first_episode=1000 --animation=rollout.svg

An episode is known by its number: the same number is the same start and the same chance, for every agent. The agent
chooses the action that its policy prefers, without exploration.
"""

from dataclasses import dataclass

import numpy as np

from experiments import agent_rollout, answers, frame
from mllab import control_models, metrics
from mllab.control.environments.table import ENVIRONMENTS
from mllab.data.readers import content
from mllab.errors import UserError, escaped
from mllab.folders import expand
from mllab.report import draw
from mllab.report.report import Report
from mllab.report.table import Table, interval, short

SHOWN = 100  # episodes on the terminal


@dataclass(frozen=True, kw_only=True)
class Settings(frame.settings.Base):
    """The agent, and what it plays."""

    params: str | None = frame.path(None, help="params.safetensors that experiments.reinforcement published.")
    episodes: int = frame.whole(5, help="Episodes to play.", low=1, high=100_000)
    first_episode: int = frame.whole(
        1_000_000, help="Number of the first episode; those of training and its scores begin at 0.", low=0,
        high=2_000_000_000,
    )  # fmt: skip
    animation: str | None = frame.path(
        None, help="SVG to write the episode of the median return to, as a moving picture. Default: none."
    )


@dataclass(frozen=True)
class Play:
    """Episodes of an agent."""

    agent: str
    environment: str
    numbers: np.ndarray  # [N]
    returns: np.ndarray  # [N]
    lengths: np.ndarray  # [N]
    animation: str  # the file that was written; empty for none


def measure(run: frame.Context, settings: Settings) -> Play:
    """Play the episodes.

    Raises:
        UserError: no params, or of something else; a file for the animation that cannot be written.
    """
    if settings.params is None:
        raise UserError("params: name the file that experiments.reinforcement published (--params=FILE)")
    written = "" if settings.animation is None else str(expand(settings.animation))
    if written and (not written.lower().endswith(".svg") or content.kind(expand(written)) not in ("", "file")):
        raise UserError(f"--animation={settings.animation}: name a file that ends in .svg")
    published = control_models.load(settings.params)
    numbers = settings.first_episode + np.arange(settings.episodes)
    agent, environment, params = published.agent, published.environment, published.params
    with run.timed("playing"):
        played = agent_rollout.returns(agent, environment, params, numbers)
        if written:
            scene = ENVIRONMENTS[str(published.about["environment"])].scene
            episode = agent_rollout.median_episode(
                agent, environment, params, numbers, name=published.name, scene=scene, totals=played
            )
            if episode.picture is None:
                raise UserError(f"--animation={settings.animation}: an episode of one step has nothing that moves")
            draw.save(episode.picture, written)
    totals = np.asarray(played.returns), np.asarray(played.lengths)
    return Play(published.name, environment.name, numbers, *totals, written)


def report(run: frame.Context, settings: Settings, measured: Play) -> Report:
    """Report the return of each episode, and their mean."""
    del run, settings
    rows = [
        [f"{number:,}", short(value, 6), f"{length:,}"]
        for number, value, length in list(zip(measured.numbers, measured.returns, measured.lengths, strict=True))[
            :SHOWN
        ]
    ]
    count = len(measured.returns)
    mean = interval(metrics.interval(measured.returns))
    caption = f"{measured.agent} in {measured.environment}, without exploration"
    if count > SHOWN:
        caption += f"; {count - SHOWN:,} more episodes"
    answer = f"Mean return of {answers.counted(count, 'episode')}: {mean}."
    if measured.animation:
        answer += f" Animation: {escaped(measured.animation)}"
    return Report(
        "Episodes", "What does the agent return?", answer, Table(["episode", "return", "steps"], rows, caption=caption)
    )


main, run = frame.program(Settings, measure, report)

if __name__ == "__main__":
    main()
