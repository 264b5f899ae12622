"""transformers + torch in bfloat16 on a model of the given shape and random weights, driven line by line.

In, first line: {"config": a config.json, "threads": n}; then {"kind": "pp" | "tg", "tokens": n, "restart": bool, "layers": n}. Out: {"seconds": s}.
With fewer `layers` than the model has, only the first ones run.
"""
import json
import sys
import time

import torch
from transformers import DynamicCache, ZayaConfig, ZayaForCausalLM

start = json.loads(sys.stdin.readline())
torch.set_num_threads(start["threads"])
torch.manual_seed(0)
torch.set_grad_enabled(False)
torch.set_default_dtype(torch.bfloat16)
config = ZayaConfig.from_dict(start["config"], attn_implementation="sdpa", experts_implementation="grouped_mm")
model = ZayaForCausalLM(config).eval()
layers = model.model.layers
cache = None


def run(ids, past):
    return model(ids, past_key_values=past, use_cache=True, logits_to_keep=1)


print(json.dumps({"ready": True}), flush=True)
for line in sys.stdin:
    request = json.loads(line)
    model.model.layers = layers[: request["layers"]]
    config.num_hidden_layers = request["layers"]
    tokens = request["tokens"]
    ids = torch.randint(3, config.vocab_size, (1, tokens))
    if request["kind"] == "pp":
        past = DynamicCache(config=config)
        begin = time.perf_counter()
        run(ids, past)
    else:
        if request.get("restart") or cache is None:
            cache = DynamicCache(config=config)
            run(torch.randint(3, config.vocab_size, (1, 8)), cache)
        begin = time.perf_counter()
        for token in range(tokens):
            run(ids[:, token : token + 1], cache)
    print(json.dumps({"seconds": time.perf_counter() - begin}), flush=True)
