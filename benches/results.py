"""How results are read: both the page and the plots show them through this."""

from collections.abc import Iterable

from batch import Batch

OPERATOR, PLAIN, STREAMING, MEMCPY = "operator", "floor_plain", "floor_streaming", "memcpy"
LABELS = {
    OPERATOR: "MiAMix (this library)",
    PLAIN: "floor, plain stores",
    STREAMING: "floor, streaming stores",
    MEMCPY: "memcpy",
}
MIXUP_OF_TIMM = ("timm Mixup", "timm FastCollateMixup")
IN_PYTORCH, IN_NUMPY = "MiAMix in batched PyTorch", "MiAMix in NumPy, in place"


def ms(result: dict, contender: str) -> float | None:
    """The median, if there is one."""
    times = result["times"].get(contender)
    return times and 1e3 * times["median"]


def floor_ms(result: dict) -> float:
    """The faster of the two blends."""
    return min(ms(result, PLAIN), ms(result, STREAMING))


def first_ms(result: dict, contenders: Iterable[str]) -> float | None:
    """Of the first contender that took the batch."""
    return next((found for name in contenders if (found := ms(result, name)) is not None), None)


def batch_of(result: dict) -> Batch:
    return Batch(**result["batch"])


def contenders(results: list[dict]) -> list[str]:
    """Every contender but the floors' parts, the operator first, each once."""
    names = dict.fromkeys(name for result in results for name in (*result["times"], *result["refused"]))
    return [name for name in names if name not in (PLAIN, STREAMING, MEMCPY)]


def what(row: dict) -> str:
    """A layer of the section `methods`, in words."""
    added = [name for name in ("warped", "smoothed") if row[name]]
    return " ".join([row["method"], *([", ".join(added)] if added else [])])
