"""A robot takes the table of its own machine and weights, and refuses any other, naming what differs."""

from __future__ import annotations

import dataclasses
import re

import pytest
from bundles import make_bundle, make_profile

from dynamic_perception.hardware.compute_element import platform_fingerprint
from dynamic_perception.profiling import table_choice
from dynamic_perception.profiling.table_choice import check_table, find_shipped, find_table, shipped_tables
from dynamic_perception.profiling.table_file import default_profile, read_table, write_table

HERE = platform_fingerprint()


@pytest.fixture
def bundle(tmp_path):
    return make_bundle(tmp_path / "tiny")


@pytest.fixture
def share(tmp_path, monkeypatch):
    """An installation without tables, on a machine where nothing was measured."""
    monkeypatch.setattr(table_choice, "share_folder", lambda: tmp_path / "share")
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tmp_path / "share"


def ship(share, bundle, folder="board", **changes):
    """Ship a table, measured on a machine like this one, with `changes`."""
    path = share / "config" / "profiles" / folder / f"{bundle.name}.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    write_table(path, dataclasses.replace(read_table(make_profile(path, bundle)), **changes))
    return path


def test_the_table_that_was_measured_here_comes_first(bundle, share):
    ship(share, bundle)
    own = default_profile(bundle.name)
    own.parent.mkdir(parents=True)
    make_profile(own, bundle)
    assert find_table(bundle, HERE) == own


def test_a_shipped_table_of_a_machine_like_this_one_is_taken(bundle, share):
    ship(share, bundle, "another", platform={**HERE, "cpu_count": 96})
    path = ship(share, bundle, "this_one")
    assert find_table(bundle, HERE) == path


def test_a_shipped_table_of_another_machine_is_refused_with_what_to_do(bundle, share):
    ship(share, bundle, platform={**HERE, "cpu_model": "Cortex-A76"})
    with pytest.raises(FileNotFoundError) as error:
        find_table(bundle, HERE)
    assert re.search("board/tiny was measured on another machine .cpu_model Cortex-A76 there", str(error.value))
    assert "measure it with `dynamic-perception profile tiny`" in str(error.value)


def test_a_modelled_table_is_never_taken_for_a_measured_one(bundle, share):
    path = ship(share, bundle)
    path.write_text(path.read_text().replace("  latency: measured", "  latency: modelled"))
    with pytest.raises(FileNotFoundError, match="board/tiny is modelled"):
        find_table(bundle, HERE)


def test_a_table_of_another_machine_is_refused_unless_forced(bundle, tmp_path):
    file = dataclasses.replace(
        read_table(make_profile(tmp_path / "table.yaml", bundle)), platform={**HERE, "cpu_count": 96}
    )
    with pytest.raises(ValueError, match=f"cpu_count 96 there, {HERE['cpu_count']} here"):
        check_table(tmp_path / "table.yaml", file, bundle, HERE)
    assert len(check_table(tmp_path / "table.yaml", file, bundle, HERE, force=True)) == 1


def test_a_table_of_other_weights_is_refused_with_both_hashes(bundle, tmp_path):
    file = dataclasses.replace(read_table(make_profile(tmp_path / "table.yaml", bundle)), weights_sha256="9f86d081884c")
    with pytest.raises(ValueError, match=f"9f86d081... there, {bundle.weights_sha256[:8]}... here"):
        check_table(tmp_path / "table.yaml", file, bundle, HERE)


def test_an_unknown_subnetwork_is_refused_even_if_forced(bundle, tmp_path):
    path = make_profile(tmp_path / "table.yaml", bundle)
    path.write_text(path.read_text().replace("[33%,", "[34%,"))
    with pytest.raises(ValueError, match="has subnetwork '34%', which tiny has not"):
        check_table(path, read_table(path), bundle, HERE, force=True)


def test_a_shipped_table_is_found_by_platform_and_model():
    assert find_shipped("odroid_xu3/group_cnn_cifar10") == shipped_tables()["odroid_xu3/group_cnn_cifar10"]


def test_an_unknown_name_is_refused_with_those_that_are_there():
    with pytest.raises(ValueError, match="no operating-point table at 'odroid/x': .*odroid_xu3/group_cnn_cifar10"):
        find_shipped("odroid/x")
