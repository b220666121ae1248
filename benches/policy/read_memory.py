"""Reads 4 GB from memory, again and again, and prints the best speed as JSON: what a policy can't be faster than whose weights are read once
a token.

    python read_memory.py --threads T
"""

import argparse
import json
import time

import torch


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    values = torch.ones(1_000_000_000)
    times = []
    for _ in range(8):
        start = time.perf_counter()
        values.sum()
        times.append(time.perf_counter() - start)
    print(json.dumps({"bytes_per_second": values.numel() * values.element_size() / min(times)}))


main()
