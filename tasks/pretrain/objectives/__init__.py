"""Objectives of pretraining: what is hidden of a row, what is to be predicted, and how it is scored."""
