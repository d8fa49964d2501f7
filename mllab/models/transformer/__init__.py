"""The Transformer (Vaswani et al. 2017): a language model, and an encoder-decoder that translates."""

from mllab.models.transformer.gpt import GPT, initial_cache, language
from mllab.models.transformer.translation import Translator, translator

__all__ = ["GPT", "Translator", "initial_cache", "language", "translator"]
