"""rensa: Python shingles, `RMinHash` in Rust."""

from rensa import RMinHash
from texts import bytes_of, clock, documents, report, shingles

if __name__ == "__main__":
    texts = documents()
    started = clock()
    count = 0
    for text in texts:
        signature = RMinHash(128, 1)
        signature.update(shingles(text))
        count += len(signature.digest()) == 128
    report(started, bytes_of(texts), signatures=count)
