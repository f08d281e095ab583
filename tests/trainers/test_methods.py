"""Each training method moves its own objective on a tiny random model, and its loss keeps its invariants."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from evalkit.errors import UserError
from trainers.methods import Trained, train
from trainers.methods.common import load_tokenizer
from trainers.methods.data import IGNORED, encode, encode_turns
from trainers.methods.reward import RewardModel, score
from trainers.recorder import Recorder
from trainers.rows import Row, assistant, user

QUICK: dict[str, Any] = {"max_length": 128, "per_device_train_batch_size": 4, "lora_r": 8, "warmup_steps": 0}


def curve(recorder: Recorder, metric: str) -> list[float]:
    return [value for name, _, value in recorder.points if name == metric and value is not None]


@pytest.fixture(scope="module")
def sft(tiny: Path, sft_rows: list[Row], tmp_path_factory: pytest.TempPathFactory) -> Trained:
    out = tmp_path_factory.mktemp("sft") / "model"
    settings = {**QUICK, "learning_rate": 1e-2, "num_train_epochs": 3}
    return train("sft", sft_rows, sft_rows[:4], tiny, out, settings)


def test_sft_learns_its_rows(sft: Trained) -> None:
    assert sft.stopped == "done" and sft.steps == 12
    assert sft.losses[0][1] > 5 and sft.losses[-1][1] < 0.1
    assert sft.metrics["eval_loss"] < 0.1


def test_the_merged_folder_answers_as_base_and_adapter_do(sft: Trained, tiny: Path) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    ids = torch.tensor([[1, 40, 80, 120, 160]])
    with torch.inference_mode():
        merged = AutoModelForCausalLM.from_pretrained(sft.folder, use_safetensors=True)(ids).logits
        base = AutoModelForCausalLM.from_pretrained(tiny)
        before = base(ids).logits
        beside = PeftModel.from_pretrained(base, sft.folder / "adapter")(ids).logits
    assert torch.allclose(merged, beside, atol=1e-4)
    assert not torch.allclose(merged, before, atol=0.1)


def test_what_is_beside_the_weights_is_the_bases_own(sft: Trained, tiny: Path) -> None:
    for name in (
        "config.json",
        "tokenizer.json",
        "tokenizer_config.json",
        "chat_template.jinja",
        "generation_config.json",
    ):
        assert (sft.folder / name).read_bytes() == (tiny / name).read_bytes(), name
    assert (
        not list(sft.folder.rglob("*.pt"))
        and not list(sft.folder.rglob("*.pth"))
        and not list(sft.folder.rglob("*.bin"))
    )
    card = (sft.folder / "README.md").read_text()
    assert "## Lineage" in card and "16 rows" in card and "16 test" in card
    assert sorted(p.name for p in sft.folder.parent.iterdir()) == ["model"]


def test_the_local_provider_loads_the_folder(sft: Trained) -> None:
    from evalkit.models.load import load_model
    from evalkit.plan import ModelPlan

    settings = load_model(ModelPlan(model=f"hf/{sft.folder}")).settings
    assert settings.revision and settings.name == "model"


def test_only_the_assistant_is_learned(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    prompt = [*user("How much is 1?"), *assistant("It is 4."), *user("And 2?")]
    ids, labels = encode_turns(tokenizer, prompt, assistant("It is 5."), all_turns=False)
    assert ids == encode(tokenizer, [*prompt, *assistant("It is 5.")])
    learned = [token for token, label in zip(ids, labels, strict=True) if label != IGNORED]
    assert all(label in (token, IGNORED) for token, label in zip(ids, labels, strict=True))
    assert tokenizer.decode(learned) == "It is 5.<|im_end|>\n"
    ids, labels = encode_turns(tokenizer, prompt, assistant("It is 5."), all_turns=True)
    learned = [token for token, label in zip(ids, labels, strict=True) if label != IGNORED]
    assert tokenizer.decode(learned) == "It is 4.<|im_end|>\nIt is 5.<|im_end|>\n"


def test_a_model_without_a_chat_template_learns_as_it_is_asked(tiny: Path) -> None:
    tokenizer = load_tokenizer(tiny)
    tokenizer.chat_template = None
    ids, labels = encode_turns(tokenizer, user("How?"), assistant("So."), all_turns=False)
    assert tokenizer.decode(ids) == "How?\n\nSo.<|im_end|>"
    assert "So.<|im_end|>" in tokenizer.decode([label for label in labels if label != IGNORED])
    assert labels[0] == IGNORED


def test_rows_in_one_sequence_do_not_see_each_other(
    tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A step's loss is the same padded, in one sequence, and packed: positions begin anew, attention stays within."""
    rows = [
        Row(
            "sft",
            {"prompt": user("How much is it? " * (1 + i % 3)), "completion": assistant("good " * (1 + i % 4))},
            "t",
        )
        for i in range(16)
    ]
    settings = {**QUICK, "learning_rate": 1e-9, "max_steps": 1, "per_device_train_batch_size": 16}
    flat = train("sft", rows, [], tiny, tmp_path / "flat", settings)
    packed = train("sft", rows, [], tiny, tmp_path / "packed", {**settings, "packing": True})
    monkeypatch.setattr("trainers.methods.sft.FLAT_TOKENS", 0)
    padded = train("sft", rows, [], tiny, tmp_path / "padded", settings)
    assert flat.losses[0][1] == pytest.approx(padded.losses[0][1], rel=1e-5)
    assert packed.losses[0][1] == pytest.approx(padded.losses[0][1], rel=1e-5)


def test_continued_pretraining_learns_text_and_cuts_long_ones(tiny: Path, tmp_path: Path) -> None:
    texts = [
        Row("text", {"text": f"Question {i}: how much is {i} plus {i + 3}? " * (6 if i == 0 else 1)}, "test")
        for i in range(12)
    ]
    settings = {**QUICK, "max_length": 64, "learning_rate": 1e-2, "num_train_epochs": 4}
    trained = train("cpt", texts, [], tiny, tmp_path / "out", settings)
    assert trained.losses[-1][1] < 0.7 * trained.losses[0][1]


@pytest.mark.parametrize("method", ["dpo", "ipo"])
def test_the_margin_of_preferences_grows(method: Any, tiny: Path, pair_rows: list[Row], tmp_path: Path) -> None:
    recorder = Recorder()
    settings = {**QUICK, "learning_rate": 3e-3, "num_train_epochs": 2, "beta": 0.1}
    trained = train(method, pair_rows[:12], pair_rows[12:], tiny, tmp_path / "out", settings, recorder=recorder)
    # Before the first step the model is its own reference: log 2 for DPO, (1 / (2 beta))^2 for IPO.
    assert trained.losses[0][1] == pytest.approx(0.6931 if method == "dpo" else 25.0, rel=1e-3)
    assert curve(recorder, "margin")[0] == pytest.approx(0, abs=1e-4)
    assert trained.metrics["eval_rewards/margins"] > 0.5
    assert trained.metrics["eval_rewards/accuracies"] == 1.0


def test_all_weights_are_trained_against_a_copy(tiny: Path, pair_rows: list[Row], tmp_path: Path) -> None:
    settings = {**QUICK, "learning_rate": 1e-4, "num_train_epochs": 1}
    trained = train("dpo", pair_rows, [], tiny, tmp_path / "out", settings, adapter="full")
    assert trained.losses[0][1] == pytest.approx(0.6931, rel=1e-3)
    assert trained.losses[-1][1] < 0.69
    assert not (trained.folder / "adapter").exists()


def test_kto_parts_good_from_bad(tiny: Path, kto_rows: list[Row], tmp_path: Path) -> None:
    recorder = Recorder()
    settings = {**QUICK, "learning_rate": 3e-3, "num_train_epochs": 1}
    trained = train("kto", kto_rows, [], tiny, tmp_path / "out", settings, recorder=recorder)
    assert trained.losses[0][1] == pytest.approx(0.5, abs=0.01)  # 1 - sigmoid(0)
    assert trained.losses[-1][1] < 0.4
    chosen, rejected = (curve(recorder, f"rewards/{side}")[-1] for side in ("chosen", "rejected"))
    assert chosen > rejected


def test_a_reward_model_learns_which_is_better(tiny: Path, pair_rows: list[Row], tmp_path: Path) -> None:
    settings = {**QUICK, "learning_rate": 1e-2, "num_train_epochs": 4}
    trained = train("reward", pair_rows[:12], pair_rows[12:], tiny, tmp_path / "out", settings)
    assert trained.metrics["eval_accuracy"] == 1.0
    prompts = [row.content["prompt"] for row in pair_rows]
    model = RewardModel(trained.folder, batch_size=3)
    good = model.score(prompts, ["The answer."] * len(prompts))
    bad = model.score(prompts, ["Question 好"] * len(prompts))
    assert all(one > other for one, other in zip(good, bad, strict=True))
    assert score(trained.folder, prompts[:2], ["The answer."] * 2) == pytest.approx(
        good[:2], abs=1e-4
    )  # padding is masked


def test_what_is_no_reward_model_is_refused(tiny: Path) -> None:
    with pytest.raises(UserError, match="no reward model"):
        RewardModel(tiny)


@pytest.mark.parametrize("method", ["grpo", "rloo"])
def test_rewards_of_online_rl_rise(method: Any, tiny: Path, tmp_path: Path) -> None:
    recorder = Recorder()
    rows = [Row("grpo", {"prompt": user(f"Say {i}.")}, "test") for i in range(8)]

    def short_words(prompts: list[Any], answers: list[str]) -> list[float | None]:
        assert len(prompts) == len(answers)
        return [sum(letter in "aeiou" for letter in answer) / max(len(answer), 1) for answer in answers]

    settings = {
        **QUICK, "per_device_train_batch_size": 32, "per_device_eval_batch_size": 8, "num_generations": 8,
        "learning_rate": 1e-2, "max_steps": 15, "max_completion_length": 8, "beta": 0.0,
        "lr_scheduler_type": "constant",
    }  # fmt: skip
    trained = train(method, rows, [], tiny, tmp_path / "out", settings, recorder=recorder, rewards=[short_words])
    rewards = curve(recorder, "reward")
    assert trained.steps == len(rewards) == 15
    assert sum(rewards[-3:]) / 3 > 1.5 * sum(rewards[:3]) / 3


def test_verifiers_give_rewards_and_bad_specs_are_refused_before(tiny: Path, tmp_path: Path) -> None:
    settings = {**QUICK, "per_device_train_batch_size": 4, "per_device_eval_batch_size": 4, "num_generations": 4}
    wrong = [
        Row(
            "grpo",
            {"prompt": user("Go."), "verify": {"verifier": "unit_tests", "entry_point": "f", "tests": "f()"}},
            "t",
        )
    ]
    with pytest.raises(UserError, match="no reward here"):
        train("grpo", wrong, [], tiny, tmp_path / "wrong", settings)
    with pytest.raises(UserError, match="nothing gives rewards"):
        train("grpo", [Row("grpo", {"prompt": user("Go.")}, "t")], [], tiny, tmp_path / "none", settings)
    from trainers.methods.online import _verifier

    specs = [json.dumps({"verifier": "exact", "answers": ["yes"]}), "null"]
    answers = [[{"role": "assistant", "content": "yes"}]] * 2
    assert _verifier(answers, specs) == [1.0, None]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"settings": {"learning_rat": 1}}, "did you mean learning_rate"),
        ({"settings": {"output_dir": "x"}}, "set by evalkit itself"),
        ({"settings": {"learning_rate": -1}}, "learning_rate"),
        ({"settings": {"max_length": 4}}, "raise max_length"),
        ({"settings": {"report_to": ["wandb"]}}, "allowed: tensorboard, trackio"),
        ({"settings": {"early_stopping_patience": 2}}, "needs validation rows"),
        ({"settings": {"per_device_train_batch_size": 10_000_000}}, "GB of memory, and .* are free"),
        ({"rows": []}, "no rows"),
        ({"method": "dpo"}, "kind 'sft'"),
        (
            {"method": "grpo", "settings": {"num_generations": 5}},
            "^settings: per_device_train_batch_size times .* is 4",
        ),
    ],
)
def test_wrong_input_is_one_sentence(
    change: dict[str, Any], says: str, tiny: Path, sft_rows: list[Row], tmp_path: Path
) -> None:
    given: dict[str, Any] = {"method": "sft", "rows": sft_rows, "settings": {}, **change}
    with pytest.raises(UserError, match=says) as told:
        train(
            given["method"],
            given["rows"],
            [],
            tiny,
            tmp_path / "out",
            {**QUICK, **given["settings"]} if "max_length" not in given["settings"] else given["settings"],
        )
    assert "\n" not in str(told.value)
    assert not (tmp_path / "out").exists()


def test_qlora_runs_or_says_what_is_missing(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    import importlib.util

    settings = {**QUICK, "max_steps": 2}
    if importlib.util.find_spec("bitsandbytes") is None:
        with pytest.raises(UserError, match="pip install bitsandbytes"):
            train("sft", sft_rows, [], tiny, tmp_path / "out", settings, adapter="qlora")
    else:
        assert train("sft", sft_rows, [], tiny, tmp_path / "out", settings, adapter="qlora").steps == 2


def test_rows_that_are_too_long_are_counted(tiny: Path, sft_rows: list[Row], tmp_path: Path) -> None:
    recorder = Recorder()
    long = Row("sft", {"prompt": user("word " * 200), "completion": assistant("good")}, "test")
    train("sft", [*sft_rows[:4], long], [], tiny, tmp_path / "out", {**QUICK, "max_steps": 1}, recorder=recorder)
    assert "1 of 5 rows are longer than max_length=128" in recorder.warnings[0]
