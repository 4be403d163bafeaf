"""Evaluation on what no model was trained on: each kind of model by what it was trained to do."""

from tasks.core.paths import Inputs, Metrics, Outputs, write_json
from tasks.evaluate.params import EvaluateParams


def run(params: EvaluateParams, inputs: Inputs, outputs: Outputs) -> Metrics:
    """Measure the models of `pretrain` and `finetune`: decoders as `tasks.evaluate.decoder` says, encoders and encoder-decoders, which
    are never tuned, as `tasks.evaluate.restoring` says; `objective` tells which.

    Writes `results.json` (all measures), `questions.jsonl`, `own_set.jsonl` and `samples.jsonl`.

    Raises:
        UserError: a model, a tokenizer or a file cannot be read, or the two models differ in their tokenizer.
    """
    from tasks.corrupted_text.restorer import objective_of
    from tasks.evaluate.kinds import EVALUATIONS
    from tasks.model.load import prepare_torch
    from tasks.model.model_pointer import resolve_model

    prepare_torch()
    results = EVALUATIONS[objective_of(resolve_model(inputs["prefer"]))](params, inputs, outputs)
    write_json(outputs / "results.json", results)
    return results
