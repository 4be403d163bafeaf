"""Imported first by the process that workers are forked from: it ends with the one that started it, and they end with it."""

import signal

from tasks.core.processes import end_with_parent

end_with_parent(signal.SIGKILL)
