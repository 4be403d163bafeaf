from tasks.core.stage_main import stage_main
from tasks.prefer.stage import run

stage_main(run)
