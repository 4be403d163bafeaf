"""datasketch: Python shingles, `MinHash.bulk`, in batches."""

from datasketch import MinHash
from texts import bytes_of, clock, documents, report, shingles

if __name__ == "__main__":
    texts = documents()
    started = clock()
    count = 0
    for at in range(0, len(texts), 1000):
        batch = [shingles(text) for text in texts[at : at + 1000]]
        count += len(MinHash.bulk(batch, num_perm=128, seed=1, scheme="affine32"))
    report(started, bytes_of(texts), signatures=count)
