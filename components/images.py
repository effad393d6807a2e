"""Names of the images that the steps run in, as in images.lock; kfp.local only reads them."""

CORE = "core"
TRAIN = "train"
EVALUATE = "evaluate"
