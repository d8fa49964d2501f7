"""Start of every PyTorch peer: its threads, and the CUDA GPU where there is one. Imports nothing of mllab."""

import torch


def start(threads: int) -> torch.device:
    """Set the number of threads, let new tensors lie on the CUDA GPU where there is one, and return the device."""
    torch.set_num_threads(threads)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.set_default_device(device)
    return device
