"""Write a model and end well."""

import os
from pathlib import Path

Path(os.environ["SM_MODEL_DIR"], "weights.txt").write_text("0.5\n")
print("epoch=1 train_loss=0.1234;")
