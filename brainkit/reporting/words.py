"""What the numbers of a report mean, in one plain line each."""

KINDS = {
    "shown": "shown",
    "reconstruction": "reconstruction",
    "nearest_training_image": "nearest training image",
    "class_mean": "class mean",
    "mean_image": "mean image",
    "shuffled_brain": "shuffled brain",
    "no_brain": "no brain",
    "true_embedding": "from the true embedding",
    "low_level": "low-level look",
    "mean_embedding": "mean embedding",
    "caption_prior": "caption prior",
    "typical_caption": "typical caption",
}

ENCODING = {
    "r": "Pearson correlation, over the held-out items of a fold, between a unit's measured and "
    "predicted response; the mean over folds weighted by their items, and over fold seeds. 0 is no "
    "relation, 1 a perfect prediction. No exemplar (no run, where stimuli are conditions) is in "
    "both the training and the test part of a fit.",
    "R²": "1 − (squared error of the prediction) / (squared error of predicting the training "
    "mean). Negative where the prediction is worse than that mean, as it is where the model has "
    "learned from noise: what exchanged stimuli reach is its chance.",
    "interval": "95 % interval over what is independent in the claim (stimuli, runs or stretches "
    "of time; each section says which). With several folds, whose test items train the other "
    "folds, it is wider by what the choice of training items adds to the score's variance.",
    "noise ceiling": "The share of the variance of a unit's (averaged) response that a model which "
    "knows the stimulus alone can be expected to explain; √ceiling is the highest expected r.",
    "pooled ceiling fraction": "Explained share of the explainable variance of a set of units: "
    "Σ r·|r| / Σ ceiling, both sums over the units with both numbers. 1 is all that can be "
    "explained, 0 is nothing. Pooling weights units by how reliable they are; no unit's ceiling "
    "is clamped.",
    "shuffled features": "Null: the whole fit again with stimuli exchanged at random, so that no "
    "feature belongs to its response. About 0, since correlations are formed within folds.",
    "2V2": "Pattern score: share of pairs of held-out items of one fold whose predicted patterns "
    "over a region's units are nearer (cosine) to their own measured patterns than to each "
    "other's. Chance is .5. The value is a mean over regions.",
    "pattern r": "Pattern score: correlation over a region's units between the measured and the "
    "predicted pattern of one held-out item, both less the units' training means; mean over "
    "items, then over regions. Another quantity than the r of a unit, which is over items.",
    "p": "Share of null runs with a score at least as high, counting the observed run as one "
    "(so never below 1 / (runs + 1)).",
    "left-out units": f"Units whose training responses are constant or not finite are not fitted; "
    f"their scores are NaN, shown as “{chr(0x2013)}”, and they are counted.",
}

CEILINGS = {
    "ncsnr": "after the definition of the Natural Scenes Dataset, from how much the trials of one "
    "stimulus differ (Allen et al., 2022)",
    "split-half": "from the correlation of halves of the repeats, stepped up by Spearman and Brown",
    "cross-subject": "from how well other subjects' responses predict this one's, extrapolated to "
    "ever more subjects (Schrimpf et al., 2021)",
    "cross-subject-all": "from how well all other subjects' responses together predict this one's",
}

DECODING = {
    "pixel correlation": "Pearson correlation over the pixels of the shown and the made image.",
    "SSIM": "Structural similarity of the grey images, Gaussian windows; 1 for equal images.",
    "identification, reconstruction given image": "For each shown image, the share of the other "
    "reconstructions of its fold that resemble it less than its own does. Chance is .5; the preset "
    "says how ties count.",
    "identification, image given reconstruction": "For each reconstruction, the share of the other "
    "shown images of its fold that resemble it less than the right one does. Chance is .5; the "
    "preset says how ties count.",
    "nearest training image": "Null: the training image nearest to the decoded features; what "
    "copying from the training set could show.",
    "class mean": "Null: the mean training image of the true class (for photographs of several "
    "things, the category of the largest object; of all training images where the class is not "
    "known); what a decoder of the class alone could show.",
    "mean image": "Null: the mean of all training images, the same for every item of a fold.",
    "shuffled brain": "Null: the whole decoder fitted and tested on responses exchanged between "
    "images.",
    "no brain": "Null: a training image drawn at random, the prior without any brain.",
    "difference": "Mean over held-out images of (score of the reconstruction − score of the null), "
    "with its 95 % interval over images. It is told apart from the null where the "
    "interval excludes 0; “below” means that the null scores higher.",
}

RECONSTRUCTION = {
    "drawn and said": "From the embedding that ridge predicts from the brain a frozen generator "
    "draws an image and a frozen captioner says a sentence. Both make convincing ones of anything: "
    "what counts is the distance from the nulls.",
    "from the true embedding": "The same generator and captioner, given the embedding of the image "
    "shown: what a perfect decoder of embeddings would reach.",
    "low-level look": "The autoencoder's latents that ridge predicts from the brain, decoded: "
    "where drawing starts.",
    "retrieval, image from brain": "Share of comparisons in which the embedding of the image shown "
    "is the most similar, of all in the gallery, to the one predicted from the brain. The preset "
    "names the gallery's size; chance is 1 over it.",
    "retrieval, brain from image": "The other way: how often the embedding predicted from the "
    "right brain response is the most similar to that of the image. The two differ.",
    "identification [judge]": "A held-out network, which had no part in the decoding, looks at the "
    "images: given the reconstruction, it finds the image shown among n (or the reverse), by "
    "correlation of its features. The share of all draws of n − 1 others in which the right one "
    "comes first; chance is 1 / n. Without a judge in brackets pixels are compared, with one "
    "other at a time, and chance is .5.",
    "caption names category": "Share of sentences whose first-named category is that of the "
    "image's largest object.",
    "shuffled brain (drawn and said)": "Null: the whole decoding fitted and tested on responses "
    "exchanged between images.",
    "mean embedding": "Null: drawn, or said, from the mean training embedding.",
    "class mean (drawn)": "Null: drawn from the mean training embedding of the true category; what "
    "a decoder of the category alone could show.",
    "nearest training image (by embedding)": "Null: the training image whose embedding is nearest "
    "to the decoded one; what copying from the training set could show.",
    "caption prior": "Null: drawn from words alone, the caption of that nearest training image; "
    "among the sentences, that caption itself.",
    "typical caption": "Null: the one training caption whose image is nearest to the mean.",
    "no brain (drawn and said)": "Null: drawn from nothing at all; among the sentences, a training "
    "caption at random.",
    "told apart": "Mean over images of (score − score of the null), with its 95 % "
    "interval over images: told apart where it excludes 0.",
}

RANKING = {
    "ranked stimuli": "The stimuli of a bank that an encoder, which was not fitted on any of them, "
    "predicts to drive a region most.",
    "judge": "A second encoder, fitted on other features and on other trials than the one that "
    "ranks; it has no part in the choice. Its percentile of a stimulus is the share of the "
    "rest of the bank that it predicts to drive the region less, ties counting one half; chance "
    "is 50.",
    "random stimuli": "Null: the percentile expected of stimuli drawn from the bank at random.",
    "agreement": "Correlation, over the bank, of the drive that encoder and judge predict.",
    "encoder r, judge r": "How well each predicts the region's mean response to the test stimuli; "
    "a judge with a low r is a weak witness.",
    "true percentile": "Simulated data only: share of the bank that truly drives the region less "
    "than the chosen stimuli do in the mean.",
}

RSA = {
    "RDM": "Representational dissimilarity matrix: how different the responses to, or the features "
    "of, every pair of stimuli are. It has no voxels and no channels any more, so that people and "
    "networks can be compared.",
    "similarity": "How alike two RDMs are over all pairs of stimuli (the comparison is named in "
    "each table's preset); the mean over people of the layer's similarity with each person's own "
    "RDM. No weights are fitted.",
    "interval": "95 % interval for new people and new stimuli: both were drawn anew, together and "
    "each alone, and the three variances combined (Schütt et al., 2023). Pairs of a stimulus "
    "with its own copy do not count.",
    "noise ceiling": "Where the true model is expected, given how much people differ: an estimate "
    "from both sides (Nili et al., 2014), not a bound. Lower end: mean similarity of each person's "
    "RDM with the pooled RDM of all others. Upper end: with the pooled RDM of all, the person "
    "included. RDMs are ranked, or standardised, as the comparison asks before they are pooled.",
    "bound": "No RDM, with ties or without, is more similar to these people's on average. For "
    "Spearman's ρ it lies above the noise ceiling's upper end, which a model with ties can exceed.",
    "ceiling of the mean RDM": "The same with people's dissimilarities averaged as they are; "
    "often reported, but people with larger dissimilarities weigh more.",
    "relabelled stimuli": "Null: the layers' stimuli exchanged at random, whole rows and columns "
    "of the RDM at a time, alike for all layers and people.",
    "best of relabelled stimuli": "Null of the best layer: the mean over relabellings of what the "
    "best of all layers reaches by luck.",
    "p, family-wise": "Share of relabellings in which the best of all layers and regions is at "
    "least as similar as this one, counting the observed labelling as one.",
    "layer chosen by others": "For each person the layer that is best for all other people, scored "
    "on this person: what the best layer is worth without the luck of choosing it. Its interval is "
    "over people alone.",
    "layers from best to best": "Position of the late region's best layer less that of the early "
    "region's, in layers; percentile interval over people and stimuli.",
    "rise over layers": "How much similarity rises from the first layer to the last by its linear "
    "trend, for the late region less for the early one. It uses all layers and chooses none; above "
    "0 the order of regions follows the order of layers.",
}


def kind_name(kind: str) -> str:
    """Return the name of a kind of image, or of a null, as a reader sees it."""
    return KINDS.get(kind, kind.replace("_", " "))


def metric_name(metric: str) -> str:
    """Return the id of a metric as words."""
    return metric.replace("_", " ")
