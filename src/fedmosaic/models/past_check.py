"""Whether a model computes after a past what it computes on the whole: tried, as checkpoints are of many families."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from fedmosaic import events
from fedmosaic.models.batch import Batch, appended
from fedmosaic.models.prompts import Prompts
from fedmosaic.models.reader import Reader

_TRIED: WeakKeyDictionary[nn.Module, dict[tuple[str, ...], bool]] = WeakKeyDictionary()
_APART = {torch.float32: 1e-3, torch.float64: 1e-3}
_APART_IN_HALF = 0.1  # rounding alone makes 0.01
_MORE = 2  # tokens that are read after the prompts


@torch.no_grad()
def can_read_on(model: Reader, batch: Batch) -> bool:
    """Return whether a model can read on after a batch of prompts.

    Embedded models can. Any other is asked to read two tokens more, with a past and without, at its first batch of each
    kind of inputs; where the hidden states differ by more than rounding, it reads everything again for every answer.

    Args:
        model: in evaluation mode.
        batch: prompts, padded on the right.
    """
    if model.keeps_past is not None:
        return model.keeps_past
    if model.limit is not None and int(batch.last.max()) + 1 + _MORE > model.limit:
        return False
    kinds = _TRIED.setdefault(model.module, {})
    kind = (type(model).__name__, *sorted(name for name, tensor in batch.vision.items() if tensor.numel()))
    if kind not in kinds:
        kinds[kind] = _agrees(model, batch)
        if not kinds[kind]:
            events.emit(
                "note",
                text=f"base model {model.name} does not compute the same after a key-value cache; it answers without",
            )
    return kinds[kind]


def _agrees(model: Reader, batch: Batch) -> bool:
    token = int(model.end_tokens[0])
    expected = _whole(model, batch, token)
    try:
        prompts = Prompts(model, batch)
        more = prompts.after(range(len(batch.input_ids)), [[token] * _MORE] * len(batch.input_ids))
    except torch.OutOfMemoryError:
        raise
    except Exception:  # each family has its own way not to know of caches
        return False
    found = torch.cat([prompts.hidden[:, None], more], 1)
    if found.shape != expected.shape:
        return False
    apart = (found - expected).float().norm(dim=-1) / expected.float().norm(dim=-1)
    return bool((apart < _APART.get(found.dtype, _APART_IN_HALF)).all())


def _whole(model: Reader, batch: Batch, token: int) -> Tensor:
    """Return the hidden states (B, 1 + more, d) at the end of the prompts and at the tokens after it."""
    start = batch.last
    for _ in range(_MORE):
        batch = appended(batch, torch.full_like(start, token), torch.ones_like(start, dtype=torch.bool))
    hidden = model.hidden_states(batch)
    rows = torch.arange(len(start), device=start.device)[:, None]
    return hidden[rows, start[:, None] + torch.arange(_MORE + 1, device=start.device)]
