"What `import preflexor_lab` gives, and what it costs."

import subprocess
import sys
from importlib.resources import files

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


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'DPOTrainr'"):
        preflexor_lab.DPOTrainr  # noqa: B018
    with pytest.raises(ImportError):
        from preflexor_lab import DPOTrainr  # noqa: F401


def run(code):
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.split()


def test_the_import_is_light():
    heavy, seconds = run(
        "import sys, time; start = time.process_time(); import preflexor_lab; spent = time.process_time() - start\n"
        "print(sum(m in sys.modules for m in ('torch', 'transformers', 'trl', 'fastcore', 'numpy')), spent)"
    )
    assert heavy == "0" and float(seconds) < 0.3


def test_types_are_shipped():
    assert (files("preflexor_lab") / "py.typed").is_file()
