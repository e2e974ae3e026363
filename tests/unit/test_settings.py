"""Settings: precedence, mistakes with a clear sentence, and where each value comes from."""

from pathlib import Path

import pytest

from kb.errors import ConfigError
from kb.settings import Settings, leaves, load_settings, variable_name
from serving.setting_rows import setting_rows


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for path in leaves(Settings):
        monkeypatch.delenv(variable_name(path), raising=False)
    monkeypatch.delenv("KB_CONFIG", raising=False)


def test_defaults_need_nothing() -> None:
    settings = load_settings()
    assert (settings.server.host, settings.server.port) == ("127.0.0.1", 8000)


def test_environment_wins_over_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kb.toml").write_text("[server]\nport = 1\nmax_upload_mb = 7\n")
    monkeypatch.setenv("KB_SERVER__PORT", "2")
    settings = load_settings()
    assert (settings.server.port, settings.server.max_upload_mb) == (2, 7)


def test_mistyped_variable_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KB_SERVER__PROT", "2")
    with pytest.raises(ConfigError, match="KB_SERVER__PROT"):
        load_settings()


def test_unknown_key_in_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "kb.toml").write_text("[server]\nprot = 1\n")
    with pytest.raises(ConfigError, match=r"server\.prot: there is no such setting"):
        load_settings()


def test_wrong_value_is_named_with_what_was_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KB_SERVER__PORT", "many")
    with pytest.raises(ConfigError, match=r"server\.port: .*'many'"):
        load_settings()


def test_file_that_is_not_toml(tmp_path: Path) -> None:
    (tmp_path / "kb.toml").write_text("server port")
    with pytest.raises(ConfigError, match=r"kb\.toml can't be read"):
        load_settings()


def test_named_file_must_be_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KB_CONFIG", "elsewhere.toml")
    with pytest.raises(ConfigError, match=r"elsewhere\.toml"):
        load_settings()


def test_settings_are_frozen() -> None:
    with pytest.raises(ValueError, match="frozen"):
        load_settings().server.port = 1  # type: ignore[misc]


def test_rows_tell_origins_and_hide_secrets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "kb.toml").write_text("[server]\nport = 1\n")
    monkeypatch.setenv("KB_CATALOG__URL", "postgresql://kb:hunter2@localhost/kb")
    rows = {name: (value, origin) for name, value, origin, _ in setting_rows(load_settings())}
    assert rows["server.port"] == ("1", "kb.toml")
    assert rows["server.host"] == ("127.0.0.1", "default")
    assert rows["catalog.url"][1] == "environment"
    assert "hunter2" not in rows["catalog.url"][0]


def test_every_setting_is_described_in_the_docs() -> None:
    described = (Path(__file__).parents[2] / "docs" / "settings.md").read_text("utf-8")
    missing = [
        variable_name(path) for path in leaves(Settings) if variable_name(path) not in described
    ]
    assert missing == []
