"""The view of the experiment that `make ui` opens in MLflow: pipeline runs alone, with the figures that one compares."""

import json
import time

from tasks.core.tracking.store import Store

VIEW_KEY = "textmill"
COLUMNS = (
    "validation_bits_per_byte",
    "tuned_bits_per_byte",
    "answers_f1",
    "documents",
    "tokens",
    "parameters",
    "model_bytes",
    "tokens_per_second",
)
"""Metrics of the pipeline's run, in the order of the columns; the rest is under Columns."""


def save_view(store: Store) -> None:
    """Save the view with the experiment, unless it is there, be it changed by somebody.

    The form is that of the page's own Views menu (MLflow 3.17): a tag with the state of the page.
    """
    tag = f"mlflow.sharedViewState.{VIEW_KEY}"
    if tag in store.client.get_experiment(store.experiment_id).tags:
        return
    columns = ["attributes.`Source`", *(f"metrics.`{name}`" for name in COLUMNS)]
    state = {
        "searchFilter": "tags.`textmill.kind` = 'pipeline'",
        "orderByKey": "attributes.start_time",
        "orderByAsc": False,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "datasetsFilter": [],
        "modelVersionFilter": "All Runs",
        "selectedColumns": columns,
        "columnOrder": columns,
    }
    now = int(time.time() * 1000)
    view = {"name": "Pipelines", "createdAt": now, "updatedAt": now, "state": json.dumps(state)}
    store.client.set_experiment_tag(store.experiment_id, tag, json.dumps(view))


def view_url(server: str, store: Store) -> str:
    """The address of the view: without the kind of work MLflow 3 opens with traces of prompts."""
    page = f"{server}/#/experiments/{store.experiment_id}/runs"
    return f"{page}?workflowType=machine_learning&viewStateShareKey={VIEW_KEY}"
