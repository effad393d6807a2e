"""Attention kernels: one table, chosen by name or `auto`."""

from zoetrope.model.attention.choice import AUTO, AttentionChoice, backend_names, choose_attention
from zoetrope.model.attention.kernels import Attend, AttendPacked
from zoetrope.model.attention.lengths import PackedLengths

__all__ = ["AUTO", "Attend", "AttendPacked", "AttentionChoice", "PackedLengths", "backend_names", "choose_attention"]
