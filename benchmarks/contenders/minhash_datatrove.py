"""datatrove: its word tokenizer, shingles and signatures, as its first dedup step computes them."""

from datatrove.pipeline.dedup.minhash import MinhashConfig, MinhashDedupSignature
from datatrove.utils.hashing import HashConfig
from texts import bytes_of, clock, documents, report

if __name__ == "__main__":
    config = MinhashConfig(n_grams=5, num_buckets=16, hashes_per_bucket=8, hash_config=HashConfig(precision=64))
    step = MinhashDedupSignature("unused", config=config, language="eng")
    texts = documents()
    step.get_shingles("load what is loaded late")
    started = clock()
    count = 0
    for text in texts:
        hashes = step.get_shingles(text)
        count += bool(hashes.size and step.get_signature(hashes))
    report(started, bytes_of(texts), signatures=count)
