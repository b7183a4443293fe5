"""Muon for the hidden matrices of blocks, AdamW for all other parameters, as one optimizer.

Jordan et al., Muon: an optimizer for hidden layers in neural networks (2024): embeddings, the layer
before the output, and parameters that are no matrices stay with AdamW. Muon's steps are scaled to
the size of AdamW's (Liu et al., arXiv 2502.16982, Sec. 2.2), so that both take the same learning
rate and weight decay.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Optimizer


def hidden_matrices(model: nn.Module) -> set[nn.Parameter]:
    """The matrices of linear layers and attention within blocks.

    A block is an element of a ModuleList or Sequential with layers of its own. Embeddings of the
    input and heads are no blocks, so that no model has to name its matrices. A stacked projection
    of queries, keys and values counts as one matrix.
    """
    blocks = (
        block
        for container in model.modules()
        if isinstance(container, nn.ModuleList | nn.Sequential)
        for block in container.children()
    )
    return {
        parameter
        for block in blocks
        for layer in block.modules()
        if layer is not block and isinstance(layer, nn.Linear | nn.MultiheadAttention)
        for parameter in layer.parameters(recurse=False)
        if parameter.ndim == 2 and min(parameter.shape) > 1
    }


def check_muon(model: nn.Module) -> None:
    """Refuse Muon where it does not exist, or would train nothing.

    Raises:
        ValueError: PyTorch before 2.9, or a model without hidden matrices.
    """
    if not hasattr(torch.optim, "Muon"):
        raise ValueError(
            f"optim.name muon needs PyTorch 2.9 or later; this is {torch.__version__}. Upgrade it, "
            "or set optim.name to adamw"
        )
    if not hidden_matrices(model):
        raise ValueError(
            "optim.name muon trains the linear layers of blocks, and this model has none; set "
            "optim.name to adamw"
        )


class MuonAdamW(Optimizer):
    """Two optimizers that share one list of parameter groups and one state.

    Schedules, clipping and checkpoints thus treat it like any other optimizer.

    Args:
        groups: parameter groups as AdamW takes them; those of `matrices` take from AdamW's options
            the learning rate and the weight decay.
        matrices: the parameters that Muon trains.
        lr: learning rate of groups that do not name theirs.
        weight_decay: of groups that do not name theirs.
        fused: of AdamW.
    """

    def __init__(
        self,
        groups: Sequence[Mapping[str, Any]],
        matrices: set[nn.Parameter],
        *,
        lr: float,
        weight_decay: float,
        fused: bool | None = None,
    ) -> None:
        both: dict[str, Any] = {"lr": lr, "weight_decay": weight_decay}
        hidden, others = [], []
        for group in groups:
            shared = {name: group[name] for name in both if name in group}
            hidden.append({**shared, "params": [p for p in group["params"] if p in matrices]})
            others.append({**group, "params": [p for p in group["params"] if p not in matrices]})
        self._parts: list[Optimizer] = []
        if some := [group for group in hidden if group["params"]]:
            self._parts.append(torch.optim.Muon(some, **both, adjust_lr_fn="match_rms_adamw"))
        if some := [group for group in others if group["params"]]:
            self._parts.append(AdamW(some, **both, fused=fused))
        super().__init__([group for part in self._parts for group in part.param_groups], both)
        self._share()

    def _share(self) -> None:
        """Let both optimizers work on this one's groups and state."""
        groups = iter(self.param_groups)
        for part in self._parts:
            part.param_groups = [next(groups) for _ in part.param_groups]
            part.state = self.state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        super().load_state_dict(state_dict)
        self._share()

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of both; returns the loss of `closure`, which computes the gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss
