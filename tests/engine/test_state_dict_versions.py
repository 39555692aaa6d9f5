"""State dicts of other versions and with other names: what they lack, what they have more, and what names do."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import optimlite as ol


def stepped(params: Any = None, **options: Any) -> ol.Adam:
    opt = ol.Adam({"w": np.ones(3)} if params is None else params, **options)
    opt.step(grads=[np.ones(3)] if params is None or isinstance(params, list) else {"w": np.ones(3)})
    return opt


def test_an_option_of_a_newer_version_is_refused_by_name() -> None:
    saved = stepped(lr=0.5).state_dict()
    saved["param_groups"][0]["momentum_dtype"] = "bfloat16"
    opt = stepped()
    with pytest.raises(ValueError, match=r"unexpected: `momentum_dtype` of group 0"):
        opt.load_state_dict(saved)
    assert opt.param_groups[0]["lr"] == 1e-3
    mismatch = opt.load_state_dict(saved, strict=False)
    assert mismatch.unexpected == ["`momentum_dtype` of group 0"]
    assert opt.param_groups[0]["lr"] == 0.5
    assert "momentum_dtype" not in opt.param_groups[0]


def test_a_key_of_ones_own_is_loaded_where_the_group_has_it() -> None:
    saved = ol.Adam([{"params": [np.ones(3)], "depth": 4, "name": "head", "initial_lr": 1.0}]).state_dict()
    opt = ol.Adam([{"params": [np.ones(3)], "depth": 2}])
    assert not any(opt.load_state_dict(saved))
    assert [opt.param_groups[0][key] for key in ("depth", "name", "initial_lr")] == [4, "head", 1.0]


def test_options_that_came_later_have_their_default_and_are_named() -> None:
    saved = stepped().state_dict()
    for key in ("maximize", "amsgrad"):
        del saved["param_groups"][0][key]
    opt = stepped()
    assert sorted(opt.load_state_dict(saved).defaulted) == [
        "hyper-parameter `amsgrad` of group 0", "hyper-parameter `maximize` of group 0"]
    assert (opt.param_groups[0]["amsgrad"], opt.param_groups[0]["maximize"]) == (False, False)
    with pytest.raises(ValueError, match="missing: hyper-parameter `maximize` of group 0"):
        stepped(maximize=True).load_state_dict(saved)        # whether the run had it, nobody knows


def test_names_of_a_state_dict_match_and_are_not_taken_over() -> None:
    named, unnamed = stepped(lr=0.5), stepped([np.ones(3)])
    assert "param_names" in named.state_dict()["param_groups"][0]
    assert not any(unnamed.load_state_dict(named.state_dict()))                  # by position
    assert unnamed.param_groups[0]["lr"] == 0.5
    assert "param_names" not in unnamed.param_groups[0]
    other = stepped({"w": np.ones(3)})
    saved = unnamed.state_dict()
    assert not any(other.load_state_dict(saved))
    assert other.param_groups[0]["param_names"] == ["w"]


def test_names_that_are_others_are_refused() -> None:
    saved = stepped().state_dict()
    opt = ol.Adam({"v": np.ones(3)})
    with pytest.raises(ValueError, match=r"missing: parameter 'v'\n  unexpected: parameter 'w'"):
        opt.load_state_dict(saved)
