"""Processor steps one at a time, in `steps/`: for each case the pipeline's JSON and state as LeRobot
saves them, and `<case>.safetensors` with runs `<i>.in.<feature>`, `<i>.out.<feature>` (images [H, W, 3]),
`<i>.tokens` and `<i>.mask`, `<i>.action` and `<i>.answer`; in the metadata `features` of the model and the
`tasks` before and after. A case with an answer has a second pipeline, `<case>_post`, which is given the
action after the first has run."""

import json
from pathlib import Path

import torch
from lerobot.configs.types import FeatureType, PolicyFeature
from lerobot.policies.pi0.processor_pi0 import Pi0NewLineProcessor
from lerobot.policies.pi0_fast.processor_pi0_fast import Pi0FastPrepareStateAndLanguageTokenizerProcessorStep
from lerobot.policies.pi05.processor_pi05 import Pi05PrepareStateTokenizerProcessorStep
from lerobot.policies.xvla.processor_xvla import (
    XVLAAddDomainIdProcessorStep,
    XVLAImageNetNormalizeProcessorStep,
    XVLAImageScaleProcessorStep,
    XVLAImageToFloatProcessorStep,
)
from lerobot.processor import (
    AbsoluteActionsProcessorStep,
    ActionTokenizerProcessorStep,
    AddBatchDimensionProcessorStep,
    DataProcessorPipeline,
    DeviceProcessorStep,
    NewLineTaskProcessorStep,
    NormalizerProcessorStep,
    RelativeActionsProcessorStep,
    RenameObservationsProcessorStep,
    TokenizerProcessorStep,
    UnnormalizerProcessorStep,
)
from safetensors.torch import save_file

from .common import ACTION, ENV, GOLDEN, IMAGES, STATE, TASK, M, normal, random_stats, seeded, smooth_image, tiny_tokenizer, tokenizer_from

CAMERA = IMAGES + "front_left"
INPUTS = {
    CAMERA: PolicyFeature(FeatureType.VISUAL, (3, 4, 5)),
    STATE: PolicyFeature(FeatureType.STATE, (4,)),
    ENV: PolicyFeature(FeatureType.ENV, (2,)),
}
OUTPUTS = {ACTION: PolicyFeature(FeatureType.ACTION, (3,))}
TASKS = [TASK, "ends with a line\n", "", "  two  spaces, 1234 digits_and underscores\nin two lines \t", "Größe 3½ 机器人 🤖 ok", "a <image> b<eos><|im_end|>", "x" * 70, "wait  2  seconds, 3   times"]


class Sizes:
    input_features, output_features = INPUTS, OUTPUTS


def statistics(seed: int) -> dict:
    return random_stats(seeded(seed), Sizes)


def normalizer(kind, mode, seed: int = 5, **more):
    return kind({**INPUTS, **OUTPUTS}, {FeatureType.VISUAL: mode, FeatureType.STATE: mode, FeatureType.ENV: mode, FeatureType.ACTION: mode}, statistics(seed), **more)


def case(*steps, post=(), tasks=(TASK,), inputs=tuple(INPUTS), before_rename=None):
    """`steps` make the first pipeline's, `post` the second's from the first's."""

    def make(out: Path) -> None:
        rng = seeded(11)
        out.parent.mkdir(exist_ok=True)
        name = out.name
        made = [step() for step in steps]
        pre = DataProcessorPipeline(made, name=name)
        after = [step(made) for step in post]
        tail = DataProcessorPipeline(after, name=f"{name}_post")
        with torch.no_grad():
            tensors, tasks_out = {}, []
            for i, task in enumerate(tasks):
                given = {}
                for key in inputs:
                    feature = INPUTS[key]
                    wide = (smooth_image(rng, *feature.shape[1:]).float() / 255).permute(2, 0, 1) if feature.type is FeatureType.VISUAL else normal(rng, *feature.shape)
                    given[(before_rename or {}).get(key, key)] = wide
                if i == 1 and STATE in given:
                    given[STATE] = torch.tensor([-1.0, 1.0, -7.0, 0.9999])
                found = pre({**given, "task": task} if given else {"task": task})
                tasks_out.append(found["task"] if isinstance(found["task"], str) else found["task"][0])
                image = lambda x: x.movedim(-3, -1).contiguous().float()  # noqa: E731
                for key, value in given.items():
                    tensors[f"{i}.in.{key}"] = image(value) if key.startswith(IMAGES) else value
                for key, value in found.items():
                    if key.endswith(".tokens"):
                        tensors[f"{i}.tokens"] = value[0].to(torch.int32)
                    elif key.endswith(".attention_mask"):
                        tensors[f"{i}.mask"] = value[0].to(torch.uint8)
                    elif key.startswith("observation."):
                        tensors[f"{i}.out.{key}"] = image(value) if key.startswith(IMAGES) else value.float()
                if after:
                    action = normal(rng, 1, 6, 3)
                    tensors[f"{i}.action"] = action.clone()
                    tensors[f"{i}.answer"] = tail({ACTION: action})[ACTION].float()
        # The tokenizers are in this folder, under their folders' names.
        pre.save_pretrained(out.parent, config_filename=f"{name}.json")
        text = out.with_suffix(".json").read_text()
        out.with_suffix(".json").write_text(text.replace(f"{out.parent}/", ""))
        if after:
            tail.save_pretrained(out.parent, config_filename=f"{name}_post.json")
        words = lambda features: {key: {"type": f.type.value, "shape": f.shape} for key, f in features.items()}  # noqa: E731
        metadata = {"features": json.dumps({"inputs": words({k: INPUTS[k] for k in inputs}), "outputs": words(OUTPUTS)}),
                    "tasks": json.dumps([list(tasks), tasks_out])}
        save_file({key: value.clone() for key, value in tensors.items()}, out.with_suffix(".safetensors"), metadata=metadata)
        print(f"{out.parent.name}/{name}: {len(tensors)} tensors")

    return make


def tokenizer(style: str, **options):
    """A step that finds the tokenizer of `style` in the folder `steps/<style>`."""
    def make():
        folder = GOLDEN / "steps" / style
        tiny_tokenizer(folder, style)
        return TokenizerProcessorStep(tokenizer_name=str(folder), **options)

    return make


def no_action_tokens():
    with tokenizer_from(GOLDEN / "steps" / "gemma"):
        step = ActionTokenizerProcessorStep(action_tokenizer_input_object=object())
    step.get_config = lambda: {"trust_remote_code": True, "max_action_tokens": 256, "action_tokenizer_name": "lerobot/fast-action-tokenizer"}
    return step


def relative(made):
    return AbsoluteActionsProcessorStep(enabled=made[-1].enabled, relative_step=next(step for step in made if isinstance(step, RelativeActionsProcessorStep)))


NAMES = {"action_names": ["shoulder.pos", "Wrist.pos", "gripper.pos"], "exclude_joints": ["wrist"]}
BATCH = AddBatchDimensionProcessorStep
TEXT = {"inputs": (STATE,), "tasks": TASKS}

CASES = {f"steps/{name}": make for name, make in {
    "rename": case(lambda: RenameObservationsProcessorStep({IMAGES + "camera1": CAMERA, "observation.joints": STATE, "observation.other": "observation.not"}),
                   before_rename={CAMERA: IMAGES + "camera1", STATE: "observation.joints"}),
    "to_batch": case(BATCH),
    "device": case(lambda: DeviceProcessorStep("cpu")),
    "device_float32": case(lambda: DeviceProcessorStep("cpu", "float32")),
    "device_float16": case(lambda: DeviceProcessorStep("cpu", "float16")),
    "device_bfloat16": case(lambda: DeviceProcessorStep("cpu", "bfloat16"), post=(lambda _: DeviceProcessorStep("cpu", "bfloat16"),)),
    **{f"{mode.value.lower()}": case(BATCH, lambda mode=mode: normalizer(NormalizerProcessorStep, mode),
                                     post=(lambda _, mode=mode: normalizer(UnnormalizerProcessorStep, mode),), tasks=(TASK, TASK)) for mode in M},
    **{f"{mode.value.lower()}_{dtype}": case(lambda dtype=dtype: DeviceProcessorStep("cpu", dtype), lambda mode=mode: normalizer(NormalizerProcessorStep, mode, seed=6),
                                             post=(lambda _, dtype=dtype: DeviceProcessorStep("cpu", dtype), lambda _, mode=mode: normalizer(UnnormalizerProcessorStep, mode, seed=6)))
       for mode, dtype in [(M.MEAN_STD, "bfloat16"), (M.MIN_MAX, "float16"), (M.QUANTILES, "bfloat16"), (M.MIN_MAX, "bfloat16"), (M.MEAN_STD, "float16")]},
    "only_some_keys": case(lambda: normalizer(NormalizerProcessorStep, M.MEAN_STD, normalize_observation_keys={STATE}, eps=0.25)),
    "smolvla_newline": case(BATCH, NewLineTaskProcessorStep, **TEXT),
    "pi0_newline": case(BATCH, Pi0NewLineProcessor, **TEXT),
    "pi05_state": case(BATCH, Pi05PrepareStateTokenizerProcessorStep, **TEXT),
    "pi0_fast_state": case(BATCH, Pi0FastPrepareStateAndLanguageTokenizerProcessorStep, **TEXT),
    "tokens_smol_longest": case(tokenizer("smol", padding="longest", max_length=48), **TEXT),
    "tokens_smol_cut": case(tokenizer("smol", padding="max_length", max_length=12), **TEXT),
    "tokens_smol_uncut": case(tokenizer("smol", padding="max_length", max_length=20, truncation=False, padding_side="left"), **TEXT),
    "tokens_gemma": case(tokenizer("gemma", padding="max_length", max_length=48), **TEXT),
    "tokens_gemma_cut": case(tokenizer("gemma", padding="longest", max_length=9), **TEXT),
    "tokens_clip": case(tokenizer("clip", padding="max_length", max_length=24), **TEXT),
    "tokens_clip_cut": case(tokenizer("clip", padding="max_length", max_length=6, padding_side="left"), **TEXT),
    "tokens_bart": case(tokenizer("bart", padding="max_length", max_length=40), **TEXT),
    "tokens_bart_cut": case(tokenizer("bart", padding="longest", max_length=7), **TEXT),
    "xvla_images": case(BATCH, lambda: XVLAImageScaleProcessorStep(), lambda: XVLAImageToFloatProcessorStep(), lambda: XVLAImageNetNormalizeProcessorStep(),
                        lambda: XVLAAddDomainIdProcessorStep(domain_id=3), tasks=(TASK, TASK)),
    "xvla_named_image": case(BATCH, lambda: XVLAImageScaleProcessorStep(image_keys=[CAMERA]), lambda: XVLAImageToFloatProcessorStep(image_keys=["observation.images.other"])),
    "relative": case(BATCH, lambda: RelativeActionsProcessorStep(True, NAMES["exclude_joints"], NAMES["action_names"]), post=(relative,), tasks=(TASK, TASK)),
    "relative_all_bfloat16": case(lambda: DeviceProcessorStep("cpu", "bfloat16"), BATCH, lambda: RelativeActionsProcessorStep(True), post=(relative,)),
    "relative_off": case(BATCH, lambda: RelativeActionsProcessorStep(False), post=(relative,)),
    "action_tokens": case(no_action_tokens, **TEXT),
}.items()}
