"""What the self-test answers: PyTorch's devices, and checks of kernels and executions. Needs no PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

CHECKING = "checking "  # begins the line on standard error that says which check comes next


@dataclass(frozen=True, kw_only=True)
class Device:
    """A device that PyTorch computes on.

    Attributes:
        device: such as "cpu" or "cuda:0".
        name: its own.
        memory: bytes; None of the CPU.
    """

    device: str
    name: str
    memory: int | None

    @property
    def type(self) -> str:
        """The device type, such as "cuda"."""
        return self.device.partition(":")[0]


@dataclass(frozen=True, kw_only=True)
class Check:
    """Kernels or an execution held against PyTorch in float64.

    All errors are relative, of whole tensors by the norm; those here are of the tensor that comes nearest to
    what is allowed.

    Attributes:
        subject: what is checked, such as "native kernels, avx2".
        part: what it computed, such as "dense block".
        precision: such as "float32".
        tensor: the result, gradient or running statistic whose errors these are; empty if it failed.
        error: of the subject; None where it is not finite.
        pytorch_error: of PyTorch's own modules in the same precision.
        allowed: the most that `error` may be.
        failure: why it computed nothing, in a line; None where it did.
    """

    subject: str
    part: str
    precision: str
    tensor: str = ""
    error: float | None = None
    pytorch_error: float = 0.0
    allowed: float = 0.0
    failure: str | None = None

    @property
    def passed(self) -> bool:
        """Whether it computed what PyTorch computes."""
        return self.failure is None and self.error is not None and self.error <= self.allowed

    @property
    def subject_text(self) -> str:
        """What is checked, with precision and part."""
        return f"{self.subject}, {self.precision}, {self.part}"

    def __str__(self) -> str:
        """What was checked, and what came out."""
        if self.failure is not None:
            return f"{self.subject_text}: {self.failure}"
        error = "not finite" if self.error is None else f"off by {self.error:.2g}"
        return f"{self.subject_text}: {self.tensor} is {error}, PyTorch's own by {self.pytorch_error:.2g}"


@dataclass(frozen=True, kw_only=True)
class SelfTestAnswer:
    """The answer of the self-test's process.

    Attributes:
        devices: that PyTorch computes on, the CPU first.
        gpu_support: what this build of PyTorch is for, such as "CUDA 13.0".
        threads: that PyTorch computes with on the CPU.
        checks: their outcomes.
    """

    devices: tuple[Device, ...]
    gpu_support: str
    threads: int | None
    checks: tuple[Check, ...]
