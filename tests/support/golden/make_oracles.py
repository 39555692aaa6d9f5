# Makes the golden files of oracles.py: `python tests/support/golden/make_oracles.py [optimizer ...]`, with what these
# need of torch 2.13.0, timm 1.0.31, torch-optimi 0.3.3, torch-adopt 0.1.0, pytorch-optimizer 4.1.0, scikit-learn 1.9.1,
# optax 0.2.8, schedulefree 1.4.1, prodigyopt 1.1.2, dadaptation 3.2, dog-optimizer 1.0.3, adam-mini 1.1.1, and
# torch-shampoo 1.0.0: Meta's, which no registry has, at the commit f6066066 of github.com/facebookresearch/optimizers.
import functools
import importlib
import importlib.metadata
import importlib.util
import logging
import math
import sys
import types
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from support.oracles import AGAIN, CASES, SNAPSHOTS, WRAPPERS, Case, golden_file, trajectory
from support.trajectories import DTYPES, error, pack

VERSIONS = {"torch": "2.13.0", "timm": "1.0.31", "optimi": "0.3.3", "optax": "0.2.8", "adopt": "0.1.0",
            "pytorch_optimizer": "4.1.0", "sklearn": "1.9.1", "schedulefree": "1.4.1", "prodigyopt": "1.1.2",
            "dadaptation": "3.2", "dog": "1.0.3", "adam_mini": "1.1.1", "distributed_shampoo": "1.0.0"}
PACKAGES = {"optax": ("jax", "optax"), "torch-adopt": ("torch", "adopt"),
            "adam-mini": ("torch", "adam_mini"),
            "pytorch-optimizer": ("torch", "pytorch_optimizer"), "scikit-learn": ("sklearn",),
            "torch-shampoo": ("torch", "distributed_shampoo"),
            **{package: ("torch", package) for package in (
                "timm", "optimi", "schedulefree", "prodigyopt", "dadaptation", "dog")}}
DISTRIBUTIONS = {"optimi": "torch-optimi", "adopt": "torch-adopt", "sklearn": "scikit-learn",
                 "dog": "dog-optimizer", "adam_mini": "adam-mini",         # where it isn't called as the package is
                 "distributed_shampoo": "torch-shampoo"}


def installed(oracle: str) -> bool:
    return all(importlib.util.find_spec(package) for package in PACKAGES[oracle])


def timm_module(name: str) -> Any:
    """A module of timm.optim by itself: the package imports torchvision, which isn't needed here."""
    for package in ("timm", "timm.optim"):
        if package not in sys.modules:
            spec = importlib.util.find_spec(package)
            assert spec, f"{package} isn't installed"
            sys.modules[package] = importlib.util.module_from_spec(spec)         # and not executed
    return importlib.import_module(f"timm.optim.{name}")


def timm_lamb(options: dict[str, Any]) -> Any:
    limit = options.pop("max_trust_ratio")
    assert limit in (None, 1.0), "timm's limit is 1"
    return timm_module("lamb").Lamb, {**options, "trust_clip": limit is not None, "max_grad_norm": None}


def timm_lars(options: dict[str, Any]) -> Any:
    assert not options.pop("lr_in_momentum")
    return timm_module("lars").Lars, {"trust_coeff": options.pop("trust_coefficient"), **options}


def timm_adamw(options: dict[str, Any]) -> Any:
    return timm_module("adamw").AdamWLegacy, {"caution": options.pop("cautious"), **options}


def timm_stable_adamw(options: dict[str, Any]) -> Any:
    return timm_module("adamw").AdamWLegacy, {**options, "clipping_threshold": 1.0}


def timm_adabelief(options: dict[str, Any]) -> Any:
    return timm_module("adabelief").AdaBelief, {**options, "rectify": False}


def timm_novograd(options: dict[str, Any]) -> Any:
    make = timm_module("nvnovograd").NvNovoGrad          # which has one implementation, and no `foreach`
    return lambda params, foreach, **others: make(params, **others), options


def timm_lion(options: dict[str, Any]) -> Any:
    return timm_module("lion").Lion, {"caution": options.pop("cautious"), **options}


def timm_adopt(options: dict[str, Any]) -> Any:
    return timm_module("adopt").Adopt, {"caution": options.pop("cautious"),
                                        "decoupled": options.pop("decoupled_weight_decay"), **options}


def torch_adopt(options: dict[str, Any]) -> Any:
    assert not options.pop("cautious")
    power = options.pop("clip_exp")
    return importlib.import_module("adopt").ADOPT, {
        "clip_lambda": None if power is None else lambda step: step**power,
        "decouple": options.pop("decoupled_weight_decay"), **options}


def timm_laprop(options: dict[str, Any]) -> Any:
    return timm_module("laprop").LaProp, {"caution": options.pop("cautious"), **options}


def timm_adan(options: dict[str, Any]) -> Any:
    return timm_module("adan").Adan, options


def pytorch_optimizer_ademamix(options: dict[str, Any]) -> Any:
    warmup = options.pop("beta3_warmup")
    assert options.pop("alpha_warmup") == warmup
    return importlib.import_module("pytorch_optimizer").AdEMAMix, {
        "t_alpha_beta3": warmup, "weight_decouple": True, **options}


def patch(module: str, **replaced: Any) -> None:
    """Replaces what a module of pytorch-optimizer has imported."""
    vars(importlib.import_module(f"pytorch_optimizer.optimizer.{module}")).update(replaced)


def pytorch_optimizer_normuon(options: dict[str, Any]) -> Any:
    """Iterates in the parameters' type, where its own choice is bfloat16."""
    matrix = importlib.import_module("pytorch_optimizer.optimizer.utils.matrix")
    listed, eps, scale = options.pop("ns_coefficients"), options.pop("eps"), options.pop("adjust_lr_fn")
    assert scale in (None, "match_rms_adamw")
    betas, safety = options.pop("betas"), 1.02 if listed == "polar_express" else 1.0
    if listed == "polar_express":                # all but the last are those of the list, the last is the paper's own
        deflated = matrix.NS_COEFFICIENTS["polar_express_safer"]
        listed = (*deflated[:4], tuple(c * 1.02**k for c, k in zip(deflated[4], (1, 3, 5), strict=True)))

    def make(params: list[dict[str, Any]], foreach: bool, **others: Any) -> Any:
        patch("muon.normuon", zero_power_via_newton_schulz_5=functools.partial(
            matrix.zero_power_via_newton_schulz_5, eps=eps, safety_factor=safety, dtype=params[0]["params"][0].dtype))
        for group in params:
            group.setdefault("use_muon", True)
            group |= {} if group["use_muon"] else {"eps": eps}
        others["adamw_betas"] = betas
        return importlib.import_module("pytorch_optimizer").NorMuon(
            params, foreach=foreach, ns_coeffs=listed, use_adjusted_lr=scale is not None, **others)

    return make, options


def pytorch_optimizer_soap(options: dict[str, Any]) -> Any:
    """Its QR decomposition in the parameters' type, where its own choice is float32; all axes in one are of their size.
    """
    import torch

    merge = importlib.import_module("pytorch_optimizer.optimizer.utils.shape").merge_small_dims

    def make(params: list[dict[str, Any]], foreach: bool, **others: Any) -> Any:
        patch("soap", torch=types.SimpleNamespace(**{**vars(torch), "float32": params[0]["params"][0].dtype}),
              merge_small_dims=lambda axes, most: merge(axes, most) if math.prod(axes) > most else [math.prod(axes)])
        return importlib.import_module("pytorch_optimizer").SOAP(params, **others)

    return make, {"max_precondition_dim": options.pop("max_precond_dim"),
                  "normalize_gradient": options.pop("normalize_grads"), **options}


def torch_shampoo(options: dict[str, Any]) -> Any:
    meta = importlib.import_module("distributed_shampoo")
    momentum, nesterov = options.pop("momentum"), options.pop("nesterov")
    start, graft = options.pop("start_preconditioning_step"), options.pop("grafting")
    own = {"epsilon": options.pop("grafting_eps"), "beta2": options.pop("grafting_beta2")}
    grafting = {
        None: lambda: None, "sgd": meta.SGDPreconditionerConfig,
        "adagrad": lambda: meta.AdaGradPreconditionerConfig(epsilon=own["epsilon"]),
        "rmsprop": lambda: meta.RMSpropPreconditionerConfig(**own),
        "adam": lambda: meta.AdamPreconditionerConfig(**own)}[graft]()
    axes = 1 if options.pop("merge_dims") else math.inf

    def make(params: list[dict[str, Any]], foreach: bool, **others: Any) -> Any:
        dtype = params[0]["params"][0].dtype
        logging.disable(logging.WARNING)
        return meta.DistributedShampoo(
            params, **others, epsilon=options["eps"], start_preconditioning_step=-1 if start is None else start,
            grafting_config=grafting,
            iterate_averaging_config=importlib.import_module("distributed_shampoo.shampoo_types").ClassicMomentumConfig(
                momentum=momentum, use_nesterov=nesterov) if momentum else None,
            distributed_config=meta.SingleDeviceDistributedConfig(target_parameter_dimensionality=axes),
            preconditioner_config=meta.RootInvShampooPreconditionerConfig(
                factor_matrix_dtype=dtype, inv_factor_matrix_dtype=dtype))

    return make, {key: value for key, value in options.items() if key != "eps"}
def timm_adamp(options: dict[str, Any]) -> Any:
    make = timm_module("adamp").AdamP
    return lambda params, foreach, **others: make(params, **others), options


def adam_mini(options: dict[str, Any]) -> Any:
    """Whose blocks are chosen by names, and whose heads have one size."""
    def made(groups: list[dict[str, Any]], foreach: bool, **others: Any) -> Any:
        named, decays, sizes = [], [], []
        for group in groups:
            block, heads = ({**others, **group}[key] for key in ("block", "heads"))
            for p in group["params"]:
                elements = block == "none" or (block != "tensor" and p.ndim < 2)
                kind = "bias" if elements else {"row": "mlp", "head": "wq", "tensor": "whole"}[block]
                named.append((f"{len(named)}.{kind}", p))
                decays.append({**others, **group}["weight_decay"])
                sizes += [p.numel() // heads] if kind == "wq" else []
        made = importlib.import_module("adam_mini").Adam_mini(
            named, others["lr"], others["betas"], others["eps"], verbose=False)
        for group, decay in zip(made.param_groups, decays, strict=True):
            group["weight_decay"] = decay        # which it leaves out by names
        assert len(sizes) < 2
        made.head_numel = sum(sizes)
        return made
    return made, options


def pytorch_optimizer_lookahead(options: dict[str, Any]) -> Any:
    import torch

    around = {key: options.pop(key) for key in WRAPPERS["Lookahead"]}
    make = importlib.import_module("pytorch_optimizer").Lookahead
    return (lambda groups, foreach, **inside: make(torch.optim.AdamW(groups, foreach=foreach, **inside), **around),
            options)


def pytorch_optimizer_sam(options: dict[str, Any]) -> Any:
    import torch

    def squared_norm(groups: list[dict[str, Any]], weight_adaptive: bool) -> Any:
        """Its own is rounded to float32, whatever the gradients are."""
        sizes = [p.grad * p.abs() if group["adaptive"] else p.grad for group in groups for p in group["params"]]
        return torch.stack([torch.sum(size * size) for size in sizes]).sum().reshape(1)

    module = importlib.import_module("pytorch_optimizer.optimizer.sam")
    module.get_global_gradient_norm, make = squared_norm, module.SAM         # type: ignore[attr-defined]
    return lambda groups, foreach, **others: make(groups, torch.optim.AdamW, foreach=foreach, **others), options


def timm_mars(options: dict[str, Any]) -> Any:
    make = timm_module("mars").Mars
    return (lambda params, foreach, **others: make(params, **others),
            {"caution": options.pop("cautious"), **options})


def optimi_stableadamw(options: dict[str, Any]) -> Any:
    return importlib.import_module("optimi").StableAdamW, {**options, "triton": False}


def schedule_free(name: str) -> Any:
    return lambda options: (getattr(importlib.import_module("schedulefree"), name), options)


def without_foreach(package: str, name: str) -> Any:
    """The class of a library that has one implementation."""
    def made(options: dict[str, Any]) -> Any:
        make = getattr(importlib.import_module(package), name)
        return lambda params, foreach, **others: make(params, **others), options
    return made


# The classes that live in torch, with our options under their names.
IN_TORCH = {("LAMB", "timm"): timm_lamb, ("LARS", "timm"): timm_lars, ("StableAdamW", "timm"): timm_stable_adamw,
            ("AdamW", "timm"): timm_adamw,
            ("StableAdamW", "optimi"): optimi_stableadamw, ("AdaBelief", "timm"): timm_adabelief,
            ("Lion", "timm"): timm_lion,
            ("ADOPT", "timm"): timm_adopt, ("ADOPT", "torch-adopt"): torch_adopt,
            ("LaProp", "timm"): timm_laprop,
            ("Adan", "timm"): timm_adan,
            ("AdEMAMix", "pytorch-optimizer"): pytorch_optimizer_ademamix,
            ("AdamP", "timm"): timm_adamp, ("AdamMini", "adam-mini"): adam_mini,
            ("Lookahead", "pytorch-optimizer"): pytorch_optimizer_lookahead,
            ("SAM", "pytorch-optimizer"): pytorch_optimizer_sam,
            ("MARS", "timm"): timm_mars,
            ("NorMuon", "pytorch-optimizer"): pytorch_optimizer_normuon,
            ("SOAP", "pytorch-optimizer"): pytorch_optimizer_soap,
            ("Shampoo", "torch-shampoo"): torch_shampoo,
            ("NovoGrad", "timm"): timm_novograd,
            ("ScheduleFreeSGD", "schedulefree"): schedule_free("SGDScheduleFree"),
            ("ScheduleFreeAdamW", "schedulefree"): schedule_free("AdamWScheduleFree"),
            ("ScheduleFreeRAdam", "schedulefree"): schedule_free("RAdamScheduleFree"),
            ("Prodigy", "prodigyopt"): without_foreach("prodigyopt", "Prodigy"),
            ("DAdaptAdam", "dadaptation"): without_foreach("dadaptation", "DAdaptAdam"),
            ("DoG", "dog"): without_foreach("dog", "DoG"), ("LDoG", "dog"): without_foreach("dog", "LDoG")}


class Torch:
    """A library's optimizer, on tensors that share the arrays' memory."""

    def __init__(self, case: Case, first: list[np.ndarray], second: list[np.ndarray]) -> None:
        import torch

        make, options = IN_TORCH[case.optimizer, case.oracle](dict(case.options))
        groups = [[torch.nn.Parameter(torch.from_numpy(a)) for a in arrays] for arrays in (first, second)]
        self.params = [*groups[0], *groups[1]]
        self.optimizer = make([{"params": groups[0]}, {"params": groups[1], **case.second}], foreach=False, **options)
        getattr(self.optimizer, "train", list)()         # which Schedule-Free's want
        self.again = case.optimizer == "SAM"

    def regress(self, gradients: list[np.ndarray]) -> None:
        import torch

        for p, g in zip(self.params, gradients, strict=True):
            p.grad = torch.from_numpy(g) + AGAIN * p.detach()

    def step(self, gradients: list[np.ndarray], lr: float) -> None:
        import torch

        for group in self.optimizer.param_groups:
            group["lr"] = lr
        for p, g in zip(self.params, gradients, strict=True):
            p.grad = torch.from_numpy(g)
        before = torch.get_default_dtype()       # in which timm's NovoGrad makes its second moments
        torch.set_default_dtype(self.params[0].dtype)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")          # torch-adopt calls what torch deprecates
                if self.again:
                    self.regress(gradients)
                    self.optimizer.step(lambda: self.regress(gradients))
                else:
                    self.optimizer.step()
        finally:
            torch.set_default_dtype(before)


def optax_adam(options: dict[str, Any], lr: Any) -> Any:
    import optax

    assert not options.pop("weight_decay")
    assert not options.pop("uncorrected_eps")
    b1, b2 = options.pop("betas")
    return optax.adam(lr, b1, b2, **options)


def optax_lamb(options: dict[str, Any], lr: Any) -> Any:
    import optax

    assert options.pop("always_adapt")
    assert options.pop("max_trust_ratio") is None
    assert options.pop("grad_averaging")
    assert options.pop("bias_correction")
    b1, b2 = options.pop("betas")
    return optax.lamb(lr, b1, b2, **options)


def optax_lars(options: dict[str, Any], lr: Any) -> Any:
    import optax

    assert options.pop("always_adapt")
    assert options.pop("lr_in_momentum")
    assert not options.pop("trust_clip")
    assert not options.pop("dampening")
    return optax.lars(lr, **options)


def optax_adabelief(options: dict[str, Any], lr: Any) -> Any:
    import optax

    assert not options.pop("weight_decay")
    b1, b2 = options.pop("betas")
    return optax.adabelief(lr, b1, b2, eps_root=options["eps"], **options)


def optax_lion(options: dict[str, Any], lr: Any) -> Any:
    import optax

    assert not options.pop("cautious")
    b1, b2 = options.pop("betas")
    return optax.lion(lr, b1, b2, **options)


def optax_adopt(options: dict[str, Any], lr: Any) -> Any:
    import optax.contrib

    assert not options.pop("weight_decay")
    assert not options.pop("decoupled_weight_decay")
    assert not options.pop("cautious")
    assert options.pop("clip_exp") == 0.25
    b1, b2 = options.pop("betas")
    return optax.contrib.adopt(lr, b1, b2, **options)


def optax_ademamix(options: dict[str, Any], lr: Any) -> Any:
    """Its warm-ups are functions of the steps before this one."""
    import jax.numpy as jnp
    import optax.contrib

    (b1, b2, b3), alpha = options.pop("betas"), options.pop("alpha")

    def share(count: Any, warmup: int | None) -> Any:
        return 1.0 if warmup is None else jnp.minimum((count + 1).astype(lr.dtype) / warmup, 1.0)

    def half_life(beta: float) -> float:
        return math.log(0.5) / math.log(beta)

    beta3_warmup, alpha_warmup = options.pop("beta3_warmup"), options.pop("alpha_warmup")

    def beta3(count: Any) -> Any:
        done = share(count, beta3_warmup)
        return 0.5**(1 / ((1 - done) * half_life(b1) + done * half_life(b3)))

    return optax.contrib.ademamix(lr, b1, b2, beta3, lambda count: alpha * share(count, alpha_warmup), **options)


# Its transformations likewise.
IN_OPTAX = {"Adam": optax_adam, "LAMB": optax_lamb, "LARS": optax_lars, "AdaBelief": optax_adabelief,
            "Lion": optax_lion, "ADOPT": optax_adopt, "AdEMAMix": optax_ademamix}


@contextmanager
def in_doubles() -> Iterator[None]:
    """JAX computes in float64 within, and then as it did: its configuration is that of the process."""
    import jax

    before = jax.config.jax_enable_x64
    jax.config.update("jax_enable_x64", True)
    try:
        yield
    finally:
        jax.config.update("jax_enable_x64", before)


class Optax:
    """A transformation of optax's for each group; the results are copied to the arrays."""

    @in_doubles()
    def __init__(self, case: Case, first: list[np.ndarray], second: list[np.ndarray]) -> None:
        import jax
        import optax

        make = IN_OPTAX[case.optimizer]
        self.groups: list[Any] = []
        for arrays, overrides in ((first, {}), (second, case.second)):
            options = {**case.options, **overrides}
            options.pop("lr")
            tree = [jax.numpy.asarray(a) for a in arrays]
            # the learning rate is among the state, and assigned to before each step
            chain = optax.inject_hyperparams(lambda lr, options=options: make(dict(options), lr))(lr=case.options["lr"])
            self.groups.append([arrays, tree, chain, chain.init(tree)])

    @in_doubles()
    def step(self, gradients: list[np.ndarray], lr: float) -> None:
        import jax
        import optax

        rest = iter(gradients)
        for group in self.groups:
            arrays, tree, chain, state = group
            state.hyperparams["lr"] = jax.numpy.asarray(lr, tree[0].dtype)
            updates, group[3] = chain.update([jax.numpy.asarray(next(rest)) for _ in arrays], state, tree)
            group[1] = tree = optax.apply_updates(tree, updates)
            for array, new in zip(arrays, tree, strict=True):
                assert new.dtype == array.dtype
                array[...] = new


class ScikitLearn:
    """The Adam of scikit-learn's networks, on arrays: one for each group."""

    def __init__(self, case: Case, first: list[np.ndarray], second: list[np.ndarray]) -> None:
        from sklearn.neural_network._stochastic_optimizers import AdamOptimizer

        assert case.options["uncorrected_eps"]
        assert case.options["eps_root"] is None
        assert not case.options["weight_decay"] + case.second["weight_decay"]
        beta1, beta2 = case.options["betas"]
        self.groups = [(arrays, AdamOptimizer(arrays, case.options["lr"], beta1, beta2, case.options["eps"]))
                       for arrays in (first, second)]

    def step(self, gradients: list[np.ndarray], lr: float) -> None:
        rest = iter(gradients)
        for arrays, optimizer in self.groups:
            optimizer.learning_rate_init = lr
            optimizer.update_params(arrays, [next(rest) for _ in arrays])


LIBRARIES = {name: {"optax": Optax, "scikit-learn": ScikitLearn}.get(name, Torch) for name in PACKAGES}


def rounding(case: Case, golden: dict[int, dict[str, np.ndarray]]) -> float:
    """How far the oracle's float32 is from its float64: the gradients are the same numbers in both."""
    coarse = trajectory(case, "float32", LIBRARIES[case.oracle])
    return max(error(coarse[t][name], a) for t in SNAPSHOTS for name, a in golden[t].items())


def main(optimizers: list[str]) -> None:
    known = dict.fromkeys(case.optimizer for case in CASES.values())
    if unknown := [optimizer for optimizer in optimizers if optimizer not in known]:
        sys.exit(f"oracles.py has no rows of {', '.join(unknown)}; it has those of {', '.join(known)}")
    needed = {package for case in CASES.values() if case.optimizer in (optimizers or known)
              for package in PACKAGES[case.oracle] if package in VERSIONS}
    for package in sorted(needed):
        name = DISTRIBUTIONS.get(package, package)
        found = importlib.metadata.version(name).split("+")[0]
        assert found == VERSIONS[package], f"{name} must be {VERSIONS[package]}, got {found}"
    for optimizer in optimizers or known:
        golden = {}
        for name, case in CASES.items():
            if case.optimizer == optimizer:
                path = trajectory(case, DTYPES[1], LIBRARIES[case.oracle])
                golden[name] = np.stack([pack(path[t]) for t in SNAPSHOTS])
                print(f"{name:75} float32 rounds by {rounding(case, path):.1e}")
        np.savez_compressed(golden_file(optimizer), **golden)


if __name__ == "__main__":
    main(sys.argv[1:])
