"""The training loop: trains a recipe's network; writes checkpoints, metrics and the result to a folder."""

from __future__ import annotations

import contextlib
import dataclasses
import itertools
import math
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

from densenets.checkpoint import read_checkpoint, save_checkpoint
from densenets.data.augmentation import Augmentation
from densenets.data.batches import Batch, BatchOrder, evaluation_batches, training_batches
from densenets.data.image_sets import Images
from densenets.data.load import load_data
from densenets.data.splits import DataSplits
from densenets.distributed import Ranks, joined_ranks
from densenets.errors import InputError, Interrupted, NotFinite
from densenets.evaluation import Evaluation, evaluate, write_evaluation
from densenets.files import exclusive
from densenets.machine import environment
from densenets.models.densenet import DenseNet
from densenets.ops.dense_block import explain_execution
from densenets.records import tells_top5
from densenets.training.build import build_model
from densenets.training.recipe import Recipe
from densenets.training.run_folder import RunFolder, RunProgress
from densenets.training.run_log import EpochMetrics, Log, SilentLog, StepMetrics, run_log
from densenets.training.running_statistics import recompute_statistics
from densenets.training.schedule import learning_rate
from densenets.training.stop_requests import StopRequest, stop_requests
from densenets.training.train_step import StepSums, TrainStep

_EVALUATION_BATCH = 500  # of small images, on each rank; without gradients a batch takes little memory


def train(recipe: Recipe, out: Path, *, resume: bool = False) -> dict[str, Any]:
    """Train a recipe's network to the end, and evaluate the result on the test images.

    Args:
        recipe: of the run.
        out: the run's folder.
        resume: go on with the run in that folder, if there is one.

    Returns:
        The content of evaluation.json.

    Raises:
        InputError: the recipe, the data or the folder cannot be used, the loss is not a number, or the
            disk is full. Files saved before stay.
        Interrupted: Ctrl-C or SIGTERM; the state was saved.
    """
    folder = RunFolder(out)
    with (
        stop_requests() as request,
        joined_ranks(recipe.training.device) as ranks,
        # Dropout draws from PyTorch's own generator, which steps seed; its state is restored afterwards.
        torch.random.fork_rng([ranks.device] if ranks.device.type == "cuda" else []),
    ):
        # Errors of recipe, data or folder are raised before anything is written.
        folder.check(recipe, resume=resume)
        with ranks.first_rank_first():
            data = load_data(recipe.data).to(ranks.device)
        if recipe.training.report == "best" and data.validation is None:
            raise InputError(
                "report best needs validation images to choose by, and there are none; begin a run with "
                "--data.held-out, or with --training.report last"
            )
        model, notes = build_model(recipe, data, ranks.device)
        run_environment = environment(ranks.device)
        if isinstance(model, DenseNet):
            execution = explain_execution(recipe.model.execution, ranks.device, torch.float32)
            notes.append(f"execution of the dense blocks: {execution}")
            run_environment["execution"] = str(execution)
        run = _Run(recipe, folder, data, TrainStep(model, recipe, ranks), ranks, request)
        with exclusive(out) if ranks.is_first else contextlib.nullcontext():
            folder.check(recipe, resume=resume)
            run.load_state()
            ranks.barrier()  # until all have read the folder
            if ranks.is_first:
                folder.begin(recipe, run_environment, data.record())
            return run.finish([*data.summary_lines(), *notes])


@dataclass
class _Run:
    """A run in progress on this rank: its data, its train step, its folder, and how far it is."""

    recipe: Recipe
    folder: RunFolder
    data: DataSplits
    train_step: TrainStep
    ranks: Ranks
    request: StopRequest
    progress: RunProgress = field(default_factory=RunProgress)
    _counted_at: float = field(default_factory=time.perf_counter)
    _saved_at: float = field(default_factory=time.perf_counter)
    _unlogged: list[StepSums] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.order = BatchOrder(
            count=len(self.data.training) + len(self.data.left_out),
            batch_size=self.recipe.training.batch_size,
            seed=self.recipe.training.seed,
            shard=self.ranks.shard,
            left_out=self.data.left_out,
        )
        if self.order.has_single_images:
            smallest = self.recipe.training.training_size(0) or self.data.preprocessing.image_size
            self.train_step.check_single_images(smallest)

    @property
    def run_step(self) -> int:
        """Number of finished steps of the whole run."""
        return self.progress.epoch * self.order.steps + self.progress.step

    def load_state(self) -> None:
        """Load the state that an earlier start saved in the folder, if there is one."""
        saved = self.folder.load_state()
        if saved:
            self.folder.check_data(self.data)
            self.progress, training = saved
            self.train_step.load_state_dict(training)

    def finish(self, notes: list[str]) -> dict[str, Any]:
        """Train the epochs that are left, then evaluate the result."""
        epochs = self.recipe.training.epochs
        with contextlib.ExitStack() as stack:
            log: Log = SilentLog()
            if self.ranks.is_first:
                self.folder.drop_metrics_after(self.run_step, self.progress.epoch)
                log = stack.enter_context(
                    run_log(
                        self.folder,
                        epochs * self.order.steps,
                        self.run_step,
                        tensorboard=self.recipe.training.tensorboard,
                    )
                )
            for note in notes:
                log.message(note)
            if self.run_step:
                log.message(f"goes on after epoch {self.progress.epoch}, step {self.progress.step}")
            while self.progress.epoch < epochs:
                self._train_epoch(log)
                self._finish_epoch(log)
            return self._evaluate_result(log)

    def _batches(self, first_step: int, size: int | None) -> Iterator[Batch]:
        """The epoch's training batches, from step `first_step` on, resized to a side of `size` pixels."""
        return training_batches(
            self.data.training,
            self.order,
            self.progress.epoch,
            first_step,
            preprocessing=self.data.preprocessing,
            augmentation=Augmentation(self.recipe.data.augmentation, self.recipe.data.padding, size),
            device=self.ranks.device,
            workers=self.recipe.data.workers,
        )

    def _train_epoch(self, log: Log) -> None:
        recipe, progress = self.recipe, self.progress
        self.train_step.model.train()
        for batch in self._batches(progress.step, recipe.training.training_size(progress.epoch)):
            rate = learning_rate(
                recipe.schedule,
                recipe.optimizer.learning_rate,
                self.run_step,
                self.order.steps,
                recipe.training.epochs,
            )
            self._unlogged.append(self.train_step.run(batch, rate, progress.epoch, progress.step))
            progress.step += 1
            progress.images += batch.global_count
            if self._is_logging_step():
                self._log(rate, log)

    def _is_logging_step(self) -> bool:
        """Whether the loss is read after this step: reading makes an accelerator wait, a CPU not."""
        step = self.progress.step
        return (
            self.ranks.device.type == "cpu"
            or step % self.recipe.training.log_every == 0
            or step == self.order.steps
        )

    def _log(self, rate: float, log: Log) -> None:
        """Log the losses since the last log; save the state if it is due, stop if a signal asked for it."""
        progress = self.progress
        loss, wrong, images, stops, due = self._reduced_sums()
        if not math.isfinite(loss):
            raise InputError(self._divergence_error_text("the loss is not a number any more"))
        progress.loss += loss
        progress.wrong += wrong
        epoch_loss = f"loss {progress.loss / progress.images:.3f}  rate {rate:.2g}"
        log.step(self.run_step, f"epoch {progress.epoch + 1}/{self.recipe.training.epochs}  {epoch_loss}")
        if progress.step % self.recipe.training.log_every == 0:
            log.metrics(
                StepMetrics(
                    run_step=self.run_step, epoch=progress.epoch, loss=loss / images, learning_rate=rate
                )
            )
        if stops:
            self._save()
            raise Interrupted(
                f"stopped after epoch {progress.epoch}, step {progress.step}; "
                f"go on with --resume --out {self.folder.path}",
                self.request.signal_number or signal.SIGTERM,  # if another rank's, ours was never sent
            )
        if due:
            self._save()

    def _reduced_sums(self) -> tuple[float, float, float, float, float]:
        """Sums over all ranks since the last log: loss, wrong guesses, images, ranks to stop, ranks to save.

        One all-reduce for all of them, so that every rank stops and saves at the same step.
        """
        minutes = (time.perf_counter() - self._saved_at) / 60
        due = self.ranks.is_first and minutes > self.recipe.training.checkpoint_minutes
        unread, self._unlogged = self._unlogged, []
        device = self.ranks.device
        sums = torch.stack(
            [
                torch.stack([s.loss.double().to(device) for s in unread]).sum(),
                torch.stack([s.wrong.double().to(device) for s in unread]).sum(),
                *torch.tensor(
                    [sum(s.images for s in unread), self.request.signal_number > 0, due],
                    dtype=torch.float64,
                    device=device,
                ),
            ]
        )
        loss, wrong, images, stops, due_ranks = self.ranks.sum(sums).tolist()
        return loss, wrong, images, stops, due_ranks

    def _finish_epoch(self, log: Log) -> None:
        """Evaluate an epoch's weights if it is due, log the results, and save checkpoints and state."""
        training, progress, split = self.recipe.training, self.progress, self.data.evaluation_split
        if not self.train_step.weights_are_finite():
            raise InputError(self._divergence_error_text("the loss is not a number any more"))
        evaluation = self._evaluate_epoch() if training.is_evaluated(progress.epoch) else None
        self._count_seconds()
        train_loss = progress.loss / progress.images
        train_error = 100 * progress.wrong / progress.images
        progress_text = (
            f"epoch {progress.epoch + 1:3d}/{training.epochs}  "
            f"loss {train_loss:.4f}  train error {train_error:.2f}%  "
        )
        log.metrics(
            EpochMetrics(
                run_step=(progress.epoch + 1) * self.order.steps,
                epoch=progress.epoch + 1,
                train_loss=train_loss,
                train_top1_error=train_error,
                split=split,
                evaluation_loss=evaluation.loss if evaluation else None,
                evaluation_top1_error=evaluation.top1_error if evaluation else None,
                seconds=progress.seconds,
            )
        )
        which = []
        if evaluation:
            progress_text += f"{split} error {evaluation.top1_error:.2f}%  "
            which.append("last")
            if split == "validation" and evaluation.top1_error < progress.best_error:
                progress.best_error = evaluation.top1_error
                which.append("best")
        log.message(f"{progress_text}{progress.seconds:.0f} s")
        progress.next_epoch()
        if evaluation and self.ranks.is_first:
            # Weights first: the state after an evaluation must never be there without their checkpoint.
            for name in which:
                self._save_checkpoint(name, evaluation)
        self._save()

    def _evaluate_epoch(self) -> Evaluation:
        """Evaluate the weights at the end of an epoch, with running statistics made anew if asked for."""
        if count := self.recipe.training.statistics_batches:
            # Of images of the size that is evaluated, whatever the epoch trains on.
            batches = itertools.islice(self._batches(0, None), count)
            recompute_statistics(self.train_step.evaluated, batches)
        try:
            return self._evaluate(self.data.images_of(self.data.evaluation_split))
        except NotFinite as error:
            raise NotFinite(self._divergence_error_text(str(error))) from error

    def _save_checkpoint(self, which: str, evaluation: Evaluation) -> None:
        save_checkpoint(
            self.folder.checkpoint(which),
            self.train_step.evaluated.state_dict(),
            self.train_step.model.config,
            self.data.classes,
            self.data.preprocessing,
            {
                "recipe": self.recipe.name,
                "data": self.recipe.to_dict()["data"],
                "epoch": self.progress.epoch,
                f"{self.data.evaluation_split}_top1_error": evaluation.top1_error,
                # The reported images, so that a later evaluation can check that it has the same.
                "split": self.data.reported,
                "reported": self.data.records[self.data.reported].to_dict(),
            },
        )

    def _save(self) -> None:
        self._count_seconds()
        self._saved_at = time.perf_counter()
        if self.ranks.is_first:
            self.folder.save_state(self.progress, self.train_step.state_dict())

    def _count_seconds(self) -> None:
        now = time.perf_counter()
        self.progress.seconds += now - self._counted_at
        self._counted_at = now

    def _evaluate(self, images: Images) -> Evaluation:
        model = self.train_step.evaluated
        # Without synchronised statistics each rank has its own; those of rank 0 are evaluated.
        self.ranks.broadcast_from_first(model.buffers())
        # Of large images as many as in a training step, for which there is enough memory.
        training_share = max(1, self.recipe.training.batch_size // self.ranks.shard.world_size)
        batches = evaluation_batches(
            images,
            _EVALUATION_BATCH if self.recipe.data.in_memory else training_share,
            self.ranks.shard,
            preprocessing=self.data.preprocessing,
            device=self.ranks.device,
            workers=self.recipe.data.workers,
        )
        return evaluate(
            model,
            batches,
            len(self.data.classes),
            self.ranks,
            channels_last=self.recipe.training.channels_last,
        )

    def _evaluate_result(self, log: Log) -> dict[str, Any]:
        """Evaluate the checkpoint that the recipe reports, and write the result."""
        self.ranks.barrier()  # until the first has written the checkpoint
        by_validation = self.recipe.training.report != "last" and self.data.validation is not None
        which, split = "best" if by_validation else "last", self.data.reported
        checkpoint = read_checkpoint(self.folder.checkpoint(which))
        self.train_step.evaluated.load_state_dict(checkpoint.model.state_dict())
        evaluation = dataclasses.replace(self._evaluate(self.data.images_of(split)), split=split)
        result = {
            "run": self.recipe.name,
            "checkpoint": which,
            "epoch": checkpoint.details["epoch"],
            "training_seconds": self.progress.seconds,
            **evaluation.to_dict(self.data.classes),
            "device": environment(self.ranks.device)["device"],
        }
        if self.ranks.is_first:
            write_evaluation(result, self.folder.path)
        top5 = f" (top-5 {evaluation.top5_error:.2f}%)" if tells_top5(len(self.data.classes)) else ""
        log.message(
            f"{split} error {evaluation.top1_error:.2f}%{top5} on "
            f"{evaluation.images} images after {self.progress.seconds:.0f} s of training"
            + (", of the epoch that these images chose" if by_validation and split == "validation" else "")
        )
        self.ranks.barrier()
        return result

    def _divergence_error_text(self, symptom: str) -> str:
        """The error text of a diverged run, with advice how to go on."""
        progress = self.progress
        last = self.folder.checkpoint("last")
        last_good = "there is no checkpoint yet"
        if last.exists():
            last_good = (
                f"the last good checkpoint is {last} (a new run begins with it by --model.weights {last})"
            )
        return (
            f"{symptom} (epoch {progress.epoch + 1}, step {progress.step}); "
            f"{last_good}; begin a new run, in another --out, with a lower --optimizer.learning-rate, or "
            "with --optimizer.gradient-clip 1"
        )
