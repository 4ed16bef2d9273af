"""A training step: forward and backward pass of a batch, update of the weights and of their average."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.parallel import DistributedDataParallel
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from densenets.data.batches import Batch, mixed_seed
from densenets.distributed import Ranks
from densenets.errors import InputError
from densenets.finite import first_not_finite
from densenets.models.network import Network, all_logits
from densenets.ops.sync_batch_norm import synchronize
from densenets.training.recipe import OptimizerRecipe, Recipe
from densenets.training.running_statistics import smallest_maps
from densenets.training.saved_state import check_state_dict, checked_moments

_MIXUP_STREAM, _DROPOUT_STREAM, _PATHS_STREAM = 1, 2, 3  # a step's independent random streams


@dataclass(frozen=True)
class StepSums:
    """Sums over this rank's images of a step, still on the device: reading them waits for it.

    Attributes:
        loss: sum over this rank's images.
        wrong: images whose class was not the first guess (with mixup, the class of the larger part).
        images: number of this rank's images.
    """

    loss: Tensor
    wrong: Tensor
    images: int


class TrainStep:
    """Model, optimiser and averaged weights, which a step updates.

    Args:
        model: on its device already.
        recipe: optimiser, losses, precision.
        ranks: this process's place; with several ranks the model is wrapped in DistributedDataParallel.
    """

    def __init__(self, model: Network, recipe: Recipe, ranks: Ranks) -> None:
        self.recipe, self.ranks = recipe, ranks
        training = recipe.training
        if training.channels_last:
            model = model.to(memory_format=torch.channels_last)
        self._is_synchronized = synchronized = ranks.is_distributed and training.sync_batch_norm
        if synchronized:
            synchronize(model, ranks.device)
        self.model = model
        self.optimizer = build_optimizer(model, recipe.optimizer)
        self.averaged = (
            AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(training.ema_decay), use_buffers=True)
            if training.ema_decay
            else None
        )
        self._parallel = (
            DistributedDataParallel(
                model,
                device_ids=[ranks.device] if ranks.device.type == "cuda" else None,
                broadcast_buffers=not synchronized,
                find_unused_parameters=model.config.skips_layers,
            )
            if ranks.is_distributed
            else None
        )
        wrapped: nn.Module = self._parallel or model
        self._forward = torch.compile(wrapped) if training.compile else wrapped
        self._precision = getattr(torch, training.precision)

    @property
    def evaluated(self) -> Network:
        """The network that is evaluated and saved: the averaged one, if there is one."""
        if self.averaged is None:
            return self.model
        averaged = self.averaged.module
        assert isinstance(averaged, Network)
        return averaged

    def check_single_images(self, image_size: int) -> None:
        """Check that the network can be trained with one image of a size on some process.

        Raises:
            InputError: some batch normalisation would see one value a channel, of which there is no variance.
        """
        config, world_size = self.model.config, self.ranks.shard.world_size
        image = torch.zeros(
            1, config.in_channels, *[image_size] * config.spatial_dims, device=self.ranks.device
        )
        if self._is_synchronized or smallest_maps(self.model, image) > 1:
            return
        fewer = (
            f"start at most {self.recipe.training.batch_size // 2} process(es), or of a new run "
            if world_size > 1
            else ""
        )
        raise InputError(
            "a step has one image on a process and maps of one pixel, from which batch normalisation cannot "
            f"learn; {fewer}raise --training.batch-size to {2 * world_size} or more, or --data.image-size"
        )

    def run(self, batch: Batch, rate: float, epoch: int, step: int) -> StepSums:
        """Update the weights by the gradient of a batch's mean loss over all ranks.

        Args:
            batch: this rank's share of the step.
            rate: the learning rate.
            epoch: of the run; the step's random numbers follow from it and `step`.
            step: of the epoch.
        """
        torch.manual_seed(self._seed(epoch, step, _DROPOUT_STREAM, self.ranks.shard.rank))
        self.model.paths.seed(self._seed(epoch, step, _PATHS_STREAM))
        companion_weight = self.companion_weight(epoch)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        mixup_lambda = self._mixup_lambda(epoch, step)
        # The same number on every rank, or they would wait for each other's statistics for ever.
        smallest_share = batch.global_count // self.ranks.shard.world_size
        parts = max(1, min(self.recipe.training.accumulation, smallest_share // 2))
        images = batch.images.tensor_split(parts)
        labels = batch.labels.tensor_split(parts)
        results = [
            self._backward(x, y, batch.global_count, mixup_lambda, companion_weight, is_last=part == parts)
            for part, (x, y) in enumerate(zip(images, labels, strict=True), start=1)
        ]
        if self.model.config.skips_layers:
            self._zero_missing_grads()
        if self.recipe.optimizer.gradient_clip:
            nn.utils.clip_grad_norm_(self.model.parameters(), self.recipe.optimizer.gradient_clip)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        if self.averaged:
            self.averaged.update_parameters(self.model)
        losses, wrongs = zip(*results, strict=True)
        return StepSums(sum(losses, torch.zeros(())), sum(wrongs, torch.zeros(())), len(batch.labels))

    def companion_weight(self, epoch: int) -> float:
        """Weight of companion classifiers' losses; decays linearly over epochs (Lee et al. 2015, eq. 3)."""
        training = self.recipe.training
        return training.companion_weight * (1 - epoch / training.epochs)

    def weights_are_finite(self) -> bool:
        """Whether every weight and running statistic is finite."""
        return first_not_finite(self.model) is None

    def state_dict(self) -> dict[str, Any]:
        """State dicts of model, optimiser and averaged weights."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "averaged": self.averaged.state_dict() if self.averaged else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load a `state_dict`.

        Raises:
            InputError: it is the state of another network or optimiser, or none at all.
        """
        current = self.state_dict()
        for name in ("model", "averaged"):
            check_state_dict(name, current[name], state.get(name))
        parameters = [value for group in self.optimizer.param_groups for value in group["params"]]
        moments = checked_moments(self.recipe.optimizer.name, parameters, state.get("optimizer"))
        self.model.load_state_dict(state["model"])
        # Rates and decays are the recipe's, which is the same as the run's.
        self.optimizer.load_state_dict({**current["optimizer"], "state": moments})
        if self.averaged:
            self.averaged.load_state_dict(state["averaged"])

    def _backward(
        self,
        images: Tensor,
        labels: Tensor,
        global_count: int,
        mixup_lambda: float,
        companion_weight: float,
        *,
        is_last: bool,
    ) -> tuple[Tensor, Tensor]:
        """Forward and backward pass of a part of a batch; returns its summed loss and wrong first guesses."""
        if self.recipe.training.channels_last:
            images = images.to(memory_format=torch.channels_last)
        mixed = images if mixup_lambda == 1 else images.lerp(images.flip(0), 1 - mixup_lambda)
        # Only the last part's backward pass sums gradients over the ranks.
        device = self.ranks.device.type
        no_sync = self._parallel is not None and not is_last
        with self._parallel.no_sync() if no_sync and self._parallel else contextlib.nullcontext():
            with torch.autocast(device, self._precision, self._precision != torch.float32):
                logits, *companions = all_logits(self._forward(mixed))
                loss = self._mixed_loss(logits.float(), labels, mixup_lambda)
                for companion in companions:
                    companion_loss = self._mixed_loss(companion.float(), labels, mixup_lambda)
                    loss = loss + companion_weight * companion_loss
            # DistributedDataParallel takes the mean over ranks; this factor makes it the mean over images.
            (loss * (self.ranks.shard.world_size / global_count)).backward()
        return loss.detach(), (logits.detach().argmax(dim=1) != labels).sum()

    def _mixed_loss(self, logits: Tensor, labels: Tensor, mixup_lambda: float) -> Tensor:
        loss = self._loss(logits, labels) * mixup_lambda
        if mixup_lambda == 1:
            return loss
        return loss + self._loss(logits, labels.flip(0)) * (1 - mixup_lambda)

    def _loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        smoothing = self.recipe.training.label_smoothing
        return cross_entropy(logits, labels, reduction="sum", label_smoothing=smoothing)

    def _zero_missing_grads(self) -> None:
        """Set absent gradients of skipped weights to 0, so that momentum and weight decay act on all."""
        for parameter in self.model.parameters():
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)

    def _mixup_lambda(self, epoch: int, step: int) -> float:
        """Mixup's lambda (Zhang et al. 2018), each image's weight in its mixture: 0.5 ... 1; 1 for none."""
        alpha = self.recipe.training.mixup
        if not alpha:
            return 1.0
        drawn = np.random.default_rng(self._seed(epoch, step, _MIXUP_STREAM)).beta(alpha, alpha)
        return float(max(drawn, 1 - drawn))

    def _seed(self, *numbers: int) -> int:
        return mixed_seed(self.recipe.training.seed, *numbers)


def build_optimizer(model: nn.Module, recipe: OptimizerRecipe) -> torch.optim.Optimizer:
    """Build a recipe's optimiser for all parameters of a model."""
    groups = _parameter_groups(list(model.parameters()), recipe)
    if recipe.name == "adamw":
        return torch.optim.AdamW(groups, lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    return torch.optim.SGD(
        groups,
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        weight_decay=recipe.weight_decay,
    )


def _parameter_groups(parameters: list[nn.Parameter], recipe: OptimizerRecipe) -> list[dict[str, Any]]:
    """The optimiser's groups of parameters: all in one, or those that decay and those that do not.

    Weights of batch normalisation and biases are a network's only parameters of one dimension.
    """
    if recipe.decay_norms:
        return [{"params": parameters}]
    return [
        {"params": [value for value in parameters if value.ndim > 1]},
        {"params": [value for value in parameters if value.ndim <= 1], "weight_decay": 0.0},
    ]
