"""Names of the images that the steps run in; the cluster compiles them to digests, kfp.local only reads them."""

CORE = "zoetrope/python-core:0.1.0"
TRAIN = "zoetrope/python-train:0.1.0"
