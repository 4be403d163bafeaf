"""Documents to token ids by the engine that pack uses, which is checked to give the ids of Hugging Face's tokenizers."""

import sys
from pathlib import Path

from texts import bytes_of, clock, documents, report

from tasks.tokens.encode import encode_documents, engine_name

if __name__ == "__main__":
    texts, folder = documents(), Path(sys.argv[1]) / "tokenizer"
    engine = engine_name(folder)
    started = clock()
    tokens = sum(len(ids) for ids in encode_documents(folder, texts))
    report(started, bytes_of(texts), tokens=tokens, engine=engine)
