"""Imported first by the process that workers are forked from: it ends with the one that started it, and they end with it."""

import signal
import warnings

from tasks.core.parallel.processes import end_with_parent

# A worker runs the program's main module again under another name, as multiprocessing does everywhere; that it has been
# imported here is the point.
warnings.filterwarnings("ignore", ".*found in sys.modules after import of package", RuntimeWarning)
end_with_parent(signal.SIGKILL)
