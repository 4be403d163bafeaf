"""llama.cpp in this process (the package xllamacpp): a GGUF model behind llama-server's HTTP interface on loopback."""

import http.client
import itertools
import json
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import urlparse

from tasks.core.errors import UserError

REQUEST_TIMEOUT_S = 300
SMALL_MODEL_BYTES = 64 << 20
"""Below this size a second thread is 1.0 to 1.5 times as fast on two idle cores, and 15 to 40 times slower beside another
busy process, since threads wait for each other at every layer. Log-probabilities do not depend on it: with plain attention
they are equal to the bit."""


def single_request_threads(model: Path, threads: int) -> int:
    """How many of `threads` to use for one conversation at a time."""
    return 1 if model.stat().st_size < SMALL_MODEL_BYTES else threads


def server_parameters(model: Path, context: int, threads: int, slots: int = 1) -> Any:
    """llama.cpp's settings: `slots` conversations at a time, of `context` tokens each, on the processor.

    Raises:
        UserError: there is no such model.
    """
    import xllamacpp

    if not model.is_file():
        raise UserError(f"{model}: no such model. Make it: make run")
    settings = xllamacpp.CommonParams()
    settings.model.path = str(model)
    settings.n_ctx = context * slots
    settings.n_parallel = slots
    settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = threads
    settings.fit_params = False
    settings.warmup = False
    settings.verbosity = -1
    return settings


class ForcedToken(NamedTuple):
    """A token that a model was made to say: its natural log-probability, and the token that was the likeliest."""

    log_probability: float
    likeliest: int


class GgufModel:
    """A GGUF model whose log-probabilities are asked for: f32 cache, plain attention, no prompt cache. A context manager."""

    def __init__(self, model: Path, context: int, threads: int) -> None:
        import xllamacpp

        settings = server_parameters(model, context, threads)
        settings.cpuparams.n_threads = settings.cpuparams_batch.n_threads = single_request_threads(model, threads)
        settings.hostnames, settings.port = ["127.0.0.1"], 0
        settings.n_gpu_layers = 0
        # The defaults keep keys and values in f16, which alone moves log-probabilities by about 1e-3.
        settings.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        settings.cache_type_k = settings.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
        self.model = model
        texts = token_bytes(model)
        self._whole = [is_whole_characters(text) for text in texts]
        self._plain = next(number for number, text in enumerate(texts) if text.isalpha())
        self._server = xllamacpp.Server(settings)
        address = urlparse(self._server.listening_address)
        self._connection = http.client.HTTPConnection(str(address.hostname), address.port, timeout=REQUEST_TIMEOUT_S)
        self._complete([self._plain], 1)  # else it may not run yet when it is to end, and waits for itself forever

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self._connection.close()
        del self._server  # stops it

    def _complete(self, prompt: Sequence[int], predict: int, **options: Any) -> dict[str, Any]:
        body = {
            "prompt": list(prompt),
            "n_predict": predict,
            "post_sampling_probs": False,
            "cache_prompt": False,
            "temperature": 0,
            **options,
        }
        return self._ask("/completion", body)

    def _ask(self, route: str, body: dict[str, Any]) -> dict[str, Any]:
        self._connection.request("POST", route, json.dumps(body), {"Content-Type": "application/json"})
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status != http.client.OK:
            raise UserError(f"{self.model}: llama.cpp refused a prompt ({answer.status}): {content[:300]!r}")
        completed: dict[str, Any] = json.loads(content)
        return completed

    def tokens(self, text: str) -> list[int]:
        """The tokens of a plain text, without any control token."""
        answer = self._ask("/tokenize", {"content": text, "add_special": False, "parse_special": False})
        ids: list[int] = answer["tokens"]
        return ids

    def next_token_log_probabilities(self, prompt: Sequence[int], count: int) -> dict[int, float]:
        """The `count` most likely next tokens after `prompt` (token ids) with their natural log-probabilities.

        `prompt` is shorter than the context. What is then said is a letter: of a token that ends amid a character
        the server gives no probabilities.
        """
        completed = self._complete(
            prompt, 1, n_probs=count, grammar=forcing_grammar([self._plain]), samplers=["temperature"]
        )
        best = completed["completion_probabilities"][0]["top_logprobs"]
        return {token["id"]: token["logprob"] for token in best}

    def forced(self, prompt: Sequence[int], targets: Sequence[int]) -> list[ForcedToken]:
        """What is said of each of the tokens `targets` after `prompt`, which together fit the context.

        A grammar leaves generation no other choice; the probabilities are those before it. llama.cpp's grammars and
        answers do not know tokens that are parts of a character, so each of these is looked up among all next tokens.
        """
        said: list[ForcedToken] = []
        for whole, run in itertools.groupby(targets, key=lambda token: self._whole[token]):
            tokens = list(run)
            before = [*prompt, *targets[: len(said)]]
            if whole:
                said += self._say(before, tokens)
            else:
                for number, token in enumerate(tokens):
                    every = self.next_token_log_probabilities([*before, *tokens[:number]], len(self._whole))
                    said.append(ForcedToken(every[token], max(every, key=lambda other: every[other])))
        return said

    def _say(self, prompt: Sequence[int], tokens: Sequence[int]) -> list[ForcedToken]:
        completed = self._complete(
            prompt, len(tokens), n_probs=1, grammar=forcing_grammar(tokens), samplers=["temperature"]
        )
        said = completed["completion_probabilities"]
        if [token["id"] for token in said] != list(tokens):
            raise AssertionError(f"{self.model}: llama.cpp did not say the {len(tokens)} tokens that it was given")
        return [ForcedToken(token["logprob"], token["top_logprobs"][0]["id"]) for token in said]

    def generation_speed(self, prompt: Sequence[int], tokens: int) -> float:
        """Tokens a second when `tokens` are generated after `prompt`, greedily, one conversation at a time."""
        completed = self._complete(prompt, tokens, ignore_eos=True)
        return float(completed["timings"]["predicted_per_second"])


def forcing_grammar(tokens: Sequence[int]) -> str:
    """A grammar (llama.cpp's GBNF) of these token ids and nothing else."""
    return "root ::= " + " ".join(f"<[{token}]>" for token in tokens)


def token_bytes(model: Path) -> list[bytes]:
    """What each token of a GGUF model with byte-level BPE stands for; nothing for control tokens."""
    from gguf import GGUFReader, TokenType

    reader = GGUFReader(model)
    texts, kinds = (reader.get_field(f"tokenizer.ggml.{name}").contents() for name in ("tokens", "token_type"))  # type: ignore[union-attr]
    # GPT-2's mapping: printable Latin-1 stands for itself, the other bytes are 256 and following, in order.
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in set(printable)]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + n): byte for n, byte in enumerate(others)}
    return [
        bytes(byte_of[character] for character in text) if kind == TokenType.NORMAL else b""
        for text, kind in zip(texts, kinds, strict=True)
    ]


def is_whole_characters(text: bytes) -> bool:
    """Whether the bytes of a token are whole UTF-8 characters, at least one, of which none ends a C string."""
    try:
        return bool(text.decode()) and b"\0" not in text
    except UnicodeDecodeError:
        return False
