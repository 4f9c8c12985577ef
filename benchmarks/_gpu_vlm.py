"""Ten clients of a random vision-language model in a run, beside PEFT and transformers' Trainer for one of them."""

from __future__ import annotations

import json
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import torch
from _card import peak_memory, peak_of, product_rate
from _random_vlm import BILLION, SMALL, pictures, task, write_vlm
from peft import LoraConfig, get_peft_model
from transformers import LlavaForConditionalGeneration, Trainer, TrainerCallback, TrainingArguments

import fedmosaic as fm
from fedmosaic.config import RunSettings
from fedmosaic.data.in_memory import InMemoryImages
from fedmosaic.models import load_base_model
from fedmosaic.training import ClientState


def cohorts() -> list[str]:
    """The values of the cohort setting to compare; one empty value where there is none."""
    return ["off", "auto"] if "cohort" in RunSettings.model_fields else [""]


def vlm(device: torch.device, small: bool) -> dict[str, Any]:
    """Tokens per second and memory of ten clients in a run, and of PEFT with the Trainer for one."""

    batch, steps_ = (2, 2) if small else (8, 6)
    dtype = torch.float32 if device.type == "cpu" else torch.bfloat16
    rate = product_rate(device, width=128 if small else 8192, dtype=dtype)
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        weights = write_vlm(folder, SMALL if small else BILLION, device, dtype)
        found = {
            "weights": weights,
            "dtype": str(dtype).removeprefix("torch."),
            "flops_per_second_of_a_large_product": rate,
            "peak_flops_per_second": peak_of(device),
            "PEFT and Trainer, one client": _with_trainer(folder, device, dtype, batch, 3 * steps_, Path(scratch)),
        }
        for cohort in cohorts():
            how = {"cohort": cohort} if cohort else {}
            found[f"ten clients {cohort}".strip()] = _ten_clients(folder, device, dtype, batch, steps_, scratch, how)
    for each in found.values():
        if isinstance(each, dict) and each.get("flops_per_second") and peak_of(device):
            each["share_of_peak"] = each["flops_per_second"] / (peak_of(device) or 1)
    return found


def _ten_clients(
    folder: Path, device: torch.device, dtype: torch.dtype, batch: int, steps_: int, scratch: str, how: dict[str, Any]
) -> dict[str, Any]:
    """A run of two rounds; the second one counts, when everything has been compiled and loaded."""

    own = task(batch * steps_ * 2)
    clients = [{"id": i, "model": str(folder), "tasks": [own.name]} for i in range(10)]
    out = Path(scratch) / f"run {how}"
    runs: list[fm.Run] = []

    def train() -> None:
        runs.append(
            fm.run(
                fm.Scenario(name="ten", clients=clients), method="fedmosaic", rounds=2, device=str(device), out=out,
                tasks=[own], images=pictures(), training={"steps": steps_, "batch_size": batch},
                model={"dtype": str(dtype).removeprefix("torch.")}, adapter={"rank": 16}, **how,
            )
        )  # fmt: skip

    peak = peak_memory(train, device)
    lines = [json.loads(line) for line in (out / "events.jsonl").read_text().splitlines()]
    took = sum(line["seconds"] for line in lines if line["event"] == "trained" and line["round"] == 2)
    model = load_base_model(str(folder), images=InMemoryImages(pictures()), home=Path(scratch), device="cpu")
    tokens = model.collate(own.train[:batch]).input_ids.numel() * steps_ * 10
    state: ClientState = ClientState.of_adapter(runs[0].client(0).model.adapter)
    adapters = sum(tensor.numel() * 4 for tensor in state.tensors().values())
    weights = sum(parameter.numel() for parameter in model.module.parameters()) * dtype.itemsize
    return {
        "seconds": took,
        "tokens_per_second": tokens / took,
        "flops_per_second": runs[0].results.costs.flops / 2 / took,
        "peak_bytes": peak,
        "bytes_of_base_and_ten_adapters_with_moments": weights + 10 * 3 * adapters,
    }


def _with_trainer(
    folder: Path, device: torch.device, dtype: torch.dtype, batch: int, steps_: int, scratch: Path
) -> dict[str, Any]:
    """PEFT's LoRA of the same rank on the same projections, trained on the same batch."""

    reader = load_base_model(str(folder), images=InMemoryImages(pictures()), home=scratch, device="cpu")
    read = reader.collate(task(batch).train[:batch])
    inputs = {
        "input_ids": read.input_ids, "attention_mask": read.attention_mask, "labels": read.labels,
        "pixel_values": read.vision["pixel_values"].to(dtype),
    }  # fmt: skip
    module = LlavaForConditionalGeneration.from_pretrained(folder, dtype=dtype)
    targets = r".*language_model.*\.(q_proj|k_proj|v_proj|o_proj|gate_proj|up_proj|down_proj)"
    model = get_peft_model(module, LoraConfig(r=16, lora_alpha=32, target_modules=targets))
    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            if device.type == "cuda":
                torch.cuda.synchronize()
            marks.append(time.perf_counter())

    arguments = TrainingArguments(
        output_dir=str(scratch / "trainer"), max_steps=steps_, per_device_train_batch_size=1, report_to=[],
        bf16=dtype == torch.bfloat16, use_cpu=device.type == "cpu", save_strategy="no", logging_strategy="no",
        remove_unused_columns=False, disable_tqdm=True, dataloader_pin_memory=False,
    )  # fmt: skip
    trainer = Trainer(
        model, arguments, train_dataset=[inputs] * steps_, data_collator=lambda rows: dict(rows[0]), callbacks=[Clock()]
    )
    peak = peak_memory(trainer.train, device)
    took = median(later - earlier for earlier, later in pairwise(marks[1:]))
    return {"seconds_per_step": took, "tokens_per_second": read.input_ids.numel() / took, "peak_bytes": peak}
