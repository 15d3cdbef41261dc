"""Run a script whose Trainer stands still at an event, for tests that stop or kill it there.

    python held_run.py EVENT STEP FILE SCRIPT [ARGUMENTS ...]

After each EVENT (`on_save`, `on_evaluate`) from training step STEP on, the process says so with an empty file `FILE.PID`, and
goes on when FILE is gone (or when nobody is left who could remove it).
"""

import os
import runpy
import sys
import time
from pathlib import Path

from transformers.trainer_callback import CallbackHandler


def main() -> None:
    """Hold the event, then run the script as Python does."""
    event, step, file, script = sys.argv[1:5]
    hold, parent, usual = Path(file), os.getppid(), getattr(CallbackHandler, event)

    def held(self, args, state, *more, **keywords):
        control = usual(self, args, state, *more, **keywords)
        if state.global_step >= int(step):
            hold.with_name(f"{hold.name}.{os.getpid()}").touch()
            while hold.exists() and os.getppid() == parent:
                time.sleep(0.01)
        return control

    setattr(CallbackHandler, event, held)
    sys.argv = sys.argv[4:]
    sys.path[0] = str(Path(script).parent)
    runpy.run_path(script, run_name="__main__")


if __name__ == "__main__":
    main()
