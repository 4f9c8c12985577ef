import pytest

from fedmosaic.errors import RunError
from fedmosaic.federation.client_store import ClientStore


def test_a_client_draws_its_key_once_and_keeps_it_to_itself(tmp_path):
    one, other = (ClientStore(tmp_path / name) for name in ("one", "other"))
    key = one.secret()
    assert len(key) == 32
    assert one.secret() == ClientStore(tmp_path / "one").secret() == key
    assert other.secret() != key
    (file,) = (tmp_path / "one").iterdir()
    assert file.stat().st_mode & 0o077 == 0


def test_a_damaged_key_is_never_replaced_in_silence(tmp_path):
    store = ClientStore(tmp_path)
    store.secret()
    (tmp_path / "secret").write_bytes(b"short")
    with pytest.raises(RunError, match=r"secret \(5 bytes\) is damaged"):
        store.secret()
