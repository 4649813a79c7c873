"""The cases that the Rust API wrote: every element type, kind of labels and layout, every kind of error."""

import os

import cases
import pytest

FOLDER = os.environ.get("MIAMIX_CASES", "")


def test_every_kind_of_case_is_there():
    names = cases.names(FOLDER)
    for dtype in ("float", "float16", "bfloat16", "uint8"):
        for labels in ("ids", "soft"):
            for layout in ("nchw", "nhwc"):
                case = cases.read(FOLDER, f"{dtype}-{labels}-{layout}")
                assert case.error is None and all(len(run.outputs) == 5 for run in case.runs)
    errors = [cases.read(FOLDER, name) for name in names if name.startswith("error-")]
    assert len(names) == 16 + len(errors) and len(errors) >= 12
    assert all(case.error for case in errors)


@pytest.mark.parametrize("name", cases.names(FOLDER))
def test_it_goes_as_in_rust(name):
    assert cases.attempt(cases.read(FOLDER, name)) == ""


def test_a_difference_is_seen():
    case = cases.read(FOLDER, "bfloat16-ids-nchw")
    labels = case.runs[0].outputs["mixed_labels"]
    labels.array[0, 0] += 1
    assert cases.attempt(case) == "run 1 on 1 threads: mixed_labels differs in 1 of 120"
    assert cases.attempt(case._replace(error="an error")).startswith("no error, and it must be")
