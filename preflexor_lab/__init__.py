"""Models that teach themselves to reason: PRefLexOR, Self-Rewarding, SPIN, LaTRO and RLSF on one engine.

The public names are imported when they are first asked for, so that `import preflexor_lab` costs next to nothing.
"""

__version__ = "0.1.0"

import sys
from importlib import import_module
from importlib.machinery import PathFinder, SourceFileLoader

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
    "Import a public name when it is first asked for."
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, attribute = _HOME[name]
    value = globals()[name] = getattr(import_module(module), attribute)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


# The comments beside parameters become a part of docstrings, so that `help` shows them wherever a name comes from.
# Reading them takes 2 ms per function, which an import can bear, and up to 0.5 s for a trainer's class, which waits for
# a reader.


class _ClassDoc:
    "The docstring of a class, completed when it is first read."

    def __init__(self, cls: type):
        self.cls, self.own = cls, cls.__doc__

    def __get__(self, instance, owner=None) -> str | None:
        from .text.docstrings import document

        self.cls.__doc__ = self.own
        return document(self.cls).__doc__


class _Loader(SourceFileLoader):
    "Loads a module as ever, then completes the docstrings of what it defines and lists in `__all__`."

    def exec_module(self, module):
        super().exec_module(module)
        from .text.docstrings import document

        for name in vars(module).get("__all__", ()):
            value = vars(module).get(name)
            if getattr(value, "__module__", None) == module.__name__:
                if isinstance(value, type):
                    value.__doc__ = _ClassDoc(value)
                else:
                    document(value)


class _Finder:
    "Gives that loader to the modules of this package that are plain files."

    @staticmethod
    def find_spec(name, path=None, target=None):
        spec = PathFinder.find_spec(name, path, target) if name.startswith(f"{__name__}.") else None
        if spec and type(spec.loader) is SourceFileLoader:
            spec.loader = _Loader(name, spec.origin)
        return spec


sys.meta_path[:] = [_Finder, *(f for f in sys.meta_path if getattr(f, "__module__", "") != __name__)]
