"""The picture of a tuning job: that it can be read."""

import itertools

import pytest
from local_sagemaker.tuning.plot import _draw_parameter
from local_sagemaker.tuning.ranges import NumberRange
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure


@pytest.mark.parametrize("high", [0.011, 0.013, 0.02, 0.05, 0.09, 0.5, 5.0, 1e4])
def test_the_numbers_at_a_logarithmic_axis_do_not_cover_each_other(high):
    """24.2: on an axis of a narrow range as on one of many decades, in a third of the picture's width."""
    figure = Figure(figsize=(3.6, 3), layout="constrained")
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    jobs = [
        (place, {"TunedHyperParameters": {"lr": str(value)}, "TrainingJobStatus": "Completed"}, 1.0 + place)
        for place, value in enumerate((0.01, high))
    ]
    _draw_parameter(axes, NumberRange("lr", 0.01, high, "Logarithmic", False), jobs, jobs[0])
    canvas.draw()
    low_x, high_x = axes.get_xlim()
    shown = [
        tick.label1.get_window_extent()
        for tick in (*axes.xaxis.get_major_ticks(), *axes.xaxis.get_minor_ticks())
        if tick.label1.get_text() and low_x <= tick.get_loc() <= high_x
    ]
    assert len(shown) >= 2
    for left, right in itertools.pairwise(sorted(shown, key=lambda box: box.x0)):
        assert left.x1 <= right.x0
