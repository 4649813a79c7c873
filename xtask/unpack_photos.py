"""Takes the colour photographs out of a scikit-image wheel: unpack_photos.py FOLDER_OF_THE_WHEEL OUT."""

import sys
import zipfile
from pathlib import Path

PHOTOS = (
    "astronaut.png",
    "chelsea.png",
    "coffee.png",
    "hubble_deep_field.jpg",
    "motorcycle_left.png",
    "retina.jpg",
    "rocket.jpg",
)

folder, out = map(Path, sys.argv[1:])
(wheel,) = folder.glob("scikit_image-*.whl")
with zipfile.ZipFile(wheel) as archive:
    for name in PHOTOS:
        (out / name).write_bytes(archive.read(f"skimage/data/{name}"))
