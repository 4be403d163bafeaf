from tasks.core.stage_main import stage_main
from tasks.quantize.stage import run

stage_main(run)
