"""Tokens/s of a training step of the reference implementation, in the shape of the preset zaya-512: for `npm run bench -- --reference`."""
import argparse
import time

import torch
from transformers import ZayaConfig, ZayaForCausalLM

parser = argparse.ArgumentParser(description=__doc__)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--steps", type=int, default=4)
arguments = parser.parse_args()
torch.set_num_threads(arguments.threads)
torch.manual_seed(0)

config = ZayaConfig(vocab_size=8192, hidden_size=512, num_hidden_layers=8, num_attention_heads=4, num_key_value_heads=2, head_dim=64,
                    moe_intermediate_size=512, num_experts=8, router_hidden_size=128, max_position_embeddings=2048, attn_implementation="sdpa", experts_implementation="grouped_mm")
model = ZayaForCausalLM(config).bfloat16()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, betas=(0.9, 0.95), fused=True)
times = []
for step in range(arguments.steps):
    ids = torch.randint(3, config.vocab_size, (4, 512))
    start = time.perf_counter()
    loss = model(ids, labels=ids, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    times.append(time.perf_counter() - start)
print(4 * 512 / sorted(times)[len(times) // 2])
