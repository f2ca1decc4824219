"Export and clean every notebook, then fail if that changed a file: the library must equal its notebooks."

import hashlib
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def snapshot():
    files = [*ROOT.glob("preflexor_lab/**/*.py"), *ROOT.glob("nbs/**/*.ipynb")]
    files = [f for f in files if ".ipynb_checkpoints" not in f.parts]
    return {str(f.relative_to(ROOT)): hashlib.sha256(f.read_bytes()).hexdigest() for f in files}


def main():
    before = snapshot()
    for command in ("nbdev_export", "nbdev_clean"):
        subprocess.run([command], cwd=ROOT, check=True)
    after = snapshot()
    changed = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
    if changed:
        print("These files did not equal what their notebooks give; they have been rewritten, so look and commit them:")
        print("\n".join(f"  {name}" for name in changed))
        return 1
    print(f"library equals notebooks: {len(after)} files checked")
    return 0


if __name__ == "__main__":
    sys.exit(main())
