"""``cda``: how CDA was measured (arXiv:2311.18838).

The repository sends readers to SRe2L's relabelling for it, so this is ``sre2l`` but for the batch: 128 in place of
1024, as in the programs of LPLD (arXiv:2410.15919), which grew out of these two. CDA's repository itself names none.
300 epochs of AdamW (rate 1e-3, weight decay 0.01 on tensors of more than one axis only), the rate set every
epoch along a cosine to zero; crops of 8 to 100 % of the area, flips, every batch mixed by CutMix; the teacher's
divergence at temperature 20 without T².

**Optimistic**: tested every ten epochs, the best counts; ``select="last"`` gives the last. Tiny-ImageNet is published
with SGD (0.2, momentum 0.9, weight decay 1e-4) for 100 epochs of batch 256 without mixing, and with T²: override it.
"""

from potstill.evaluation.protocols import sre2l

__all__ = ["PROTOCOL"]

PROTOCOL = sre2l.PROTOCOL.change(
    name="cda",
    paper="arXiv:2311.18838",
    summary="CDA's recipe: SRe2L's for ImageNet with batches of 128, KL at T = 20, best epoch on test",
    batch=128,
)
