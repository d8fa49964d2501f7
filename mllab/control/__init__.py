"""Environments and agents of reinforcement learning."""
