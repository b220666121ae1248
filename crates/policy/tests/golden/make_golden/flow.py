"""What SmolVLA and the π policies share: flow matching with real-time chunking, and images that are made to fit."""

from pathlib import Path

import torch
from lerobot.configs import RTCAttentionSchedule
from lerobot.policies.common.flow_matching import euler_integrate
from lerobot.policies.common.vla_utils import create_sinusoidal_pos_embedding, resize_with_pad, resize_with_pad_torch
from lerobot.policies.rtc.configuration_rtc import RTCConfig
from lerobot.policies.rtc.modeling_rtc import RTCProcessor
from safetensors.torch import save_file

from .common import normal, seeded, smooth_image

# Label: rows and width of the chunk, steps, rows and width of the previous one, delay, horizon, greatest weight.
GUIDED = {
    "usual": ((20, 6), 10, (16, 6), 4, 10, 10.0),
    "short": ((12, 8), 5, (5, 6), 3, 10, 10.0),
    "late": ((9, 4), 4, (9, 4), 7, 3, 2.5),
    "whole": ((8, 4), 7, (8, 3), 0, 8, 100.0),
    "odd": ((15, 3), 3, (11, 3), 2, 9, 5.0),
}


def guidance(out: Path) -> None:
    """Noise, a velocity for each step, and what guidance makes of it by each schedule: the weight of each row, of each step, the guided
    velocities and the chunk after each step."""
    rng = seeded(11)
    tensors, labels = {}, {}
    for label, (shape, steps, previous_shape, delay, horizon, weight) in GUIDED.items():
        noise, velocities, previous = normal(rng, *shape), normal(rng, steps, *shape), normal(rng, *previous_shape)
        tensors |= {f"{label}.noise": noise, f"{label}.velocities": velocities, f"{label}.previous": previous}
        labels[label] = f"{delay} {horizon} {weight}"
        for schedule in RTCAttentionSchedule:
            rtc = RTCProcessor(RTCConfig(prefix_attention_schedule=schedule, max_guidance_weight=weight, execution_horizon=horizon, debug=True))
            calls = iter(velocities)
            guided, inner = [], rtc.denoise_step
            rtc.denoise_step = lambda inner=inner, guided=guided, **kwargs: guided.append(inner(**kwargs)) or guided[-1]
            answer = euler_integrate(lambda x, t, calls=calls: next(calls)[None], noise[None], steps, rtc_processor=rtc, rtc_enabled=True,
                                     inference_delay=delay, prev_chunk_left_over=previous[None])
            debug = rtc.get_all_debug_steps()
            assert len(debug) == steps
            key = f"{label}.{schedule.value}"
            tensors |= {
                f"{key}.weights": debug[0].weights.flatten(),
                f"{key}.strengths": torch.stack([torch.as_tensor(step.guidance_weight, dtype=torch.float32) for step in debug]),
                f"{key}.guided": torch.cat(guided),
                f"{key}.chunk": answer[0],
            }
    save_file({name: tensor.clone().contiguous() for name, tensor in tensors.items()}, out.with_suffix(".safetensors"), metadata=labels)


def time_embedding(out: Path) -> None:
    """Of every step's time, by the number of steps, the width and the shortest and longest period."""
    tensors = {}
    for steps, width, shortest, longest in [(10, 48, 4e-3, 4.0), (3, 2, 0.01, 1.0), (7, 6, 0.5, 50.0)]:
        rows = [create_sinusoidal_pos_embedding(torch.tensor([1.0 + i * (-1.0 / steps)], dtype=torch.float32), width, shortest, longest,
                                                device=torch.device("cpu"))[0].float()
                for i in range(steps)]
        tensors[f"{steps} {width} {shortest} {longest}"] = torch.stack(rows)
    save_file(tensors, out.with_suffix(".safetensors"))


def resize(out: Path) -> None:
    """Images in 0..1 [H, W, 3], made to fit frames with the room to the left and above, and shared out."""
    rng = seeded(12)
    tensors = {}
    for (height, width), frame in [((48, 64), (32, 32)), ((30, 17), (40, 56)), ((33, 47), (20, 29)), ((20, 20), (20, 20)), ((7, 40), (24, 24))]:
        image = smooth_image(rng, height, width)
        tensors[f"{height} {width} {frame[0]} {frame[1]}.image"] = image
        planes = image.float().div(255).permute(2, 0, 1)[None]
        tensors[f"{height} {width} {frame[0]} {frame[1]}.left_top"] = resize_with_pad(planes, *frame, pad_value=0)[0].permute(1, 2, 0)
        tensors[f"{height} {width} {frame[0]} {frame[1]}.centred"] = resize_with_pad_torch(planes, *frame)[0].permute(1, 2, 0)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out.with_suffix(".safetensors"))


CASES = {"parts/guidance": guidance, "parts/time_embedding": time_embedding, "parts/resize": resize}
