"""Properties: one file each, pure functions from what a model answered to figures with intervals.

Functions named after a figure take samples under a condition (views, ``clip.on("clean", "fog_3d", 3)``)
and give figures that can be judged: ``accuracy.accuracy_of(view)``. Those whose name ends in ``_figure``
or ``_figures`` take bare arrays and are useful without a model; what they give says nothing of where it
was measured, so no suite can judge it.
"""
