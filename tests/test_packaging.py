"Distributions: what `python -m build` makes holds everything of the checkout, and installs away from it."

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from email.parser import Parser
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = "preflexor_lab"


def run(*command, cwd, **env):
    "What a program printed; its errors when it fails. Nothing of the checkout is on its path."
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "PYTHONSTARTUP")}
    done = subprocess.run(
        [str(c) for c in command], cwd=cwd, env=clean | env, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, f"{command}: {done.stdout[-2000:]}\n{done.stderr[-4000:]}"
    return done.stdout


def sources():
    "Files of the project as version control sees them: committed, or new and not ignored."
    if not (ROOT / ".git").exists() or shutil.which("git") is None:
        pytest.skip("not a git checkout: what belongs to the project is not known")
    listed = run("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", cwd=ROOT)
    return sorted(name for name in set(listed.split("\0")) - {""} if (ROOT / name).is_file())


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    "The sdist, and the wheel made from it, of a copy of what version control has."
    pytest.importorskip("build", reason="the package `build` is not installed (extra dev)")
    tree, dist = tmp_path_factory.mktemp("tree"), tmp_path_factory.mktemp("dist")
    for name in sources():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tree / name)
    run(sys.executable, "-m", "build", "--no-isolation", "--outdir", dist, tree, cwd=dist)
    (sdist,), (wheel,) = dist.glob("*.tar.gz"), dist.glob("*.whl")
    return sdist, wheel


def install(what, target):
    "Installs one distribution alone, without a network, into a folder."
    pip = ("-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation", "--target", target)
    run(sys.executable, *pip, what, cwd=target.parent)
    return target


@pytest.fixture(scope="module")
def installed(built, tmp_path_factory):
    return install(built[1], tmp_path_factory.mktemp("wheel") / "site")


def modules(names):
    return {name for name in names if name.startswith(f"{PACKAGE}/")}


def test_every_exported_module_is_in_version_control():
    "No line of .gitignore swallows a room: what a notebook exports is there for git to see."
    seen = set(sources())
    exported = {}
    for notebook in (ROOT / "nbs").rglob("*.ipynb"):
        if found := re.search(r'"#\|\s*default_exp ([\w.]+)', notebook.read_text(encoding="utf-8")):
            exported[f"{PACKAGE}/{found[1].replace('.', '/')}.py"] = notebook.relative_to(ROOT).as_posix()
    assert len(exported) > 40
    assert not {m: n for m, n in exported.items() if m not in seen}
    assert set(exported.values()) <= seen


@pytest.mark.parametrize(
    "name", ["nbs/04_runs/00_ledger.ipynb", "preflexor_lab/runs/ledger.py", "preflexor_lab/build/x.py"]
)
def test_rooms_may_have_the_names_of_output_folders(name):
    sources()
    done = subprocess.run(["git", "check-ignore", "--no-index", "--quiet", name], cwd=ROOT)
    assert done.returncode == 1


@pytest.mark.parametrize(
    "name", ["runs/demo/recipe.yaml", "build/lib/x.py", "dist/x.whl", "site/index.html", ".venv/bin/pip"]
)
def test_output_folders_are_ignored(name):
    sources()
    assert subprocess.run(["git", "check-ignore", "--no-index", "--quiet", name], cwd=ROOT).returncode == 0


def test_wheel_holds_the_package_and_nothing_else(built):
    with zipfile.ZipFile(built[1]) as wheel:
        names = [n for n in wheel.namelist() if ".dist-info/" not in n]
    assert set(names) == modules(sources())
    assert f"{PACKAGE}/py.typed" in names and f"{PACKAGE}/assets/nano/reasoner/model.safetensors" in names


def test_sdist_holds_what_it_is_built_from(built):
    with tarfile.open(built[0]) as sdist:
        names = {n.partition("/")[2] for n in sdist.getnames()}
    expected = {n for n in sources() if n.startswith((f"{PACKAGE}/", "nbs/", "tests/", "configs/"))}
    assert {"settings.ini", "setup.py", "README.md", "LICENSE", "constraints.txt"} | expected <= names


def test_metadata_is_that_of_settings(built):
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    with zipfile.ZipFile(built[1]) as wheel:
        (name,) = (n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))
        meta = Parser().parsestr(wheel.read(name).decode())
    cfg = config["DEFAULT"]
    assert (meta["Name"], meta["Version"]) == (cfg["lib_name"], cfg["version"])
    assert meta["License-Expression"] == "Apache-2.0" and meta["Requires-Python"] == ">=" + cfg["min_python"]
    extras = {k.removesuffix("_requirements") for k in cfg if k.endswith("_requirements")}
    assert set(meta.get_all("Provides-Extra")) == extras
    needed = [r for r in meta.get_all("Requires-Dist") if "extra ==" not in r]
    assert len(needed) == len(cfg["requirements"].split())
    (fastcore,) = (r for r in needed if r.startswith("fastcore"))
    assert "<" not in fastcore and "==" not in fastcore, "only development needs an old fastcore"


def test_extras_named_in_messages_exist():
    "An error that says `pip install 'preflexor_lab[x]'` names an extra that there is."
    config = ConfigParser(delimiters=["="])
    config.read(ROOT / "settings.ini", encoding="utf-8")
    extras = {k.removesuffix("_requirements") for k in config["DEFAULT"] if k.endswith("_requirements")}
    named = {}
    for path in [
        *ROOT.glob(f"{PACKAGE}/**/*.py"),
        *ROOT.glob("nbs/**/*.ipynb"),
        ROOT / "settings.ini",
        ROOT / "README.md",
    ]:
        for found in re.findall(rf"{PACKAGE}\[([a-z, ]+)\]", path.read_text(encoding="utf-8")):
            named.update({extra.strip(): path.name for extra in found.split(",")})
    assert named and not {extra: where for extra, where in named.items() if extra not in extras}


CHILD = """
import sys
from pathlib import Path
import preflexor_lab
from preflexor_lab import __version__
home = Path(preflexor_lab.__file__).resolve().parent
assert home.is_relative_to(Path(sys.argv[1]).resolve()), home
from importlib.metadata import entry_points
from importlib.resources import files
assets = files(preflexor_lab) / "assets"
assert (files(preflexor_lab) / "py.typed").is_file()
for model in ("reasoner", "critic", "novice"):
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        assert (assets / "nano" / model / name).is_file(), (model, name)
print(__version__, *sorted(p.name for p in (assets / "recipes").iterdir()))
"""


def check_import(target):
    printed = run(sys.executable, "-c", CHILD, target, cwd=target.parent, PYTHONPATH=str(target)).split()
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", printed[0])
    assert printed[1:] == sorted(p.name for p in (ROOT / PACKAGE / "assets" / "recipes").iterdir())


def test_wheel_installs_and_has_its_assets(installed):
    check_import(installed)


def test_sdist_installs_and_has_its_assets(built, tmp_path):
    check_import(install(built[0], tmp_path / "site"))


def test_command_of_the_wheel_answers(installed):
    "The console script that pip wrote, run from the installed package alone."
    told = run(installed / "bin" / "preflexor", "--help", cwd=installed.parent, PYTHONPATH=str(installed))
    assert all(command in told for command in ("run", "ask", "inspect"))
