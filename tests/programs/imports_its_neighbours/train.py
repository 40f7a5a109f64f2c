"""Import modules of one's own that have the names of ours."""

import predictor
import training

print(predictor.OWNER, training.OWNER)
