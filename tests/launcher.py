"A script run by one or more gloo processes on this machine."

import os
import subprocess
import sys


def launch(worker, folder, processes, *args):
    "Run the script's text in a new folder, which is its first argument; what rank 0 saved as result.pt there."
    import torch

    folder.mkdir()
    script = folder / "worker.py"
    script.write_text(worker)
    start = (
        [sys.executable]
        if processes == 1
        else [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
    )
    done = subprocess.run(
        [*start, str(script), str(folder), *map(str, args)],
        capture_output=True,
        text=True,
        timeout=900,
        env={**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "TRL_EXPERIMENTAL_SILENCE": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(folder / "result.pt")
