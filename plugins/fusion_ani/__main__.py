"""`python -m fusion_ani` compiles the kernels of the published models before their first use."""

from __future__ import annotations

import torch

from fusion import zoo
from fusion.chemistry import system_input
from fusion.potentials import PotentialMethod
from fusion.zoo import store

system = system_input.read({"atoms": "O 0 0 0; H 0 0 0.96; H 0.93 0 -0.24"})
for card in zoo.cards():
    if card.kind == "potential" and card.method == "ani":
        model = store.blank(card, {torch.float32}).eval().requires_grad_(False)
        PotentialMethod("ani", model, dtype="float32").calculate([system], ["energy", "forces"])
