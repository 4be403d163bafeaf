"""Numbers by step: what they are, what they add up to, and how many steps an amount takes, counted one by one."""

import pytest

from tasks.architectures.step_schedule import StepSchedule, check_phases


@pytest.mark.parametrize("phases", [(), ((3, 2),), ((1, 5), (4, 1))])
def test_sums_and_their_inverse(phases: tuple[tuple[int, int], ...]) -> None:
    schedule = StepSchedule(8, phases)
    each = [schedule.at(step) for step in range(10)]
    assert each[9] == 8
    assert [each[until - 1] for until, _ in phases] == [number for _, number in phases]
    for step in range(10):
        assert schedule.before(step) == sum(each[:step])
        if step:
            assert schedule.steps_for(schedule.before(step)) == step
    assert schedule.steps_for(0.1) == 1
    assert schedule.parts(2).before(10) == sum(number // 2 for number in each)


def test_phases_follow_one_another_and_end() -> None:
    check_phases("x", [], 5)
    check_phases("x", [2, 4], None)
    with pytest.raises(ValueError, match="x: until_step must grow from phase to phase, got 3 after 3"):
        check_phases("x", [3, 3], None)
    with pytest.raises(ValueError, match=r"x: the last until_step \(5\) must be less than steps \(5\)"):
        check_phases("x", [3, 5], 5)
