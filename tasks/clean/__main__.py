from tasks.clean.stage import run
from tasks.core.stage_main import stage_main

stage_main(run)
