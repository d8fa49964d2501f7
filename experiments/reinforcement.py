r"""Train agents of reinforcement learning in one environment, and judge them over seeds.

  python -m experiments.reinforcement
  python -m experiments.reinforcement --environment=gridworld
  python -m experiments.reinforcement --environment=acrobot --agents=ppo,dqn --interactions=500000 --seeds=16
  python -m experiments.reinforcement --environment=mountain_car --learning_rates=0.001,0.01

An agent observes a state, chooses an action by its policy, performs it, receives a reward, and records what it has
learned. Its score is the return, the sum of the rewards of an episode. Learning rates are chosen on seeds that are not
reported; the reported seeds train with the chosen rate, and the policy at the end of each training plays fresh
episodes, the same for all. Agents are ranked by the interquartile mean over seeds, with bootstrap intervals (Agarwal et
al. 2021, arXiv:2108.13264).
`experiments.play` loads the published agent and plays again.
"""

from dataclasses import dataclass

from experiments import agent_rollout, frame, q_learning_lesson
from experiments import agent_training as training
from experiments.agent_results import Measurement, answer, facts, remarks, result_table, sections
from experiments.frame import observers
from mllab import control_models, sweep
from mllab.control.agents.table import AGENTS
from mllab.control.environments.table import ENVIRONMENTS
from mllab.models.mlp import ACTIVATIONS
from mllab.report.report import Report

LISTED = "; ".join(f"{name}: {entry.help}" for name, entry in ENVIRONMENTS.items())


@dataclass(frozen=True, kw_only=True)
class Settings(frame.Output, frame.Seeds, frame.Devices, frame.Steps):
    """The environment, the agents, and how they are trained and judged."""

    environment: str = frame.choice(ENVIRONMENTS, "cartpole", help=f"Environment ({LISTED}).", kind="environment")
    agents: tuple[str, ...] | None = frame.choices(
        AGENTS, None, help="Agents to compare. Default: all that can act in the environment.", kind="agent"
    )
    interactions: int = frame.whole(
        100_000, help="Steps in the environment of each run, rounded up to whole updates.", low=1, high=500_000_000
    )
    seeds: int = frame.Seeds.with_default(
        "seeds", 10, help="Number of seeds that are reported, 0, 1, ...; 10 or more, for few say little about an agent."
    )
    tuning_seeds: int = frame.whole(
        3, help="Number of further seeds, which choose the learning rate and are not reported.", low=1, high=10_000
    )
    learning_rates: tuple[float, ...] = frame.grid(
        "0.0003,0.001,0.003,0.01,0.03,0.1,0.3",
        help="Learning rates to choose among for every agent: LOW:HIGH:COUNT on a log scale, or A,B,C. A single one is "
        "not tuned.",
    )
    hidden: tuple[int, ...] | None = frame.wholes(
        None, help="Units of each hidden layer of agents with nets. Default: the agent's own.", ordered=True,
        high=control_models.MAX_HIDDEN, most=control_models.MAX_LAYERS,
    )  # fmt: skip
    activation: str | None = frame.choice(
        ACTIVATIONS, None, help="Activation of the hidden layers of agents with nets. Default: the agent's own.",
        kind="activation",
    )  # fmt: skip
    episodes: int = frame.whole(
        100, help="Fresh episodes that the policy of each run plays after its training.", low=1, high=100_000
    )
    validation_episodes: int = frame.whole(
        20, help="Episodes that choose the learning rate and give the curves.", low=1, high=100_000
    )
    precision: str = frame.choice(
        ("float32", "tf32"), "float32", help="Precision to compute in. tf32 rounds the inputs of matrix products, on "
        "GPU and TPU alone.",
    )  # fmt: skip
    checkpoint_seconds: float = frame.Training.with_default("checkpoint_seconds", 10.0)

    def options(self) -> dict[str, object]:
        """Return the options of agents."""
        return {"hidden": self.hidden, "activation": self.activation}


def measure(run: frame.Context, settings: Settings) -> Measurement:
    """Tune and train every agent, score the last policies on fresh episodes, and publish a typical run of the best."""
    entry = ENVIRONMENTS[settings.environment]
    environment = entry.make()
    able, left_out = training.contenders(environment, settings.interactions, settings.agents, settings.options())
    refuse_unread(settings, able)
    for line in left_out:
        run.progress.say(line)
    plan = training.Plan(
        settings.environment, environment, settings.interactions, settings.learning_rates, settings.seeds,
        settings.tuning_seeds, settings.validation_episodes, settings.episodes,
    )  # fmt: skip
    trained = []
    with observers.timed_race(run):
        for contender in able:
            trained.append(
                training.train(
                    plan, contender, mesh=run.mesh(all_hosts=True), observe=lambda *drive: [observer(run, *drive)],
                    workdir=run.path, checkpoint_seconds=settings.checkpoint_seconds,
                )
            )  # fmt: skip
    with run.timed("baselines"):
        random = training.random_returns(plan)
    with run.timed("lesson"):
        optimum, lesson = q_learning_lesson.measure(plan, trained)
    best = training.best(trained)
    rollout = None
    if best is not None:
        with run.timed("rollout"):
            rollout = publish(run, settings, plan, best)
    return Measurement.of(
        plan, entry.help, trained, random=random, optimum=optimum, left_out=left_out, rollout=rollout, lesson=lesson
    )


def refuse_unread(settings: Settings, able: list[training.Contender]) -> None:
    """Raise UserError for a setting that was changed and that nothing reads in this run."""
    read = {option for contender in able for option in contender.options}
    nets = [option for option in settings.options() if option not in read]
    settings.refuse_unread(nets, "no agent of this run has a net; leave it out, or add one that has")
    if len(settings.learning_rates) == 1:
        settings.refuse_unread(["tuning_seeds"], "a single learning rate is not tuned; leave it out, or give several")


def observer(run: frame.Context, name: str, grid: sweep.Grid, updates: int):
    """Return the observer of a drive, which shows the best return on the validation episodes."""
    title = f"{name}, {'tuning' if grid.seed[0] >= training.FIRST_TUNING_SEED else 'reported'} seeds, return"
    return observers.observer(run, name, grid, updates, lambda held: held["return"], title, "agent")


def publish(
    run: frame.Context, settings: Settings, plan: training.Plan, best: training.Trained
) -> agent_rollout.Rollout:
    """Publish the run of the median seed, and let it play the fresh episode of the median return."""
    name, seed, params = best.contender.name, best.median_seed, best.params(best.median_seed)
    header = {
        "seed": seed, "interactions": plan.interactions, "return": float(best.returns[seed]),
        "episodes": plan.episodes, "flags": settings.result_flags(),
    }  # fmt: skip
    content = control_models.encode(params, settings.environment, name, best.contender.options, header)
    run.write("params.safetensors", content)
    return agent_rollout.median_episode(
        best.contender.agent, plan.environment, params, plan.fresh_ids, name=name, seed=seed,
        scene=ENVIRONMENTS[settings.environment].scene,
    )  # fmt: skip


def report(run: frame.Context, settings: Settings, measured: Measurement) -> Report:
    """Report the agents by their returns, their learning curves, all runs, and what the winner does."""
    del run
    return Report(
        f"Agents in {measured.environment}",
        f"Which agent learns best to {measured.task}?",
        answer(measured),
        result_table(measured),
        sections(measured),
        facts(measured, settings.precision, settings.flagfile().splitlines()),
        remarks=remarks(measured),
    )


main, run = frame.program(Settings, measure, report, all_cores=True, show_seconds=True)

if __name__ == "__main__":
    main()
