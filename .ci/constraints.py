"Prints constraints.txt anew, from what is installed beside this interpreter; markers of the standing file stay."

import re
import subprocess
import sys
from pathlib import Path

STANDING = Path(__file__).resolve().parent.parent / "constraints.txt"
# Left to TORCH in the Makefile, and to what that build of torch needs
LEFT_OUT = re.compile(r"(torch|torchvision|triton|nvidia[-_].*|cuda[-_].*)==")


def main() -> None:
    lines = STANDING.read_text(encoding="utf-8").splitlines()
    markers = {line.split("==")[0]: line.partition(" ; ")[2] for line in lines if " ; " in line}
    pip = [sys.executable, "-m", "pip", "freeze", "--exclude-editable"]
    pins = subprocess.run(pip, check=True, capture_output=True, text=True).stdout.splitlines()
    print("\n".join(line for line in lines if line.startswith("#")))
    for pin in sorted(pins, key=str.lower):
        if "==" in pin and not LEFT_OUT.match(pin):
            name, version = pin.split("==")
            marker = f" ; {markers[name]}" if name in markers else ""
            print(f"{name}=={version.split('+')[0]}{marker}")


if __name__ == "__main__":
    main()
