"""Families whose keys and values are compressed to a latent vector: DeepSeek V2 and V3, Kimi K2."""

from __future__ import annotations

from qatplan.models.architecture import Architecture
from qatplan.models.families.config import Config
from qatplan.models.families.grouped import dense_width, expert_width, experts_of, routed_layers, shared
from qatplan.models.layers import feed_forward, latent_attention, norms


def deepseek(config: Config) -> Architecture:
    """DeepseekV2Config and DeepseekV3Config of transformers; Kimi K2 has the latter's fields."""
    width, (count, active) = config.width, experts_of(config)
    plain, rotary = config.whole("qk_nope_head_dim"), config.whole("qk_rope_head_dim")
    mixer = latent_attention(
        width, config.heads, rank=config.whole("kv_lora_rank"), query_rank=config.whole("q_lora_rank", default=0),
        plain=plain, rotary=rotary, value=config.whole("v_head_dim"), bias=config.flag("attention_bias"),
    )  # fmt: skip
    around = mixer + norms(2 * width)
    routed = routed_layers(config, count)
    dense, of_experts = around, around
    if not all(routed):
        dense += feed_forward(width, dense_width(config, config.whole("intermediate_size")))
    if any(routed):
        of_experts += feed_forward(width, expert_width(config), experts=count, shared=shared(config))
    return config.architecture(
        [of_experts if is_routed else dense for is_routed in routed], tied=False, kv_heads=config.heads,
        feed_forward=expert_width(config) if any(routed) else config.whole("intermediate_size"),
        head_size=plain + rotary, experts=count, active=active,
    )  # fmt: skip
