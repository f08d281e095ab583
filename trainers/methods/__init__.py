"""Training methods, one module for each (Config and trainer), on TRL; `train` runs any of them."""

from trainers.methods.common import Trained
from trainers.methods.run import train

__all__ = ["Trained", "train"]
