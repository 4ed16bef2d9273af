"""Parameters of the networks that DenseNet is compared with, for 10 classes, or 1000 for ImageNet's.

Each beside what its authors print, and where.
"""

# In millions: He et al. 2016 (arXiv 1512.03385), Table 6; Zagoruyko and Komodakis 2016 (arXiv 1605.07146),
# Table 5; He et al. 2016 (arXiv 1603.05027), Table 4; Springenberg et al. 2015 (arXiv 1412.6806), Table 4;
# Srivastava et al. 2015 (arXiv 1507.06228), Table 1; Larsson et al. 2017 (arXiv 1605.07648), Table 3.
PRINTED = {
    "resnet20": 0.27,
    "resnet32": 0.46,
    "resnet44": 0.66,
    "resnet56": 0.85,
    "resnet110": 1.7,
    "resnet1202": 19.4,
    "stochastic-depth-110": 1.7,
    "wrn-16-4": 2.7,
    "wrn-16-8": 11.0,
    "wrn-28-10": 36.5,
    "preact-resnet110": 1.7,
    "preact-resnet164": 1.7,
    "preact-resnet1001": 10.2,
    "nin": 1.0,
    "dsn": 1.0,
    "all-cnn": 1.3,
    "highway-19": 2.3,
    "highway-32": 1.25,
    "fractalnet-10-16": 0.8,
    "fractalnet-20-16": 2.1,
    "fractalnet-40-16": 4.8,
    "fractalnet-80-16": 10.2,
    "fractalnet-160-16": 21.1,
}
# Two that the tables print and their own rules do not give: DenseNet's Table 2.
MISPRINTED = {"stochastic-depth-1202": 10.2, "fractalnet-20": 38.6}
# To the last weight: what several public implementations count.
COUNTED = {
    "nin": 966_986,
    "all-cnn": 1_369_738,
    "resnet20": 269_722,
    "resnet110": 1_727_962,
    "resnet1202": 19_421_274,
    "preact-resnet164": 1_703_258,
    "wrn-28-10": 36_479_194,
}
