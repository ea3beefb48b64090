"""What the numbers of a report mean, in one plain line each."""

KINDS = {
    "shown": "shown",
    "reconstruction": "reconstruction",
    "nearest_training_image": "nearest training image",
    "class_mean": "class mean",
    "mean_image": "mean image",
    "shuffled_brain": "shuffled brain",
    "no_brain": "no brain",
}

ENCODING = {
    "r": "Pearson correlation, over held-out stimuli, between a unit's measured and predicted "
    "response. 0 is no relation, 1 a perfect prediction. No stimulus is in both the training and "
    "the test part of a fit.",
    "R²": "1 − (squared error of the prediction) / (squared error of predicting the training "
    "mean). Negative where the prediction is worse than that mean.",
    "noise ceiling": "The share of the variance of a unit's (averaged) response that repeats when "
    "the stimulus repeats, after the definition of the Natural Scenes Dataset. No model that "
    "knows the stimulus alone can be expected to explain more; √ceiling is the highest expected r.",
    "pooled ceiling fraction": "Explained share of the explainable variance of a set of units: "
    "Σ r·|r| / Σ ceiling, both sums over the units with both numbers. 1 is all that can be "
    "explained, 0 is nothing. Pooling weights units by how reliable they are; no unit's ceiling "
    "is clamped.",
    "shuffled features": "Null: the whole fit again with stimuli exchanged at random, so that no "
    "feature belongs to its response. About 0 in large data sets; with few items and many folds "
    "somewhat below 0, since predictions from unrelated stimuli lean away from the items that "
    "were left out.",
    "p": "Share of null runs with a score at least as high, counting the observed run as one "
    "(so never below 1 / (runs + 1)).",
    "left-out units": f"Units whose training responses are constant or not finite are not fitted; "
    f"their scores are NaN, shown as “{chr(0x2013)}”, and they are counted.",
}

DECODING = {
    "pixel correlation": "Pearson correlation over the pixels of the shown and the made image.",
    "SSIM": "Structural similarity of the grey images, Gaussian windows; 1 for equal images.",
    "identification, reconstruction given image": "For each shown image, the share of the other "
    "reconstructions that resemble it less than its own does. Chance is .5; the preset says how "
    "ties count.",
    "identification, image given reconstruction": "For each reconstruction, the share of the other "
    "shown images that resemble it less than the right one does. Chance is .5; the preset says "
    "how ties count.",
    "nearest training image": "Null: the training image nearest to the decoded features; what "
    "copying from the training set could show.",
    "class mean": "Null: the mean training image of the true class; what a decoder of the class "
    "alone could show.",
    "mean image": "Null: the mean of all training images, the same for every item of a fold.",
    "shuffled brain": "Null: the whole decoder fitted and tested on responses exchanged between "
    "trials.",
    "no brain": "Null: a training image drawn at random, the prior without any brain.",
    "difference": "Mean over held-out images of (score of the reconstruction − score of the null), "
    "with the 95 % bootstrap interval over images. It is told apart from the null where "
    "the interval excludes 0; “below” means that the null scores higher.",
}

RANKING = {
    "ranked stimuli": "The stimuli of a bank that an encoder, which was not fitted on any of them, "
    "predicts to drive a region most.",
    "judge": "A second encoder, fitted on other features and on other trials than the one that "
    "ranks; it has no part in the choice. Its percentile of a stimulus is the share of the bank "
    "that it predicts to drive the region less.",
    "random stimuli": "Null: the percentile expected of stimuli drawn from the bank at random.",
    "agreement": "Correlation, over the bank, of the drive that encoder and judge predict.",
    "encoder r, judge r": "How well each predicts the region's mean response to the test stimuli; "
    "a judge with a low r is a weak witness.",
    "true percentile": "Simulated data only: share of the bank that truly drives the region less "
    "than the chosen stimuli do in the mean.",
}


def kind_name(kind: str) -> str:
    """Return the name of a kind of image, or of a null, as a reader sees it."""
    return KINDS.get(kind, kind.replace("_", " "))


def metric_name(metric: str) -> str:
    """Return the id of a metric as words."""
    return metric.replace("_", " ")
