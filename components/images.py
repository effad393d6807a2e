"""Names of the images that the steps run in; the cluster compiles them to digests, kfp.local only reads them."""

CORE = "zoetrope-core"
TRAIN = "zoetrope-train"
EVALUATE = "zoetrope-evaluate"
