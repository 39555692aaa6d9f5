"""Slips that a type checker must report: every line that ends with `# error`, and no other."""

from __future__ import annotations

import numpy as np

import optimlite as ol
from optimlite import lr_scheduler

w = np.ones(3)
p = ol.Parameter(w, 3)  # error
p.data.shape.foo  # error
p.grad = "steep"  # error
p.grad.sum()  # error
p.shape = (3,)  # error
p.name = "w"  # error

ol.Adam([w], learning_rate=0.1)  # error
ol.Adam([w], lr="0.1")  # error
ol.Adam([w], betas=0.9)  # error
ol.AdamW([w], decoupled_weight_decay=True)  # error
ol.SGD([w], 0.1, 0.9, 0.0, 0.0, True, True)  # error
ol.Adam()  # error
ol.LBFGS([w], line_search=None)  # error
ol.SDG([w])  # error
ol.StepLR  # error

opt = ol.Adam([w])
opt.step(max_norm=1.0)  # error
opt.step([w])  # error
opt.step(grads=[w], skip_nonfinite="yes")  # error
opt.result  # error
opt.load_state_dict(3)  # error
opt.lr  # error

schedule = lr_scheduler.StepLR(opt)  # error
lr_scheduler.StepLR(opt, stepsize=3)  # error
lr_scheduler.StepLR(3, 3)  # error
lr_scheduler.StepLR(opt, 3).step(0.5)  # error
lr_scheduler.ReduceLROnPlateau(opt).step()  # error

lbfgs = ol.LBFGS([w])
lbfgs.result.convergd  # error
lbfgs.step(3)  # error

ol.clip_grad_norm_([p], "1")  # error
ol.clip_grad_norm_([p], 1.0, foreach=True)  # error
ol.set_num_threads("2")  # error
ol.Average([w], deacy=0.9)  # error
ol.SparseGrad([0], values=None)  # error
ol.save("file", fsink=True) + 1  # error
ol.minimize(3, w)  # error
ol.least_squares(3, w)  # error
ol.least_squares(lambda v: v, w, losss="huber")  # error
ol.minimize_batch(3, w)  # error
ol.minimize_batch(lambda v: v, w, workers=2)  # error
