"The files in configs/ as `accelerate launch` reads them."

from pathlib import Path

import pytest
import yaml
from accelerate.commands.config.config_args import ClusterConfig, load_config_from_file
from accelerate.commands.launch import _validate_launch_command, launch_command_parser
from accelerate.utils import DistributedType, FullyShardedDataParallelPlugin
from accelerate.utils.launch import _filter_args, prepare_deepspeed_cmd_env, prepare_multi_gpu_env

CONFIGS = Path(__file__).resolve().parent.parent / "configs"
KINDS = {"ddp": DistributedType.MULTI_GPU, "fsdp2": DistributedType.FSDP, "deepspeed_zero3": DistributedType.DEEPSPEED}


def launched(name):
    """The arguments and the environment with which `accelerate launch --config_file configs/NAME.yaml script.py` starts
    its processes."""
    args = launch_command_parser().parse_args(
        ["--config_file", str(CONFIGS / f"{name}.yaml"), "--main_process_port", "0", "script.py"]
    )
    args, defaults, _ = _validate_launch_command(args)
    if args.use_deepspeed:
        args.deepspeed_fields_from_accelerate_config = ",".join(defaults.deepspeed_config)
        return args, prepare_deepspeed_cmd_env(args)[1]
    return args, prepare_multi_gpu_env(args)


def test_every_config_is_tested():
    assert {p.stem for p in CONFIGS.iterdir()} == set(KINDS)


@pytest.mark.parametrize("name", KINDS)
def test_accelerate_reads_it(name):
    "Eight processes in bf16 of the right kind, and no key that accelerate would pass over."
    path = CONFIGS / f"{name}.yaml"
    found = load_config_from_file(str(path))  # refuses unknown keys, but only at the top
    assert isinstance(found, ClusterConfig)
    assert (found.distributed_type, found.num_processes, found.num_machines, found.mixed_precision, found.use_cpu) == (
        KINDS[name],
        8,
        1,
        "bf16",
        False,
    )
    known = vars(launch_command_parser().parse_args(["script.py"]))
    nested = {k for section in yaml.safe_load(path.read_text()).values() if isinstance(section, dict) for k in section}
    assert nested <= set(known), f"accelerate has no {sorted(nested - set(known))}"
    assert f"accelerate launch --config_file configs/{name}.yaml script.py" in path.read_text()


@pytest.mark.parametrize("name", KINDS)
def test_the_launcher_builds_its_environment(name):
    args, env = launched(name)
    assert (args.num_processes, args.nproc_per_node) == (8, "8")
    assert env["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert (env.get("ACCELERATE_USE_FSDP"), env.get("ACCELERATE_USE_DEEPSPEED")) == (
        "true" if name == "fsdp2" else None,
        "true" if name == "deepspeed_zero3" else None,
    )
    from torch.distributed.run import get_args_parser

    torchrun = get_args_parser()
    torchrun.parse_args(["script.py"], namespace=_filter_args(args, torchrun, ["script.py"]))


def test_fsdp_is_version_two(monkeypatch):
    "The plugin that the trainer's processes make of that environment."
    for key, value in launched("fsdp2")[1].items():
        monkeypatch.setenv(key, value)
    plugin = FullyShardedDataParallelPlugin()
    assert (plugin.fsdp_version, plugin.reshard_after_forward) == (2, True)
    assert not plugin.cpu_ram_efficient_loading, (
        "the reference is a copy of weights that only the first process would have"
    )
    assert plugin.auto_wrap_policy.__name__ == "transformer_auto_wrap_policy"


def test_zero_is_stage_three(monkeypatch):
    "The fields in the launcher's environment; with DeepSpeed also the plugin made of them."
    env = launched("deepspeed_zero3")[1]
    assert {
        k: env[f"ACCELERATE_DEEPSPEED_{k}"]
        for k in (
            "ZERO_STAGE",
            "ZERO3_INIT",
            "ZERO3_SAVE_16BIT_MODEL",
            "OFFLOAD_PARAM_DEVICE",
            "OFFLOAD_OPTIMIZER_DEVICE",
        )
    } == dict(
        ZERO_STAGE="3",
        ZERO3_INIT="true",
        ZERO3_SAVE_16BIT_MODEL="true",
        OFFLOAD_PARAM_DEVICE="none",
        OFFLOAD_OPTIMIZER_DEVICE="none",
    )
    pytest.importorskip(
        "deepspeed",
        reason="deepspeed is not installed: its plugin is not made, only the launcher's environment was checked",
    )
    from accelerate.utils import DeepSpeedPlugin

    for key, value in env.items():
        monkeypatch.setenv(key, value)
    plugin = DeepSpeedPlugin()
    assert (plugin.zero_stage, plugin.zero3_init_flag, plugin.zero3_save_16bit_model) == (3, True, True)
