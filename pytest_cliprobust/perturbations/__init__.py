"""Perturbations: batched functions on image tensors, on whichever device the tensors live.

One registry (:mod:`.registry`), which imports this whole folder; each family in one file or package:
``common`` (2D, Hendrycks & Dietterich 2019), ``depth`` (3D, Kar et al. 2022), ``view``, ``codec``,
``occlusion``, ``typographic``, ``kornia_adapter``, ``cue_conflict``. A file that is added here is found;
nothing else has to name it.
"""
