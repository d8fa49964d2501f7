"""Which settings of the character-level experiment each model reads: recurrent cells and the Transformer."""

from typing import Any

from experiments import frame
from mllab.errors import UserError
from mllab.models.recurrent import CELLS
from mllab.text_models import TRANSFORMER

INITS = ("orthogonal", "normal")
OF_CELLS = (
    "embedding",
    "tied",
    "layer_norm",
    "recurrent_dropout",
    "recurrent_init",
    "forget_bias",
)  # settings that recurrent cells alone read
OF_TRANSFORMER = ("heads",)
OF_PRODUCTS = ("recurrent_dropout", "recurrent_init")  # of cells with recurrent weights


def arguments(settings: Any, cell: str) -> dict[str, object]:
    """Return the arguments of a model that its params depend on; a Transformer's context is the window."""
    if cell == TRANSFORMER:
        sizes = {"width": settings.hidden, "heads": settings.heads, "context": settings.window}
        return {"cell": cell, "layers": settings.layers, **sizes}
    embedding = settings.hidden if settings.tied else settings.embedding
    sizes = {"hidden": settings.hidden, "layers": settings.layers, "embedding": embedding}
    return {"cell": cell, **sizes, "tied": settings.tied, "layer_norm": settings.layer_norm}


def regularisation(settings: Any, cell: str) -> dict[str, float | bool]:
    """Return the arguments of a model that its training alone depends on: rates of dropout, initialisation."""
    if cell == TRANSFORMER:
        return {"dropout": settings.dropout}
    chosen = {
        "dropout": settings.dropout, "orthogonal": settings.recurrent_init == INITS[0],
        "forget_bias": settings.forget_bias,
    }  # fmt: skip
    return chosen | ({} if CELLS[cell].gates is None else {"recurrent_dropout": settings.recurrent_dropout})


def check(settings: Any) -> None:
    """Check that each setting which was changed is read by one of the models.

    Raises:
        UserError: one is not, or a size that the Transformer cannot have.
    """
    cells = set(settings.cells)
    for names, is_read, what in (
        (OF_CELLS, bool(cells - {TRANSFORMER}), "a Transformer"),
        (OF_TRANSFORMER, TRANSFORMER in cells, "a recurrent cell"),
    ):
        if not is_read:
            settings.refuse_unread(names, f"not read by {what}; leave it out, or add another model to --cells")
    recurrent = cells - {TRANSFORMER}
    if not any(CELLS[cell].gates for cell in recurrent):
        settings.refuse_unread(OF_PRODUCTS, "minGRU has no recurrent weights; leave it out, or add another cell")
    if recurrent <= {"tanh"}:
        settings.refuse_unread(["forget_bias"], "a tanh cell has no gate; leave it out, or add another cell")
    if settings.tied:
        settings.refuse_unread(["embedding"], "of --hidden features where embeddings are tied; leave it out")
    if TRANSFORMER in cells and settings.hidden % settings.heads:
        raise UserError(f"--hidden={settings.hidden} --heads={settings.heads}: give a multiple of the heads")
    frame.check_clip_norm(settings.clip_norm)
