"""What `benchmarks.curation` times: each file is a program that is run alone, on one core, by the interpreter of its peer.

`python <file> FOLDER MEGABYTES OUT` reads FOLDER, works on the first MEGABYTES of it, writes to OUT, and prints one
JSON object: seconds, bytes and whatever else is to be compared. It imports nothing of Textmill unless it is Textmill's.
"""
