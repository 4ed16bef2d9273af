"""Manifest of published DenseNet weights: their files, checksums, pixels, classes, terms. Needs no PyTorch.

Every fact is one that the source or the README of the named version of the publishing package states; what
it does not state is None or "not stated". `caches` finds the files on this machine, `download` fetches them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from densenets.data.preprocessing import Preprocessing, imagenet_preprocessing
from densenets.errors import InputError, unknown_name
from densenets.models.densenet_config import DenseNetConfig
from densenets.models.registry import named_config

NOT_STATED = "not stated"
HUGGING_FACE = "https://huggingface.co"


@dataclass(frozen=True, kw_only=True)
class Checksum:
    """What a file's checksum is, or begins with.

    Attributes:
        kind: of the checksum.
        digits: hexadecimal; fewer than it has where its first are published alone.
    """

    kind: Literal["sha256", "md5"]
    digits: str

    def fits(self, hexadecimal: str) -> bool:
        """Whether a file's checksum is this one, as far as it is published."""
        return hexadecimal.startswith(self.digits)


@dataclass(frozen=True, kw_only=True)
class PublishedWeights:
    """The published weights of a DenseNet.

    Attributes:
        name: the package and its own name of them, "torchvision/densenet121".
        package: that publishes them.
        version: of the package, from whose source these facts are.
        network: name in the registry of the network that they are of, up to the next three fields.
        num_classes: width of the classifier; 0 where the file has none.
        in_channels: channels of the image.
        norm_epsilon: of every BN.
        url: of the file.
        file_name: as it is kept here.
        mebibytes: size of the file as published; None where it is not stated.
        checksum: of the file; None where none is published.
        key_form: what the file is, and how its tensors are called.
        preprocessing: from a picture to the network's input.
        interpolation: of the package's own resizing; "not stated" where it leaves that to its users.
        labels: names of the logits in their order, "" of one that was not trained; "imagenet" for ImageNet's
            1000; none without a classifier.
        thresholds: the probability of each logit from which the package takes its label for present; None
            for one that was not trained. Empty where the package has none.
        trained_on: the images.
        top1: accuracy on them in percent, as published; None where it is not stated.
        top5: the same for the five likeliest classes.
        licence: of the weights.
        licence_note: what the package says of it.
        notes: what else is to be known.
        hub_repository: at Hugging Face; "" for weights that lie elsewhere.
    """

    name: str
    package: str
    version: str
    network: str
    num_classes: int
    in_channels: int = 3
    norm_epsilon: float = 1e-5
    url: str
    file_name: str
    mebibytes: float | None = None
    checksum: Checksum | None = None
    key_form: str
    preprocessing: Preprocessing
    interpolation: str
    labels: tuple[str, ...] | Literal["imagenet"]
    thresholds: tuple[float | None, ...] = ()
    trained_on: str
    top1: float | None = None
    top5: float | None = None
    licence: str = NOT_STATED
    licence_note: str
    notes: tuple[str, ...] = ()
    hub_repository: str = ""

    @property
    def config(self) -> DenseNetConfig:
        """Config of the network that computes with them."""
        config = named_config(self.network)
        assert isinstance(config, DenseNetConfig)
        return dataclasses.replace(
            config,
            num_classes=self.num_classes,
            in_channels=self.in_channels,
            norm_epsilon=self.norm_epsilon,
        )

    def class_names(self) -> tuple[str, ...]:
        """Names of the logits in their order, "" of one that was not trained. ImageNet's need torchvision."""
        if self.labels != "imagenet":
            return self.labels
        from torchvision.models import DenseNet121_Weights

        return tuple(DenseNet121_Weights.IMAGENET1K_V1.meta["categories"])


def published_weights(name: str, network: str = "") -> PublishedWeights:
    """The entry of a name; a package's name alone means its only weights of the network.

    Args:
        name: such as "timm/densenet121.ra_in1k", or "torchvision".
        network: name of the network, such as "densenet121"; "" if not known.

    Raises:
        InputError: nothing has this name, or the package has no weights, or several, of the network.
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    of_package = [entry for entry in PUBLISHED.values() if entry.package == name]
    if not of_package:
        raise unknown_name("weights", name, PUBLISHED)
    fitting = [entry for entry in of_package if entry.network == network and entry.num_classes]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(entry.name for entry in fitting or of_package)
    what = (
        f"several weights of {network}" if fitting else f"no weights of {network}" if network else "several"
    )
    raise InputError(f"{name} has {what}; name one of {names}")


_IMAGENET = imagenet_preprocessing(3, 224, scale_only=False)


def _torchvision() -> Iterable[PublishedWeights]:
    # network, first digits of the checksum, size, accuracies
    for network, digits, mebibytes, top1, top5 in (
        ("densenet121", "a639ec97", 30.845, 74.434, 91.972),
        ("densenet169", "b2777c0a", 54.708, 75.600, 92.806),
        ("densenet201", "c1103571", 77.373, 76.896, 93.370),
        ("densenet161", "8d451a50", 110.369, 77.138, 93.560),
    ):
        file_name = f"{network}-{digits}.pth"
        yield PublishedWeights(
            name=f"torchvision/{network}",
            package="torchvision",
            version="0.29.1",
            network=network,
            num_classes=1000,
            url=f"https://download.pytorch.org/models/{file_name}",
            file_name=file_name,
            mebibytes=mebibytes,
            checksum=Checksum(kind="sha256", digits=digits),
            key_form="a PyTorch state dict, torchvision's keys of before its modules were renamed (norm.1)",
            preprocessing=_IMAGENET,
            interpolation="bilinear",
            labels="imagenet",
            trained_on="ImageNet-1K",
            top1=top1,
            top5=top5,
            licence_note="the README says that weights may have terms of their own, derived from the data "
            "set that they were trained on",
            notes=("ported from LuaTorch",),
        )


def _timm() -> Iterable[PublishedWeights]:
    at_288 = "timm tests it at 288 pixels, the central 0.95 of a picture"
    for network, tag, notes in (
        ("densenet121", "ra_in1k", (at_288,)),
        ("densenet121", "tv_in1k", ()),
        ("densenet169", "tv_in1k", ()),
        ("densenet201", "tv_in1k", ()),
        ("densenet161", "tv_in1k", ()),
    ):
        yield PublishedWeights(
            name=f"timm/{network}.{tag}",
            package="timm",
            version="1.0.31",
            network=network,
            num_classes=1000,
            url=f"{HUGGING_FACE}/timm/{network}.{tag}/resolve/main/model.safetensors",
            file_name=f"{network}.{tag}.safetensors",
            key_form="safetensors, torchvision's keys of today or of before its modules were renamed",
            preprocessing=_IMAGENET,
            interpolation="bicubic",
            labels="imagenet",
            trained_on="ImageNet-1K",
            licence="apache-2.0",
            licence_note="the README says that ImageNet was released for non-commercial research, and that "
            "one should assume that its terms apply to the weights",
            notes=notes,
            hub_repository=f"timm/{network}.{tag}",
        )


_PATHOLOGIES = (
    *("Atelectasis", "Consolidation", "Infiltration", "Pneumothorax", "Edema", "Emphysema", "Fibrosis"),
    *("Effusion", "Pneumonia", "Pleural_Thickening", "Cardiomegaly", "Nodule", "Mass", "Hernia"),
    *("Lung Lesion", "Fracture", "Lung Opacity", "Enlarged Cardiomediastinum"),
)
# Pixels from -1024 to 1024: (x - 0.5) / (1 / 2048) of those in 0 ... 1.
_RADIOGRAPH = Preprocessing(channels=1, image_size=224, resize=224, mean=(0.5,), std=(1 / 2048,))
_RADIOGRAPH_FILE = "densenet121-d121-tw-lr001-rot45-tr15-sc15-seed0-best.pt"
_NO = None  # the threshold of a logit that was not trained


def _torchxrayvision() -> Iterable[PublishedWeights]:
    for name, file_start, trained_on, thresholds in _RADIOGRAPHS:
        file_name = f"{file_start}-{_RADIOGRAPH_FILE}"
        labels = (
            "" if threshold is _NO else label
            for label, threshold in zip(_PATHOLOGIES, thresholds, strict=True)
        )
        yield PublishedWeights(
            name=f"torchxrayvision/densenet121-res224-{name}",
            package="torchxrayvision",
            version="1.5.7",
            network="densenet121",
            num_classes=len(_PATHOLOGIES),
            in_channels=1,
            url=f"https://github.com/mlmed/torchxrayvision/releases/download/v1/{file_name}",
            file_name=file_name,
            key_form="a pickled torchxrayvision.models.DenseNet, whose keys are torchvision's of today",
            preprocessing=_RADIOGRAPH,
            interpolation="bilinear",
            labels=tuple(labels),
            thresholds=thresholds,
            trained_on=trained_on,
            licence_note="the package is under the Apache licence; of the weights it states none",
            notes=("a label is a yes or no by itself: sigmoid, not softmax",),
        )


_RADIOGRAPHS: tuple[tuple[str, str, str, tuple[float | None, ...]], ...] = (
    (
        "all",
        "nih-pc-chex-mimic_ch-google-openi-kaggle",
        "nih-pc-chex-mimic_ch-google-openi-rsna",
        (
            *(0.07422872, 0.038290843, 0.09814756, 0.0098118475, 0.023601074, 0.0022490358, 0.010060724),
            *(0.103246614, 0.056810737, 0.026791653, 0.050318155, 0.023985857, 0.01939503, 0.042889766),
            *(0.053369623, 0.035975814, 0.20204692, 0.05015312),
        ),
    ),
    (
        "nih",
        "nih",
        "NIH ChestX-ray14",
        (
            *(0.039117552, 0.0034529066, 0.11396341, 0.0057298196, 0.00045666535, 0.0018880932, 0.012037827),
            *(0.038744126, 0.0037213727, 0.014730946, 0.016149804, 0.054241467, 0.037198864, 0.0004403434),
            *(_NO, _NO, _NO, _NO),
        ),
    ),
    (
        "pc",
        "pc",
        "PadChest",
        (
            *(0.031012505, 0.013347598, 0.081435576, 0.001262615, 0.002587246, 0.0035944257, 0.0023071),
            *(0.055412333, 0.044385884, 0.042766232, 0.043258056, 0.037629247, 0.005658899, 0.0091741895),
            *(_NO, 0.026507627, _NO, _NO),
        ),
    ),
    (
        "chex",
        "chex",
        "CheXpert (Stanford)",
        (
            *(0.1988969, 0.05710573, _NO, 0.0531293, 0.1435217, _NO, _NO),
            *(0.27212676, 0.07749717, _NO, 0.19712369, _NO, _NO, _NO),
            *(0.09932402, 0.09273402, 0.3270967, 0.10888247),
        ),
    ),
    (
        "rsna",
        "kaggle",
        "RSNA Pneumonia Challenge",
        (*[_NO] * 8, 0.13486601, *[_NO] * 7, 0.13511065, _NO),
    ),
    (
        "mimic_nb",
        "mimic_nb",
        "MIMIC-CXR (MIT)",
        (
            *(0.08558747, 0.011884617, _NO, 0.0040595434, 0.010733786, _NO, _NO),
            *(0.118761964, 0.022924708, _NO, 0.06358637, _NO, _NO, _NO),
            *(0.022143636, 0.017476924, 0.1258702, 0.014020768),
        ),
    ),
    (
        "mimic_ch",
        "mimic_ch",
        "MIMIC-CXR (MIT)",
        (
            *(0.09121389, 0.010573786, _NO, 0.005023008, 0.003698257, _NO, _NO),
            *(0.08001232, 0.037242252, _NO, 0.05006329, _NO, _NO, _NO),
            *(0.019866971, 0.03823637, 0.11303808, 0.0069147074),
        ),
    ),
)


def _keras() -> Iterable[PublishedWeights]:
    for network, whole, without_classifier in (
        ("densenet121", "9d60b8095a5708f2dcce2bca79d332c7", "30ee3e1110167f948a6b9946edeeb738"),
        ("densenet169", "d699b8f76981ab1b30698df4c175e90b", "b8c4d4c20dd625c148057b9ff1c1176b"),
        ("densenet201", "1ceb130c1ea1b78c3bf6114dbdfd8807", "c13680b51ded0fb44dff2d8f86ac8bb1"),
    ):
        for digits, num_classes in ((whole, 1000), (without_classifier, 0)):
            file_end = ".h5" if num_classes else "_notop.h5"
            file_name = f"{network}_weights_tf_dim_ordering_tf_kernels{file_end}"
            yield PublishedWeights(
                name=f"keras/{network}" + ("" if num_classes else "-notop"),
                package="keras",
                version="3.15.1",
                network=network,
                num_classes=num_classes,
                norm_epsilon=1.001e-5,
                url=f"https://storage.googleapis.com/tensorflow/keras-applications/densenet/{file_name}",
                file_name=file_name,
                checksum=Checksum(kind="md5", digits=digits),
                key_form="HDF5, Keras' names of layers (conv2_block1_1_conv)",
                preprocessing=_IMAGENET,
                interpolation=NOT_STATED,
                labels="imagenet" if num_classes else (),
                trained_on="ImageNet",
                licence_note="the package is under the Apache licence; of the weights it states none",
                notes=(
                    "Keras states the normalisation and the input's 224 pixels, not how pictures become that "
                    "large: the resizing is the usual one of ImageNet",
                ),
            )


PUBLISHED: dict[str, PublishedWeights] = {
    entry.name: entry
    for entries in (_torchvision(), _timm(), _torchxrayvision(), _keras())
    for entry in entries
}
