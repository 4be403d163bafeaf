"""What `benchmarks.training` times: each file is a program that trains one model, run alone by the interpreter of its peer.

`python <file> CONFIG` reads CONFIG (JSON: folder of tokens, sizes, steps, batch_rows, seed, threads, ...) and prints one JSON
object (`measure.report`). It imports nothing of Textmill unless it is Textmill's. Learning rates are each recipe's own; where
a recipe names none for so small a model, CONFIG's `learning_rate`.
"""
