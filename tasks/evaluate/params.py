"""Parameters of evaluation: what is measured, how much of it, and how replies are drawn."""

from collections import deque
from pathlib import Path

from pydantic import Field, field_validator

from tasks.core.params import StageParams
from tasks.held_out.evaluation_set import FOLDER, chosen_files, read_file


class EvaluateParams(StageParams):
    """What is measured, how much of it, and how replies are drawn."""

    files: tuple[str, ...] = Field(
        ("evaluation",),
        description="Your own evaluation set: files, globs or folders in evaluation/, all of which is kept out of training.",
    )
    max_bytes: int = Field(200_000, ge=1, description="Held-out text of each source that is scored, in UTF-8 bytes.")
    max_reply_bytes: int = Field(50_000, ge=1, description="Held-out replies scored in chat form, in UTF-8 bytes.")
    max_questions: int = Field(100, ge=0, description="Held-out questions that are asked.")
    max_new_tokens: int = Field(48, ge=1, description="Longest reply, in tokens; at most half of the model's context.")
    batch: int = Field(32, ge=1, description="Replies generated together.")
    rouge_stemmer: bool = Field(False, description="Whether ROUGE-L compares stems (Porter) instead of words.")
    prompts: tuple[str, ...] = Field(
        (
            "Hello! How are you today?",
            "What do you like to do on weekends?",
            "Do you have any pets?",
            "What is your favorite food?",
            "Tell me about a book or a movie you like.",
            "What does the function len do in Python?",
        ),
        description="What the tuned model is asked for the samples; a base model continues them.",
    )
    samples: int = Field(2, ge=0, le=100, description="Sampled replies to each prompt, beside the greedy one.")
    temperature: float = Field(0.6, gt=0, le=10, description="Divides the logits before a token is drawn.")
    top_k: int = Field(50, ge=0, description="Tokens that may be drawn; 0: all.")
    top_p: float = Field(0.95, gt=0, le=1, description="Probability that the tokens which may be drawn make up.")
    seed: int = Field(0, ge=0, lt=1 << 32, description="Of the sampled replies.")

    @field_validator("files")
    @classmethod
    def _kept_out_of_training(cls, files: tuple[str, ...]) -> tuple[str, ...]:
        for name in files:
            parts = Path(name).parts
            if parts[:1] != (FOLDER,) or ".." in parts:
                raise ValueError(f"must lie in {FOLDER}/, the folder that is kept out of training: {name}")
        return files

    def check_paths(self, root: Path) -> None:
        """Read what `files` names."""
        for path in chosen_files(root, self.files):
            deque(read_file(path, root / FOLDER), maxlen=0)
