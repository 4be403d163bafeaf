"""Curves of a training that was continued have no gap and no step twice."""

from tasks.model.curves import CurveWriter, read_curves


def test_curves_continue_without_gap_or_double(tmp_path):
    first = CurveWriter(tmp_path / "a.csv")
    for step in range(1, 6):
        first.write({"step": step, "loss": 1 / step})
    first.close()
    second = CurveWriter(tmp_path / "b.csv", tmp_path / "a.csv", step=3)
    for step in range(4, 7):
        second.write({"step": step, "loss": 1 / step})
    second.close()
    assert [row["step"] for row in read_curves(tmp_path / "b.csv")] == ["1", "2", "3", "4", "5", "6"]
