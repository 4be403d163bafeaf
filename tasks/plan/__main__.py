from tasks.core.stage_main import stage_main
from tasks.plan.stage import run

stage_main(run)
