"""PPO on a gymnasium vector environment in PyTorch, written as CleanRL's ppo.py is. Imports nothing of mllab.

https://github.com/vwxyzjn/cleanrl/blob/master/cleanrl/ppo.py, with its default settings: 4 environments, rollouts of
128 steps, 4 epochs of 4 minibatches, nets of 64-64 tanh units apart.
"""

from typing import Any

import gymnasium as gym
import numpy as np
import torch
from torch import nn
from torch.distributions.categorical import Categorical

ENVIRONMENTS, LENGTH, EPOCHS, MINIBATCHES = 4, 128, 4, 4
DISCOUNT, TRACE, CLIP, ENTROPY, VALUE, CLIP_NORM = 0.99, 0.95, 0.2, 0.01, 0.5, 0.5


def layer(inputs: int, outputs: int, gain: float = 2**0.5) -> nn.Linear:
    """Return a linear layer with orthogonal weights."""
    made = nn.Linear(inputs, outputs)
    nn.init.orthogonal_(made.weight, gain)
    nn.init.constant_(made.bias, 0.0)
    return made


class Agent(nn.Module):
    """A policy and its values, in nets of their own."""

    def __init__(self, observations: int, actions: int):
        super().__init__()
        self.critic = nn.Sequential(
            layer(observations, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, 1, 1.0)
        )  # fmt: skip
        self.actor = nn.Sequential(
            layer(observations, 64), nn.Tanh(), layer(64, 64), nn.Tanh(), layer(64, actions, 0.01)
        )  # fmt: skip

    def act(self, observation: torch.Tensor, action: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
        """Return the action, its log-probability, the entropy and the value."""
        chosen = Categorical(logits=self.actor(observation))
        action = chosen.sample() if action is None else action
        return action, chosen.log_prob(action), chosen.entropy(), self.critic(observation)


def train(
    name: str, seed: int, rate: float, steps: int, of_steps: int, device: torch.device | str = "cpu"
) -> list[float]:
    """Train for `steps` environment steps of a training of `of_steps`; return the returns of finished episodes."""
    draw = np.random.default_rng(seed)
    torch.manual_seed(seed)
    envs: Any = gym.vector.SyncVectorEnv(
        [lambda: gym.wrappers.RecordEpisodeStatistics(gym.make(name)) for _ in range(ENVIRONMENTS)],
        autoreset_mode=gym.vector.AutoresetMode.SAME_STEP,
    )
    size = envs.single_observation_space.shape[0]
    agent = Agent(size, int(envs.single_action_space.n)).to(device)
    optimizer = torch.optim.Adam(agent.parameters(), lr=rate, eps=1e-5)
    shape = LENGTH, ENVIRONMENTS
    seen = torch.zeros((*shape, size), device=device)
    actions, logs, rewards, dones, values = (torch.zeros(shape, device=device) for _ in range(5))
    batch, finished = LENGTH * ENVIRONMENTS, []
    last, _ = envs.reset(seed=seed)
    last, done = torch.Tensor(last).to(device), torch.zeros(ENVIRONMENTS, device=device)
    updates = max(1, steps // batch)
    for update in range(updates):
        optimizer.param_groups[0]["lr"] = (1.0 - update * batch / of_steps) * rate
        for step in range(LENGTH):
            seen[step], dones[step] = last, done
            with torch.no_grad():
                action, log, _, value = agent.act(last)
                values[step] = value.flatten()
            actions[step], logs[step] = action, log
            last, reward, terminated, truncated, info = envs.step(action.cpu().numpy())
            rewards[step] = torch.tensor(reward).to(device).view(-1)
            ended = np.logical_or(terminated, truncated)
            last, done = torch.Tensor(last).to(device), torch.Tensor(ended).to(device)
            if "final_info" in info:
                finished += [float(r) for r in info["final_info"]["episode"]["r"][ended]]
        with torch.no_grad():
            next_value = agent.critic(last).reshape(1, -1)
            advantages, later = torch.zeros_like(rewards), torch.zeros(ENVIRONMENTS, device=device)
            for t in reversed(range(LENGTH)):
                alive = 1.0 - (done if t == LENGTH - 1 else dones[t + 1])
                ahead = next_value if t == LENGTH - 1 else values[t + 1]
                error = rewards[t] + DISCOUNT * ahead * alive - values[t]
                advantages[t] = later = error + DISCOUNT * TRACE * alive * later
            targets = advantages + values
        flat = [seen.reshape(-1, size), *(a.reshape(-1) for a in (actions, logs, advantages, targets, values))]
        order = np.arange(batch)
        for _ in range(EPOCHS):
            draw.shuffle(order)
            for rows in np.split(order, MINIBATCHES):
                observed, action, old_log, advantage, target, old_value = (a[rows] for a in flat)
                _, log, entropy, value = agent.act(observed, action.long())
                ratio = (log - old_log).exp()
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                clipped = torch.clamp(ratio, 1 - CLIP, 1 + CLIP)
                policy_loss = torch.max(-advantage * ratio, -advantage * clipped).mean()
                value = value.view(-1)
                near = old_value + torch.clamp(value - old_value, -CLIP, CLIP)
                value_loss = 0.5 * torch.max((value - target) ** 2, (near - target) ** 2).mean()
                loss = policy_loss - ENTROPY * entropy.mean() + VALUE * value_loss
                optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(agent.parameters(), CLIP_NORM)
                optimizer.step()
    envs.close()
    return finished
