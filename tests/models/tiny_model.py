"""A causal model of random weights with a tokenizer and a chat template, made in a second."""

import random
from pathlib import Path

from serving.answering.prompting import load_prompts
from tests.models.copying_model import make_model, make_tokenizer

CONTEXT = 512


def make_tiny_model(folder: Path) -> Path:
    import torch

    torch.manual_seed(1)
    model = make_model(layers=2, width=64, tied=False)  # Tied, it would repeat itself.
    model.config.max_position_embeddings = CONTEXT
    model.generation_config.eos_token_id = None  # It goes on until it is stopped.
    model.save_pretrained(folder)
    make_tokenizer(random.Random(1), load_prompts()).save_pretrained(folder)
    return folder
