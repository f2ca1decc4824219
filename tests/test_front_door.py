"What `import preflexor_lab` gives, and what it costs."

import subprocess
import sys
from importlib.resources import files
from pathlib import Path
from zipfile import ZipFile

import pytest

import preflexor_lab

# The public API. Changing this list is a decision: write it into CHANGELOG.md.
PUBLIC = """
Arithmetic Certificate Completion Countdown DPOConfig DPOTrainer EndpointEngine ExternalRewardDPOConfig JSONSchema Judge
LLMTeacher LaTROConfig LaTROTrainer Ledger LocalEngine Logic MaskPolicy Molecule ORPOConfig ORPOTrainer \
PRefLexORDPOTrainer
PRefLexORORPOTrainer Pair PolicyConfig PolicyTrainer PythonCode Question RLSFConfig RLSFTrainer ReplayEngine \
RewardConfig
SFTConfig SFTStageConfig SFTTrainer SPINTrainer Sections SelfPlayConfig SelfRewardDPOConfig SelfRewardingTrainer \
Sentiment
SymbolicEnvironment THINK_TAGS Trace add_lora build_index build_pairs compare dpo_loss evaluate exo_loss extract_text \
gae
generate_OpenAI generate_local_model grpo_advantages insert_thinking load_documents load_model load_task load_tokenizer
mask_labels merge_lora nano_path orpo_loss prepare_data recursive_response recursive_response_from_thinking
register_markers rloo_advantages run_recipe score_texts show_mask spin_loss split_sections
""".split()


def child(code):
    "What a fresh interpreter prints."
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout


def test_the_public_names():
    assert sorted(preflexor_lab.__all__) == sorted(PUBLIC)
    assert set(PUBLIC) <= set(dir(preflexor_lab))


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_says_what_its_arguments_mean(name):
    value = getattr(preflexor_lab, name)
    if not callable(value):
        assert name == "THINK_TAGS"
        return
    assert value.__doc__ and "Arguments:\n" in value.__doc__, f"help({name}) does not show its arguments"
    assert value.__module__.startswith("preflexor_lab.")


def test_help_of_a_trainer_tells_what_an_argument_is():
    from pydoc import render_doc

    shown = render_doc(preflexor_lab.LaTROTrainer)
    assert "rows with queries, responses and optionally groundtruth" in shown


def test_help_is_the_same_from_a_room():
    shown = child(
        "from pydoc import plain, render_doc\n"
        "from preflexor_lab.tools.certificates import Exact, token_rewards\n"
        "from preflexor_lab.text.records import Span\n"
        "for symbol in (Exact, token_rewards, Span):\n"
        "    print(plain(render_doc(symbol)))"
    )
    for meaning in (
        "prompt -> reference, for calls without an item",  # the constructor of a class
        "(start, end) of each of its tokens",  # a parameter of a function
        "(T,) one number per token",  # what it returns
        "one past the last character",  # a field of a dataclass
    ):
        assert meaning in shown


def test_completed_docstrings_leave_the_rest_of_python_alone():
    shown = child(
        "import importlib, inspect, pickle\n"
        "import preflexor_lab\n"
        "from preflexor_lab.text import masks, records\n"
        "span = records.Span(0, 1, 1.0)\n"
        "class Own(records.Span):\n"
        "    pass\n"
        "assert super(Own, Own(0, 1, 1.0)).__doc__.count('Arguments:') == 1 and Own.__doc__ is None\n"
        "assert span.__doc__ == records.Span.__doc__ and records.Span.__doc__.count('Arguments:') == 1\n"
        "assert pickle.loads(pickle.dumps(span)) == span\n"
        "assert pickle.loads(pickle.dumps([records.Span, masks.mask_labels])) == [records.Span, masks.mask_labels]\n"
        "assert inspect.getsource(masks.mask_labels).startswith('def mask_labels(')\n"
        "assert inspect.getsource(records.Span).startswith('@dataclass')\n"
        "importlib.reload(preflexor_lab)\n"
        "importlib.reload(masks)\n"
        "assert masks.mask_labels.__doc__.count('Arguments:') == 1\n"
        "assert preflexor_lab.mask_labels is masks.mask_labels\n"
        "import sys\n"
        "print(sum(getattr(f, '__module__', '') == 'preflexor_lab' for f in sys.meta_path))"
    )
    assert shown == "1\n"
    module = [sys.executable, "-m", "preflexor_lab.text.records"]
    assert subprocess.run(module, check=True, capture_output=True, text=True).stdout == ""


def test_a_package_in_a_zip_is_left_alone(tmp_path):
    with ZipFile(tmp_path / "package.zip", "w") as archive:
        for path in Path(preflexor_lab.__file__).parent.rglob("*.py"):
            archive.write(path, path.relative_to(Path(preflexor_lab.__file__).parents[1]))
    shown = child(
        f"import sys; sys.path.insert(0, {str(tmp_path / 'package.zip')!r})\n"
        "from preflexor_lab.text.masks import mask_labels\n"
        "print('package.zip' in mask_labels.__code__.co_filename, bool(mask_labels.__doc__))"
    )
    assert shown == "True True\n"


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'DPOTrainr'"):
        preflexor_lab.DPOTrainr  # noqa: B018
    with pytest.raises(ImportError):
        from preflexor_lab import DPOTrainr  # noqa: F401


def test_the_import_is_light():
    heavy, seconds = child(
        "import sys, time; start = time.process_time(); import preflexor_lab; spent = time.process_time() - start\n"
        "print(sum(m in sys.modules for m in ('torch', 'transformers', 'trl', 'fastcore', 'numpy')), spent)"
    ).split()
    assert heavy == "0" and float(seconds) < 0.3


def test_types_are_shipped():
    assert (files("preflexor_lab") / "py.typed").is_file()


def test_the_help_of_a_command_is_written_for_the_command_line():
    from preflexor_lab.recipes.cli import app

    told = [command.callback.__doc__ for command in app.registered_commands]
    assert len(told) >= 5 and not any("Arguments:\n" in doc for doc in told)
