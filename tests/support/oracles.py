"""Independent reference implementations in NumPy float64, written from the papers: optimizers and conv nets.

They share no code with the library.
"""

import numpy as np

# --- Optimizers ------------------------------------------------------------------------------------------------------
# An object holds the state of one array, and `step(theta, gradient)` returns the next theta. Options are named as in
# the library.


class GradientDescent:
    def __init__(self, learning_rate):
        self.rate = learning_rate

    def step(self, theta, gradient):
        return theta - self.rate * gradient


class Momentum:
    """Ruder, section 4.1: the velocity includes the learning rate."""

    def __init__(self, learning_rate, momentum=0.9):
        self.rate, self.gamma, self.velocity = learning_rate, momentum, 0.0

    def step(self, theta, gradient, learning_rate=None):
        rate = self.rate if learning_rate is None else learning_rate
        self.velocity = self.gamma * self.velocity + rate * gradient
        return theta - self.velocity


class Nesterov:
    """Ruder, section 4.2. `step` takes and returns the look-ahead point, where the gradient is evaluated."""

    def __init__(self, learning_rate, momentum=0.9):
        self.rate, self.gamma, self.velocity = learning_rate, momentum, 0.0

    def step(self, theta, gradient):
        ruders_theta = theta + self.gamma * self.velocity
        self.velocity = self.gamma * self.velocity + self.rate * gradient
        return ruders_theta - self.velocity - self.gamma * self.velocity


class Adagrad:
    """Ruder, section 4.3, Eq. 8 (epsilon inside the root)."""

    def __init__(self, learning_rate, initial_accumulator_value=0.0, eps=1e-8):
        self.rate, self.eps, self.squares = learning_rate, eps, [initial_accumulator_value]

    def step(self, theta, gradient):
        self.squares.append(gradient**2)
        return theta - self.rate / np.sqrt(sum(self.squares) + self.eps) * gradient


class Adadelta:
    """Zeiler 2012, Algorithm 1, the update multiplied by a learning rate."""

    def __init__(self, learning_rate, rho=0.9, eps=1e-6, weight_decay=0.0):
        self.rate, self.rho, self.eps, self.decay = learning_rate, rho, eps, weight_decay
        self.mean_g2 = self.mean_dx2 = 0.0

    def step(self, theta, gradient):
        g = gradient + self.decay * theta
        self.mean_g2 = self.rho * self.mean_g2 + (1 - self.rho) * g * g
        dx = -np.sqrt(self.mean_dx2 + self.eps) / np.sqrt(self.mean_g2 + self.eps) * g
        self.mean_dx2 = self.rho * self.mean_dx2 + (1 - self.rho) * dx * dx
        return theta + self.rate * dx


class RMSprop:
    """Hinton's lecture 6e as in Ruder, section 4.5 (epsilon inside the root)."""

    def __init__(self, learning_rate, decay=0.9, eps=1e-8):
        self.rate, self.decay, self.eps, self.mean_square = learning_rate, decay, eps, 0.0

    def step(self, theta, gradient):
        self.mean_square = self.decay * self.mean_square + (1 - self.decay) * gradient**2
        return theta - self.rate * gradient / (self.mean_square + self.eps) ** 0.5


def _exponential_mean(history, beta):
    """Return the moving average from 0 as a sum, (1 - beta) sum_i beta^(t - i) x_i (Kingma and Ba, Eq. 1)."""
    t = len(history)
    return (1 - beta) * sum(beta ** (t - i) * x for i, x in enumerate(history, start=1))


class Adam:
    """Kingma and Ba 2015, Algorithm 1; with weight decay Loshchilov and Hutter 2019, Algorithm 2."""

    default_weight_decay = 0.0

    def __init__(self, learning_rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=None):
        self.rate, self.b1, self.b2, self.eps = learning_rate, b1, b2, eps
        self.decay = self.default_weight_decay if weight_decay is None else weight_decay
        self.gradients = []

    def momentum(self, t):
        return _exponential_mean(self.gradients, self.b1) / (1 - self.b1**t)

    def step(self, theta, gradient):
        self.gradients.append(gradient)
        t = len(self.gradients)
        second = _exponential_mean([g**2 for g in self.gradients], self.b2) / (1 - self.b2**t)
        adam = self.momentum(t) / (np.sqrt(second) + self.eps)
        return theta - self.rate * (adam + self.decay * theta)


class AdamW(Adam):
    default_weight_decay = 1e-4


class Nadam(Adam):
    """Dozat 2016, Algorithm 2, beta_1 constant and the second moment as in Adam."""

    def momentum(self, t):
        mean = _exponential_mean(self.gradients, self.b1)
        return self.b1 * mean / (1 - self.b1 ** (t + 1)) + (1 - self.b1) * self.gradients[-1] / (1 - self.b1**t)


class AdaMax(Adam):
    """Kingma and Ba 2015, Algorithm 2, with the recursion unrolled and the epsilon of optax inside the maximum."""

    def step(self, theta, gradient):
        self.gradients.append(gradient)
        t = len(self.gradients)
        norms = [self.b2 ** (t - i) * (np.abs(g) + self.eps) for i, g in enumerate(self.gradients, start=1)]
        return theta - self.rate / (1 - self.b1**t) * _exponential_mean(self.gradients, self.b1) / np.max(norms, axis=0)


class Lion:
    """Chen et al. 2023, Algorithm 2."""

    def __init__(self, learning_rate, b1=0.9, b2=0.99, weight_decay=1e-3):
        self.rate, self.b1, self.b2, self.decay, self.m = learning_rate, b1, b2, weight_decay, 0.0

    def step(self, theta, gradient):
        update = np.sign(self.b1 * self.m + (1 - self.b1) * gradient)
        self.m = self.b2 * self.m + (1 - self.b2) * gradient
        return theta - self.rate * (update + self.decay * theta)


class Muon:
    """Jordan et al. 2024 for matrices [in, out], with Dozat's bias correction; Nadam for everything else."""

    def __init__(self, learning_rate, beta=0.95, eps=1e-8, weight_decay=0.0, adam_b1=0.9, adam_b2=0.999):
        self.rate, self.eps, self.decay = learning_rate, eps, weight_decay
        self.matrix = Nadam(learning_rate, b1=beta)  # used for its momentum only
        self.other = Nadam(learning_rate, b1=adam_b1, b2=adam_b2, eps=eps)

    def step(self, theta, gradient):
        if theta.ndim != 2:
            return self.other.step(theta, gradient)
        self.matrix.gradients.append(gradient)
        momentum = self.matrix.momentum(len(self.matrix.gradients))
        # Newton-Schulz is an odd polynomial, which acts on the singular values.
        u, singular, vt = np.linalg.svd(momentum, full_matrices=False)
        singular = singular / (np.sqrt(np.sum(momentum**2)) + self.eps)
        for _ in range(5):
            singular = 3.4445 * singular - 4.7750 * singular**3 + 2.0315 * singular**5
        fan_in, fan_out = theta.shape
        return theta - self.rate * (max(1.0, fan_out / fan_in) ** 0.5 * (u * singular) @ vt + self.decay * theta)


class ScheduleFreeSGD:
    """Defazio et al. 2024: theta is y, where gradients are evaluated; `average` is x, the evaluation params."""

    def __init__(self, learning_rate, b1=0.9, weight_decay=0.0, weight_lr_power=2.0):
        self.rate, self.b1, self.decay, self.power = learning_rate, b1, weight_decay, weight_lr_power
        self.z = self.average = None
        self.weights = []

    def direction(self, theta, gradient):
        return gradient + self.decay * theta

    def step(self, theta, gradient):
        if self.z is None:
            self.z = self.average = theta
        self.z = self.z - self.rate * self.direction(theta, gradient)
        self.weights.append(self.rate**self.power)
        c = self.weights[-1] / sum(self.weights)
        self.average = (1 - c) * self.average + c * self.z
        return (1 - self.b1) * self.z + self.b1 * self.average


class ScheduleFreeAdam(ScheduleFreeSGD):
    """Defazio et al. 2024, Algorithm 1."""

    def __init__(self, learning_rate, b1=0.9, b2=0.999, eps=1e-8, **options):
        super().__init__(learning_rate, b1=b1, **options)
        self.b2, self.eps, self.squares = b2, eps, []

    def direction(self, theta, gradient):
        self.squares.append(gradient**2)
        second = _exponential_mean(self.squares, self.b2) / (1 - self.b2 ** len(self.squares))
        return gradient / (np.sqrt(second) + self.eps) + self.decay * theta


def bfgs_direction(thetas, gradients, memory_size):
    """Return -H g at the last of the thetas [T, P], with H [P, P] from the last pairs (Nocedal and Wright, Eq. 7.19).

    H is a dense matrix, computed by the product form of BFGS (their Eq. 6.17) and not by the two-loop recursion.
    """
    gradient = gradients[-1]
    steps, changes = np.diff(thetas, axis=0)[-memory_size:], np.diff(gradients, axis=0)[-memory_size:]
    identity = np.eye(len(gradient))
    if len(steps) == 0:
        return -min(1.0, 1.0 / np.linalg.norm(gradient)) * gradient
    inverse_hessian = identity * (steps[-1] @ changes[-1]) / (changes[-1] @ changes[-1])
    for s, y in zip(steps, changes, strict=True):
        rho = 1.0 / (y @ s)
        v = identity - rho * np.outer(y, s)
        inverse_hessian = v.T @ inverse_hessian @ v + rho * np.outer(s, s)
    return -inverse_hessian @ gradient


# ── Nets ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def convnet_logits(arrays, images):
    """Return the logits of a published conv net: 3 × 3 convolutions, pooling by 2, biases, ReLU, and dense layers."""
    x, layers = np.asarray(images, np.float64), {}
    for name, array in arrays.items():
        _, number, *field = name.split(".")
        layers.setdefault(int(number), {})[field[0] if field else "bias"] = array.astype(np.float64)
    *hidden, last = (layers[number] for number in sorted(layers))
    for layer in hidden:
        if "bias" in layer:  # after the pooling
            x = np.maximum(x + layer["bias"], 0)
        elif layer["w"].ndim == 4:
            height, width = x.shape[1:3]
            padded = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
            x = sum(padded[:, i : i + height, j : j + width] @ layer["w"][i, j] for i in range(3) for j in range(3))
            x = x.reshape(len(x), height // 2, 2, width // 2, 2, -1).max(axis=(2, 4))
        else:
            x = np.maximum(x.reshape(len(x), -1) @ layer["w"] + layer["b"], 0)
    return x.reshape(len(x), -1) @ last["w"] + last["b"]
