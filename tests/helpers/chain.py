"""The text stages in a row, from sources to the text that is trained on."""

from pathlib import Path
from types import ModuleType
from typing import Any

from tasks.clean import stage as clean
from tasks.core.params import params_model, validate
from tasks.core.paths import Inputs, Outputs
from tasks.decontaminate import stage as decontaminate
from tasks.dedup import stage as dedup
from tasks.documents.shards import read_documents
from tasks.instruct import stage as instruct
from tasks.scrape import stage as scrape


def training_text(folder: Path, sources: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Run scrape, clean, dedup, instruct and decontaminate in `folder`; returns the last one's documents."""

    def stage(module: ModuleType, inputs: dict[str, Path], **params: Any) -> Path:
        name = module.__name__.split(".")[1]
        outputs = Outputs(folder / name, folder / f"{name}.work")
        for path in (outputs.root, outputs.work):
            path.mkdir()
        module.run(validate(params_model(name), params, name), Inputs(inputs), outputs)
        return outputs.root

    scraped = stage(scrape, {}, sources=sources)
    cleaned = stage(clean, {"scrape": scraped})
    kept = stage(dedup, {"documents": cleaned / "documents"}, threshold=1.0)
    taught = stage(
        instruct, {"documents": kept / "documents", "evaluation": folder / "evaluation"}, validation_fraction=0.3
    )
    inputs = {"documents": kept / "documents", "held_out": taught / "held_out", "split": taught / "split"}
    inputs["evaluation"] = folder / "evaluation"
    return list(read_documents(stage(decontaminate, inputs, max_overlap=1.0) / "documents").to_pylist())
