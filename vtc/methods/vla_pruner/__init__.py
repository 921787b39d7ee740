"""VLA-Pruner: prune a robot policy's image tokens by what it reads and by what its last actions looked at.

Use
---
::

    # OpenVLA-style: a language model of transformers that is handed [BOS][image tokens][instruction] as inputs_embeds
    handle = vtc.patch(policy.language_model, "vla-pruner", keep=0.5, images=vtc.Columns(1, 256))
    # pi0
    handle = vtc.patch(model, "vla-pruner", keep=0.5)

    for episode in range(10):
        handle.reset()                           # at every episode start; reset(mask) resets single environments
        while not done:
            action = policy(observation)         # one policy call: one generate() or one sample_actions()

The first ``window`` calls of an episode are unpruned; ``handle.last`` tells what the last call kept. Row ``b`` of
the batch is environment ``b`` and has a memory of its own. ``state = handle.memory.save()`` and
``handle.memory.load(state)`` roll back; ``with handle.memory(state):`` runs calls on another memory (threads,
several policies on one model); ``with handle.memory.call():`` marks one call where generate is not the patched
model's own, and forgets it when it raises.
"""

from .guide import estimate, spread, union
from .method import INPUTS, SLOT, VLAPruner

__all__ = ["INPUTS", "SLOT", "VLAPruner", "estimate", "spread", "union"]
