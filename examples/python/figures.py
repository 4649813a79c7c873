# %% [markdown]
# # What MiAMix does to a batch
#
# Run it whole (`python figures.py --images photographs --out out`), or cell by cell in an editor that knows `# %%`.
# Needs matplotlib and pillow.

# %%
import argparse
from pathlib import Path

import numpy as np
from PIL import Image

import miamix

parser = argparse.ArgumentParser()
parser.add_argument("--images", type=Path, required=True, metavar="DIR")
parser.add_argument("--out", type=Path, required=True, metavar="DIR")
args = parser.parse_args()
args.out.mkdir(parents=True, exist_ok=True)

# %% [markdown]
# ## A batch: the middle square of each photograph

# %%
SIZE = 160


def middle(path):
    picture = Image.open(path).convert("RGB")
    side = min(picture.size)
    box = [(room - side) // 2 for room in picture.size]
    return np.asarray(picture.resize((SIZE, SIZE), box=(*box, box[0] + side, box[1] + side)))


paths = sorted(path for path in args.images.rglob("*") if path.suffix.lower() in {".png", ".jpg", ".jpeg"})
images = np.stack([middle(path) for path in paths])
labels = np.arange(len(images))

# %% [markdown]
# ## A plan holds every random decision: look at it before, or after, it is used

# %%
mix = miamix.MiAMix(num_classes=len(images), layout="NHWC", k_max=3)
plan = mix.draw(images.shape, seed=3)
miamix.show(plan, images).savefig(args.out / "batch.png", dpi=120)
mixed, targets = plan.apply(images, labels)
print(plan, "label weights", plan.label_weight().round(2))

# %% [markdown]
# ## One method at a time

# %%
for method in ("mixup", "cutmix", "fmix", "gridmix", "agmix", "gmix"):
    one = miamix.MiAMix(layout="NHWC", k_max=1, method_weights={method: 1}, p_self=0)
    figure = miamix.show(one.draw(images.shape, seed=1), images, count=3)
    figure.savefig(args.out / f"{method}.png", dpi=120)

# %% [markdown]
# ## Segmentation is mixed as the image is

# %%
bright = (images.mean(axis=3) > 128).astype(np.uint8)  # stands in for a map of two classes
maps = plan.apply_masks(bright)
share = [int((maps[i] == bright[i]).mean() * 100) for i in range(len(maps))]
print("pixels whose class is the primary's, %:", share)

# %% [markdown]
# ## A plan is kept as JSON and gives the same bits again

# %%
(args.out / "plan.json").write_text(plan.to_json(), encoding="utf-8")
again = miamix.Plan.from_json((args.out / "plan.json").read_text(encoding="utf-8"), mix)
assert np.array_equal(again.apply(images)[0], mixed)
