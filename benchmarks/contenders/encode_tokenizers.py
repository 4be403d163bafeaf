"""Documents to token ids by Hugging Face's `encode_batch`."""

import sys
from pathlib import Path

from texts import bytes_of, clock, documents, report
from tokenizers import Tokenizer

if __name__ == "__main__":
    texts = documents()
    tokenizer = Tokenizer.from_file(str(Path(sys.argv[1]) / "tokenizer/tokenizer.json"))
    tokenizer.encode_special_tokens = True
    started = clock()
    tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts, add_special_tokens=False))
    report(started, bytes_of(texts), tokens=tokens)
