"""The names of the rule sets, apart from the rules: checking params.yaml needs no compiled code."""

from typing import Literal

RuleSet = Literal["gopher_quality", "gopher_repetition", "c4", "fineweb"]
