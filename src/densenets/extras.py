"""The extras of the package: what each brings, whether it is installed, and what to say where it is not.

`pip install densenets` brings what training, evaluation and prediction need; figures and the rest come with
`pip install "densenets[plots]"` and so on. A verb asks here before it begins to work; nothing is imported.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Literal

from densenets.errors import InputError
from densenets.names import tell

Extra = Literal[
    "plots",
    "report",
    "tensorboard",
    "saliency",
    "digits",
    "keras",
    "onnx",
    "openvino",
    "int8",
    "parquet",
    "hub",
]

# As in pyproject.toml, which also has their lowest versions.
PACKAGES: Mapping[Extra, tuple[str, ...]] = {
    "plots": ("matplotlib",),
    "report": ("bokeh", "jinja2", "matplotlib"),
    "tensorboard": ("tensorboard",),
    "saliency": ("torchcam", "matplotlib"),
    "digits": ("scikit-learn",),
    "keras": ("h5py",),
    "onnx": ("onnx", "onnxruntime", "onnxscript"),
    "openvino": ("openvino",),
    "int8": ("nncf", "openvino"),
    "parquet": ("pyarrow",),
    "hub": ("huggingface_hub",),
}
_MODULES = {"scikit-learn": "sklearn"}  # of packages that are imported by another name


def missing_packages(extra: Extra) -> list[str]:
    """The packages of an extra that are not installed. One that is, but is broken, is not missing."""
    return [package for package in PACKAGES[extra] if not _is_installed(_MODULES.get(package, package))]


def pip_command(extra: Extra) -> str:
    """The command that installs an extra."""
    return f'pip install "densenets[{extra}]"'


def require(extra: Extra, needed_by: str) -> None:
    """Check, before any work, that an extra is there.

    Args:
        extra: its name.
        needed_by: the verb or function that cannot do without it.

    Raises:
        InputError: a package of it is not installed; the line says how to install it.
    """
    if missing := missing_packages(extra):
        raise InputError(f"{needed_by} needs {_listed(missing)}, which {_advice(extra, missing)}")


def has_extra(extra: Extra, omitted: str) -> bool:
    """Whether an extra is there; where it is not, a line on standard error says what is left out.

    Args:
        extra: its name.
        omitted: what is not made without it.
    """
    missing = missing_packages(extra)
    if missing:
        tell(f"no {omitted}: {_listed(missing)} {_advice(extra, missing)}")
    return not missing


def _is_installed(module: str) -> bool:
    spec = importlib.util.find_spec(module)
    # A folder of that name in the current folder, as a run's "tensorboard", is a package without an origin.
    return spec is not None and spec.origin is not None


def _listed(packages: list[str]) -> str:
    return " and ".join((", ".join(packages[:-1]), packages[-1])) if packages[1:] else packages[0]


def _advice(extra: Extra, missing: list[str]) -> str:
    several = len(missing) > 1
    return (
        f"{'are' if several else 'is'} not installed; {pip_command(extra)} brings "
        f"{'them' if several else 'it'}"
    )
