"""token_logps under DDP and FSDP2: two processes end with the gradients of one (what a notebook, being one process,
cannot show)."""

import os
import subprocess
import sys

CHILD = """
import os, sys, torch, torch.distributed as dist
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.nn.parallel import DistributedDataParallel
from transformers import LlamaConfig, LlamaForCausalLM, set_seed
from preflexor_lab.models.scoring import token_logps

dist.init_process_group("gloo")
rank = dist.get_rank()
assert dist.get_world_size() == 2


def tiny(tied):
    set_seed(0)
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=61,
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=2,
            num_attention_heads=2,
            num_key_value_heads=2,
            tie_word_embeddings=tied,
        )
    )


ids = torch.randint(0, 61, (4, 9), generator=torch.Generator().manual_seed(0))
attention, labels = torch.ones_like(ids), ids.clone()
labels[:, :3] = -100
mine = [t[rank::2] for t in (ids, attention, labels)]
for tied in (True, False):
    alone = tiny(tied)
    token_logps(alone, ids, attention, labels).sum().div(2).backward()  # both wrappers average over processes
    want = {n: p.grad for n, p in alone.named_parameters()}

    def check(model, full):
        for n, p in model.named_parameters():
            torch.testing.assert_close(full(p.grad), want[n], rtol=1e-4, atol=2e-6)

    ddp = DistributedDataParallel(tiny(tied))
    token_logps(ddp, *mine).sum().backward()
    check(ddp.module, lambda g: g)
    for kw in ({}, dict(keep_logits=0, chunk_vocab=7)):
        fsdp = tiny(tied)
        for layer in fsdp.model.layers:
            fully_shard(layer)
        fully_shard(fsdp)
        assert isinstance(fsdp, FSDPModule)
        token_logps(fsdp, *mine, **kw).sum().backward()
        check(fsdp, lambda g: g.full_tensor())
dist.barrier()
sys.stdout.write(f"rank {rank} agrees\\n")
sys.stdout.flush()
dist.destroy_process_group()
os._exit(0)
"""


def test_two_processes_have_the_gradients_of_one(tmp_path):
    (tmp_path / "child.py").write_text(CHILD)
    env = dict(os.environ, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="1")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc_per_node",
            "2",
            str(tmp_path / "child.py"),
        ],
        env=env,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert run.returncode == 0 and run.stdout.count("agrees") == 2, run.stdout + run.stderr[-3000:]
