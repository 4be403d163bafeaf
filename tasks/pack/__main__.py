from tasks.core.stage_main import stage_main
from tasks.pack.stage import run

stage_main(run)
