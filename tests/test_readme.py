"The README is made from its notebook."

import importlib.util


def test_readme_equals_its_notebook(root):
    spec = importlib.util.spec_from_file_location("make_readme", root / ".github" / "make_readme.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert (root / "README.md").read_text(encoding="utf-8") == module.readme(), "run 'make readme'"
