"""The translation model of `translation_step` in PyTorch: as its tutorial writes such a model, and at its best.

Both have the parts and sizes of mllab's model. Their cells are PyTorch's own GRU, whose reset gate acts after the
recurrent product: one product a step where the paper's equations have two, so a little less work than mllab's.
"""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from mllab.special_tokens import BEGIN


class Translation(nn.Module):
    """What both have: embeddings, a bidirectional encoder, alignment, and the weights of decoder and readout."""

    def __init__(self, vocabulary: int, hidden: int, embedding: int):
        """Take V of both languages, H and E; the maxout layer has E units."""
        super().__init__()
        self.hidden = hidden
        self.source = nn.Embedding(vocabulary, embedding)
        self.target = nn.Embedding(vocabulary, embedding)
        self.encoder = nn.GRU(embedding, hidden, batch_first=True, bidirectional=True)
        self.w_s = nn.Linear(hidden, hidden)
        self.w_a, self.u_a = nn.Linear(hidden, hidden), nn.Linear(2 * hidden, hidden)
        self.v_a = nn.Linear(hidden, 1, bias=False)
        self.decoder = nn.GRU(embedding + 2 * hidden, hidden, batch_first=True)
        self.t = nn.Linear(hidden + embedding + 2 * hidden, 2 * embedding)
        self.out = nn.Linear(embedding, vocabulary)

    def encode(self, source: Tensor) -> tuple[Tensor, Tensor]:
        """Return annotations [B, S, 2H] and s_0 [B, H]."""
        h, last = self.encoder(self.source(source))
        return h, torch.tanh(self.w_s(last[1]))


def words_before(target: Tensor) -> Tensor:
    """Return BEGIN and the target without its last word."""
    return torch.cat([torch.full_like(target[:, :1], BEGIN), target[:, :-1]], 1)


def tutorial(model: Translation, source: Tensor, target: Tensor) -> Tensor:
    """Return the loss as https://docs.pytorch.org/tutorials/intermediate/seq2seq_translation_tutorial.html writes it.

    Everything that concerns a word is computed in the loop over words: the keys of the attention, the decoder's step
    through `nn.GRU`, the readout with its logits. The readout is that of the paper, where the tutorial has one layer.
    """
    h, s = model.encode(source)
    words, outputs = words_before(target), []
    hidden = s[None]
    for i in range(words.shape[1]):
        y = model.target(words[:, i : i + 1])
        query = hidden.permute(1, 0, 2)
        scores = model.v_a(torch.tanh(model.w_a(query) + model.u_a(h))).squeeze(2).unsqueeze(1)
        context = torch.bmm(functional.softmax(scores, dim=-1), h)
        pairs = model.t(torch.cat((query, y, context), dim=2))
        _, hidden = model.decoder(torch.cat((y, context), dim=2), hidden)
        outputs.append(model.out(torch.maximum(*pairs.chunk(2, 2))))
    log_p = functional.log_softmax(torch.cat(outputs, dim=1), dim=-1)
    return functional.nll_loss(log_p.flatten(0, 1), target.flatten())


def hoisted(model: Translation, source: Tensor, target: Tensor) -> Tensor:
    """Return the loss with all that does not depend on the state computed before or after the loop.

    That includes, as in mllab, the projection of the annotations by the decoder's gates, whose weighted mean takes the
    place of a product in every step, and one product of the state for attention and gates.
    """
    hidden = model.hidden
    h, s = model.encode(source)
    y = model.target(words_before(target))
    w_y, w_c = model.decoder.weight_ih_l0.split((y.shape[2], 2 * hidden), 1)
    inputs = functional.linear(y, w_y, model.decoder.bias_ih_l0).transpose(0, 1).contiguous().unbind(0)
    keys, projected = model.u_a(h), functional.linear(h, w_c)
    w_s = torch.cat((model.w_a.weight, model.decoder.weight_hh_l0))
    b_s = torch.cat((model.w_a.bias, model.decoder.bias_hh_l0))
    v_a = model.v_a.weight[0]
    before, attended = [], []
    for p in inputs:
        before.append(s)
        q, u_r, u_z, u_n = functional.linear(s, w_s, b_s).split(hidden, 1)
        alpha = functional.softmax(torch.tanh(q[:, None] + keys) @ v_a, dim=1)
        attended.append(alpha)
        p_r, p_z, p_n = (p + torch.bmm(alpha[:, None], projected)[:, 0]).split(hidden, 1)
        n = torch.tanh(p_n + torch.sigmoid(p_r + u_r) * u_n)
        s = torch.lerp(n, s, torch.sigmoid(p_z + u_z))
    context = torch.bmm(torch.stack(attended, 1), h)
    pairs = model.t(torch.cat((torch.stack(before, 1), y, context), 2))
    logits = model.out(torch.maximum(*pairs.chunk(2, 2)))
    return functional.cross_entropy(logits.flatten(0, 1), target.flatten())


LOSSES: dict[str, Callable[[Translation, Tensor, Tensor], Tensor]] = {"tutorial": tutorial, "hoisted": hoisted}


def step(
    name: str, source: Tensor, target: Tensor, *, vocabulary: int, hidden: int, embedding: int, learning_rate: float
) -> Callable[[], Tensor]:
    """Return a training step with Adam, PyTorch's fused one for the hoisted form; it returns the loss."""
    torch.manual_seed(0)
    model = Translation(vocabulary, hidden, embedding)
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=name == "hoisted")

    def train() -> Tensor:
        optimizer.zero_grad()
        loss = LOSSES[name](model, source, target)
        loss.backward()
        optimizer.step()
        return loss.detach()

    return train
