"""The seeds of the fuzzer, and what it once found: nothing but outcomes and clear errors."""

import pytest

from tests.helpers.fuzzed import SEEDS, TARGETS

CASES = sorted(f"{path.parent.name}/{path.name}" for path in SEEDS.glob("*/*"))


@pytest.mark.parametrize("case", CASES)
def test_bytes_of_strangers_become_outcomes(case: str) -> None:
    TARGETS[case.partition("/")[0]]((SEEDS / case).read_bytes())


def test_every_target_has_seeds() -> None:
    assert {case.partition("/")[0] for case in CASES} == set(TARGETS)
