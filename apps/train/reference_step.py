"""Tokens/s of a training step of the reference implementation in bfloat16 with AdamW, for `zaya-train bench --reference`.

Reads {"config": a config.json, "context", "windows", "threads", "steps"} from standard input; prints one number, the median of the steps.
"""
import json
import sys
import time

import torch
from transformers import ZayaConfig, ZayaForCausalLM

arguments = json.load(sys.stdin)
windows, context = arguments["windows"], arguments["context"]
torch.set_num_threads(arguments["threads"])
torch.manual_seed(0)
config = ZayaConfig.from_dict(arguments["config"], attn_implementation="sdpa", experts_implementation="grouped_mm")
model = ZayaForCausalLM(config).bfloat16()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5, betas=(0.9, 0.95), fused=True)
times = []
for step in range(arguments["steps"]):
    ids = torch.randint(3, config.vocab_size, (windows, context))
    start = time.perf_counter()
    loss = model(ids, labels=ids, use_cache=False).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    optimizer.zero_grad()
    times.append(time.perf_counter() - start)
print(windows * context / sorted(times)[len(times) // 2])
