"""Which evaluation a model gets, by what it was trained to do."""

from collections.abc import Callable, Mapping

from tasks.architectures.families.family import ObjectiveName
from tasks.core.paths import Inputs, Metrics, Outputs
from tasks.evaluate.decoder import evaluate_decoder
from tasks.evaluate.params import EvaluateParams
from tasks.evaluate.restoring import evaluate_restorer

EVALUATIONS: Mapping[ObjectiveName, Callable[[EvaluateParams, Inputs, Outputs], Metrics]] = {
    "causal": evaluate_decoder,
    "masked": evaluate_restorer,
    "replaced_token": evaluate_restorer,
    "span_corruption": evaluate_restorer,
    "denoising": evaluate_restorer,
}
