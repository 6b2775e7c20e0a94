"""Precisions of the forward passes. Imports nothing heavy: the command line asks for them."""

from __future__ import annotations

from typing import Literal, get_args

Precision = Literal["fp32", "fp16", "bf16"]

#: What ``--clip-precision`` takes.
PRECISIONS: tuple[str, ...] = ("auto", *get_args(Precision))
