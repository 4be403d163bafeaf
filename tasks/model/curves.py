"""Learning curves: one CSV row a step, written as training goes, without gaps or doubles over restarts."""

import csv
from collections.abc import Sequence
from pathlib import Path

PRETRAINING_COLUMNS = ("step", "tokens", "loss", "learning_rate", "gradient_norm", "validation_bits_per_byte")
TUNING_COLUMNS = ("step", "tokens", "loss", "learning_rate", "gradient_norm", "token_accuracy")


class CurveWriter:
    """Appends rows to `path`, flushed one by one so that others can follow the file.

    `continued`, where given, is the file a checkpoint kept: its rows up to `step` come first.
    """

    def __init__(
        self, path: Path, continued: Path | None = None, step: int = 0, columns: Sequence[str] = PRETRAINING_COLUMNS
    ) -> None:
        self.path, self.columns = path, columns
        rows = read_curves(continued) if continued else []
        beside = path.with_name(f".{path.name}.partial")
        with beside.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.DictWriter(stream, columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(row for row in rows if int(row["step"]) <= step)
        beside.replace(path)
        self._stream = path.open("a", encoding="utf-8", newline="")
        self._writer = csv.DictWriter(self._stream, columns, lineterminator="\n")

    def write(self, row: dict[str, float | int | None]) -> None:
        """Append one row; floats with six significant digits, an absent value as an empty field."""
        self._writer.writerow(
            {name: f"{value:.6g}" if isinstance(value, float) else value for name, value in row.items()}
        )
        self._stream.flush()

    def close(self) -> None:
        self._stream.close()


def read_curves(path: Path) -> list[dict[str, str]]:
    """The rows of a curves file, values as written."""
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))
