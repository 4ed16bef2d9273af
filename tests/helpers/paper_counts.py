"""Parameters of the paper's networks, counted from its layer rules."""

# For 10 and for 100 classes; the paper prints 1.0M, 7.0M, 27.2M, 0.8M, 15.3M and 25.6M for the former.
CIFAR_PARAMETERS = {
    "densenet-40-12": (1_019_722, 1_060_132),
    "densenet-100-12": (6_979_642, 7_084_852),
    "densenet-100-24": (27_249_082, 27_457_972),
    "densenet-bc-100-12": (769_162, 800_032),
    "densenet-bc-250-24": (15_324_406, 15_480_556),
    "densenet-bc-190-40": (25_624_430, 25_821_620),
}
# For 1000 classes.
IMAGENET_PARAMETERS = {
    "densenet121": 7_978_856,
    "densenet169": 14_149_480,
    "densenet201": 20_013_928,
    "densenet264": 33_337_704,
    "densenet161": 28_681_000,
    "densenet232-48": 55_570_984,
    "densenet264-48": 72_686_632,
}
