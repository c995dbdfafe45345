"""Low-rank adapters on a model: added, saved by themselves, and merged into plain weights."""

from collections.abc import Iterator
from typing import Any

from engine.errors import ConfigError
from refinement.training.options import LoraOptions

_NAME = "default"  # of the one adapter, as peft calls it where it is given no name


def add_adapters(model: Any, options: LoraOptions, *, spare_vision: bool) -> None:
    """Puts adapters into the model in place, and leaves nothing else to be trained.

    Raises:
        ConfigError: peft is not installed, or no layer has such a name.
    """
    try:
        import peft
    except ImportError as err:
        raise ConfigError(
            "refine.train.lora needs peft, which is not installed; "
            "pip install 'fld-engine[train]', or refine.train.lora=null"
        ) from err
    config = peft.LoraConfig(
        r=options.rank,
        lora_alpha=options.alpha,
        lora_dropout=options.dropout,
        target_modules=list(options.targets),
        exclude_modules=r".*vision_tower\..*" if spare_vision else None,
    )
    try:
        peft.inject_adapter_in_model(config, model, adapter_name=_NAME)
    except ValueError as err:
        said = str(err).partition("\n")[0]
        raise ConfigError(f"refine.train.lora.targets {list(options.targets)}: {said}") from err
    tied = {"lm_head", "shared", "embed_tokens"} & {name.split(".")[-1] for name in _names(model)}
    if tied:
        raise ConfigError(
            f"refine.train.lora.targets: {sorted(tied)[0]} shares its weights with other layers, "
            "which an adapter cannot; leave it out"
        )


def _names(model: Any) -> Iterator[str]:
    return (name for name, _ in _layers(model))


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    from peft.tuners.lora import LoraLayer

    for name, module in model.named_modules():
        if isinstance(module, LoraLayer):
            yield name, module


def adapter_weights(model: Any) -> dict[str, Any]:
    """The tensors of the adapters by name; none where there are none."""
    return {name: p.detach() for name, p in model.named_parameters() if ".lora_" in name}


def set_adapter_weights(model: Any, weights: dict[str, Any]) -> None:
    """Puts those of `adapter_weights` back."""
    import torch

    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if ".lora_" in name:
                parameter.copy_(weights[name])


def merged_state(model: Any) -> dict[str, Any]:
    """The weights of the plain model that answers as this one with its adapters does.

    The model itself is left as it is.
    """
    state = {
        name.replace(".base_layer.", "."): tensor
        for name, tensor in model.state_dict().items()
        if ".lora_" not in name
    }
    for name, layer in _layers(model):
        delta = layer.get_delta_weight(_NAME).detach()
        state[f"{name}.weight"] = state[f"{name}.weight"] + delta
    return state
