"""MiAMix: multi-stage mixed-sample data augmentation.

Each image of a training batch is mixed with a partner under a mask that is drawn in several random stages, and the
labels by the share of pixels that each image keeps::

    mix = miamix.MiAMix(num_classes=10)
    mixed, targets = mix(images, labels)

Equal parameters, shapes and seeds give equal bits in every language, for any number of threads.
"""

from ._library import MiamixError, MiamixValueError, Status, library_path, version
from ._mix import CudaSizes, DevicePlan, MiAMix, Plan, check_labels
from ._parameters import Parameters
from ._show import show

__version__: str = version().decode()
__all__ = [
    "CudaSizes",
    "DevicePlan",
    "MiAMix",
    "MiamixError",
    "MiamixValueError",
    "Parameters",
    "Plan",
    "Status",
    "check_labels",
    "library_path",
    "show",
]
