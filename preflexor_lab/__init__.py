"""Models that teach themselves to reason: PRefLexOR, Self-Rewarding, SPIN, LaTRO and RLSF on one engine.

The public names are imported when they are first asked for, so that `import preflexor_lab` costs next to nothing.
"""

__version__ = "0.1.0"

from importlib import import_module

# room.module: the public names that live there; "name:public" where the public name differs
_PUBLIC = {
    "text.records": "Question Pair Completion Trace Certificate",
    "text.markers": "Sections split_sections extract_text register_markers THINK_TAGS",
    "text.masks": "MaskPolicy mask_labels insert_thinking show_mask",
    "models.loading": "load_model load_tokenizer nano_path",
    "models.adapters": "add_lora merge_lora",
    "models.scoring": "score_texts",
    "models.replay": "ReplayEngine",
    "models.endpoint": "EndpointEngine generate_OpenAI",
    "models.local": "LocalEngine generate_local_model",
    "corpus.reading": "load_documents",
    "corpus.index": "build_index",
    "runs.ledger": "Ledger",
    "tasks.latro_data": "prepare_data",
    "tasks.evaluation": "evaluate compare",
    "tools.arithmetic": "Arithmetic",
    "tools.countdown": "Countdown",
    "tools.logic": "Logic",
    "tools.code": "PythonCode",
    "tools.json_schema": "JSONSchema",
    "tools.molecules": "Molecule",
    "tools.sentiment": "Sentiment SymbolicEnvironment",
    "data.tasks": "load_task",
    "data.judges": "Judge RewardConfig",
    "data.teachers": "LLMTeacher",
    "data.pairs": "build_pairs",
    "training.losses": "exo_loss dpo_loss orpo_loss spin_loss rloo_advantages grpo_advantages gae",
    "training.sft": "SFTTrainer SFTConfig",
    "training.orpo": "ORPOTrainer ORPOConfig",
    "training.dpo": "DPOTrainer DPOConfig",
    "training.policy_gradient": "PolicyTrainer PolicyConfig",
    "methods.preflexor": "PRefLexORORPOTrainer PRefLexORDPOTrainer",
    "methods.reflect": "recursive_response recursive_response_from_thinking",
    "methods.spin": "SPINTrainer",
    "methods.self_reward": "SelfRewardingTrainer SelfPlayConfig SelfRewardDPOConfig ExternalRewardDPOConfig "
    "SFTConfig:SFTStageConfig",
    "methods.latro": "LaTROTrainer LaTROConfig",
    "methods.rlsf": "RLSFTrainer RLSFConfig",
    "recipes.run": "run_recipe",
}
_HOME = {
    entry.split(":")[-1]: (f"{__name__}.{module}", entry.split(":")[0])
    for module, entries in _PUBLIC.items()
    for entry in entries.split()
}
__all__ = sorted(_HOME)


def __getattr__(name: str):
    "Import a public name when it is first asked for, and put the comments beside its parameters into its docstring."
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from .text.docstrings import document

    module, attribute = _HOME[name]
    value = document(getattr(import_module(module), attribute))
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
