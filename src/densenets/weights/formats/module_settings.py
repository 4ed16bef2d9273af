"""What the objects of a whole network say beside its tensors: strides, padding, pooling, activations.

Only PyTorch's own modules are judged; what a network's class does in its forward stands in no file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from densenets.pickles import StandIn

_TORCH = "torch.nn.modules."
_MODULES_OF_A_DENSENET = ("batchnorm", "container", "dropout", "flatten", "linear")
_STRIDES = {1: 1, 3: 1, 7: 2}  # side of a kernel -> its stride
_BEHIND_LOGITS = ("LogSoftmax", "Sigmoid", "Softmax")
_LAST_POOL = 4  # a kernel of this side or a larger one covers the last maps


@dataclass(frozen=True)
class _Module:
    """A module of a network.

    Attributes:
        name: with its parents', as in a state dict.
        room: of its class in torch.nn.modules, such as "conv"; "" of a class from elsewhere.
        kind: name of its class.
        values: its attributes.
        is_leaf: whether it has neither tensors nor modules.
        in_head: whether it is beside a linear layer and no convolution.
    """

    name: str
    room: str
    kind: str
    values: Mapping[str, Any]
    is_leaf: bool
    in_head: bool

    def sides(self, setting: str, default: int = 0) -> set[Any]:
        """The values of a setting that has one for each side, or one for all."""
        value = self.values.get(setting, default)
        values = value if isinstance(value, tuple | list) else (value,)
        return {one if isinstance(one, int | str) else "another" for one in values}


def other_function(network: StandIn) -> str:
    """A module by which a network is no DenseNet, whatever its tensors are, for people; "" without one."""
    modules = list(_walk(network))
    for module in modules:
        if module.room and (reason := _reason(module)):
            return f"{module.name:.200} ({module.kind:.100}) {reason}"
    pools = [module for module in modules if module.room == "pooling"]
    stems = [module for module in modules if module.room == "conv" and module.sides("kernel_size") == {7}]
    largest = [module for module in pools if module.kind.startswith("MaxPool")]
    if pools and stems and not largest:
        return f"{stems[0].name:.200} has no max pooling behind it"
    if len(largest) > len(stems):
        return f"{largest[-1].name:.200} pools where no DenseNet does"
    return ""


def notes_of(network: StandIn) -> tuple[str, ...]:
    """What is left out of a network, for people: functions behind its logits, modules that are not known."""
    notes: dict[str, str] = {}
    for module in _walk(network):
        if module.room == "activation" and module.kind in _BEHIND_LOGITS:
            left_out = "its outputs may be {:.100} of the logits ({:.200}); the checkpoint's are the logits"
        elif not module.room and module.is_leaf:
            left_out = "what {:.100} computes ({:.200}) is not known here, and left out"
        else:
            continue
        notes.setdefault(module.kind, left_out.format(module.kind, module.name))
    return tuple(notes.values())


def _reason(module: _Module) -> str:
    """How a module of PyTorch's own differs from all of a DenseNet's; "" if it does not."""
    if module.room == "conv":
        return _of_convolution(module)
    if module.room == "pooling":
        return _of_pooling(module)
    if module.room == "activation":
        allowed = module.in_head or module.kind == "ReLU" or module.kind in _BEHIND_LOGITS
        return "" if allowed else "stands where a DenseNet has a ReLU, or nothing"
    return "" if module.room in _MODULES_OF_A_DENSENET else "is in no DenseNet"


def _of_convolution(module: _Module) -> str:
    kernel = module.sides("kernel_size")
    side = next(iter(kernel), 0)
    if len(kernel) != 1 or side not in _STRIDES:
        return ""  # its shape is not a DenseNet's
    expected = {"stride": _STRIDES[side], "padding": side // 2, "dilation": 1, "groups": 1}
    for setting, value in expected.items():
        found = module.sides(setting, 1)
        if found not in ({value}, {"same"}):
            return f"has {setting} {_text(found)}, where a DenseNet's has {value}"
    mode = module.values.get("padding_mode", "zeros")
    return "" if mode == "zeros" else f"pads by {mode}, where a DenseNet's pads with zeros"


def _of_pooling(module: _Module) -> str:
    if module.kind.startswith("AdaptiveAvgPool"):
        return ""
    kernel = module.sides("kernel_size")
    stride = module.sides("stride") if module.values.get("stride") is not None else kernel
    padding, is_ceil = module.sides("padding"), bool(module.values.get("ceil_mode", False))
    if module.kind.startswith("MaxPool"):
        fits = (kernel, stride, padding) == ({3}, {2}, {1}) and module.sides("dilation", 1) == {1}
    elif module.kind.startswith("AvgPool"):
        covers = all(isinstance(side, int) and side >= _LAST_POOL for side in kernel)
        fits = padding == {0} and ((kernel, stride) == ({2}, {2}) or covers)
    else:
        return "is in no DenseNet"
    return "" if fits and not is_ceil else "has another kernel, stride or padding than a DenseNet's"


def _text(values: set[Any]) -> str:
    return " and ".join(sorted(str(value) for value in values))


def _walk(network: StandIn) -> Iterator[_Module]:
    """The modules of a network in their order, each once."""
    rooms: dict[int, set[str]] = {}
    for module, _ in reversed(list(_parts(network))):  # children before their parents
        rooms[id(module)] = {_room(module)}.union(
            *(rooms.get(id(child), ()) for _, child in _children(module))
        )
    heads: set[int] = set()
    for module, name in _parts(network):
        children = [child for _, child in _children(module)]
        below = set().union(*(rooms[id(child)] for child in children))
        if id(module) in heads or ("linear" in below and "conv" not in below):
            heads.update(map(id, children))
        values = vars(module)
        is_leaf = not any(values.get(part) for part in ("_modules", "_parameters", "_buffers"))
        yield _Module(name, _room(module), type(module).__name__, values, is_leaf, id(module) in heads)


def _parts(network: StandIn) -> Iterator[tuple[StandIn, str]]:
    """A network and all modules in it, parents first, with their names."""
    waiting, seen = [(network, "")], {id(network)}
    while waiting:
        module, name = waiting.pop()
        yield module, name
        for key, child in reversed(_children(module)):
            if id(child) not in seen:  # a file may have one inside of itself
                seen.add(id(child))
                waiting.append((child, f"{name}.{key}" if name else key))


def _children(module: StandIn) -> list[tuple[str, StandIn]]:
    children = vars(module).get("_modules")
    if not isinstance(children, Mapping):
        return []
    return [(str(key), child) for key, child in children.items() if isinstance(child, StandIn)]


def _room(module: StandIn) -> str:
    """The part of torch.nn.modules that a module's class is from; "" of one from elsewhere."""
    path = type(module).__module__
    return path.removeprefix(_TORCH).partition(".")[0] if path.startswith(_TORCH) else ""
